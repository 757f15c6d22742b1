//! Fair queuing of one priority level: requests wait in queues, and the queue that has had the
//! least goes next. Pure: the caller tells the time.
//!
//! A queue's virtual finish is what it was served, in seconds of seats, on a clock that runs as a
//! queue is served that is always busy. A guess of a request's duration is charged when it starts
//! and put right when it ends.

use super::shuffle;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is charged for a request until it has ended.
const GUESSED: f64 = 0.003;

/// `limitResponse.queuing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    pub queues: usize,
    pub hand: usize,
    pub length: usize,
}

/// A request that waits. `T` wakes it.
pub struct Waiter<T> {
    pub id: u64,
    pub flow: u64,
    pub seats: u32,
    pub wake: T,
}

struct Queue<T> {
    waiting: VecDeque<Waiter<T>>,
    next_dispatch: f64,
    seats_in_use: u32,
    executing: u32,
}

/// What there is to say of one queue.
pub struct Told {
    pub waiting: usize,
    pub waiting_seats: u32,
    /// Seconds of seats that are guessed for those who wait.
    pub waiting_work: f64,
    pub executing: u32,
    pub seats_in_use: u32,
    /// Seconds of seats.
    pub next_dispatch: f64,
}

pub struct Queues<T> {
    queuing: Queuing,
    queues: Vec<Queue<T>>,
    /// After the one that was served last, so that equals take turns.
    next: usize,
    virtual_time: f64,
    at: Instant,
    waiting_seats: u32,
    waiting: usize,
    /// Told apart from requests of queues before a change of their number.
    generation: u64,
}

/// Where a request that runs was waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    queue: usize,
    generation: u64,
}

impl<T> Queues<T> {
    pub fn new(queuing: Queuing, now: Instant) -> Self {
        Self {
            queuing,
            queues: Self::empty(queuing.queues),
            next: 0,
            virtual_time: 0.0,
            at: now,
            waiting_seats: 0,
            waiting: 0,
            generation: 0,
        }
    }

    fn empty(count: usize) -> Vec<Queue<T>> {
        (0..count.max(1))
            .map(|_| Queue { waiting: VecDeque::new(), next_dispatch: 0.0, seats_in_use: 0, executing: 0 })
            .collect()
    }

    pub fn told(&self) -> Vec<Told> {
        let tell = |queue: &Queue<T>| {
            let waiting_seats = queue.waiting.iter().map(|waiter| waiter.seats).sum();
            Told {
                waiting: queue.waiting.len(),
                waiting_seats,
                waiting_work: f64::from(waiting_seats) * GUESSED,
                executing: queue.executing,
                seats_in_use: queue.seats_in_use,
                next_dispatch: queue.next_dispatch,
            }
        };
        self.queues.iter().map(tell).collect()
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn waiting_seats(&self) -> u32 {
        self.waiting_seats
    }

    /// Other queues from now on; who waits is dealt anew, the oldest first.
    pub fn reconfigure(&mut self, queuing: Queuing) {
        if queuing == self.queuing {
            return;
        }
        let mut waiting: Vec<Waiter<T>> = self.queues.drain(..).flat_map(|queue| queue.waiting).collect();
        waiting.sort_by_key(|waiter| waiter.id);
        self.queuing = queuing;
        self.queues = Self::empty(queuing.queues);
        self.next = 0;
        self.generation += 1;
        (self.waiting, self.waiting_seats) = (0, 0);
        for waiter in waiting {
            let queue = self.shortest(waiter.flow);
            self.push(queue, waiter);
        }
    }

    /// The clock goes on as fast as a busy queue is served.
    fn advance(&mut self, now: Instant, in_use: u32, limit: u32) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let active = self.queues.iter().filter(|queue| !queue.waiting.is_empty() || queue.seats_in_use > 0).count();
        if active > 0 {
            let served = in_use.saturating_add(self.waiting_seats).min(limit);
            self.virtual_time += elapsed * f64::from(served) / active as f64;
        }
    }

    fn shortest(&self, flow: u64) -> usize {
        let load = |queue: &Queue<T>| {
            queue.waiting.iter().map(|waiter| u64::from(waiter.seats)).sum::<u64>() + u64::from(queue.seats_in_use)
        };
        let hand = shuffle::deal(flow, self.queues.len(), self.queuing.hand.max(1));
        hand.into_iter().min_by_key(|queue| load(&self.queues[*queue])).unwrap_or_default()
    }

    fn push(&mut self, at: usize, waiter: Waiter<T>) {
        self.waiting += 1;
        self.waiting_seats += waiter.seats;
        let queue = &mut self.queues[at];
        if queue.waiting.is_empty() && queue.seats_in_use == 0 {
            // Nothing is owed to who was away.
            queue.next_dispatch = self.virtual_time;
        }
        queue.waiting.push_back(waiter);
    }

    /// The length of its queue with it; `Err`: the queue is full.
    pub fn enqueue(&mut self, waiter: Waiter<T>, now: Instant, in_use: u32, limit: u32) -> Result<usize, Waiter<T>> {
        self.advance(now, in_use, limit);
        let queue = self.shortest(waiter.flow);
        if self.queues[queue].waiting.len() >= self.queuing.length {
            return Err(waiter);
        }
        self.push(queue, waiter);
        Ok(self.queues[queue].waiting.len())
    }

    /// The seats of the request that is next.
    fn candidate(&self) -> Option<(usize, u32)> {
        let count = self.queues.len();
        let order = (0..count).map(|offset| (self.next + offset) % count);
        let heads = order.filter_map(|at| Some((at, self.queues[at].waiting.front()?.seats)));
        let finish = |(at, seats): &(usize, u32)| self.queues[*at].next_dispatch + GUESSED * f64::from(*seats);
        heads.min_by(|a, b| finish(a).total_cmp(&finish(b)))
    }

    /// The next request, where there is room for it.
    pub fn dispatch(
        &mut self,
        now: Instant,
        in_use: u32,
        limit: u32,
        fits: impl FnOnce(u32) -> bool,
    ) -> Option<(Waiter<T>, Origin)> {
        let (at, seats) = self.candidate()?;
        if !fits(seats) {
            return None;
        }
        self.advance(now, in_use, limit);
        let queue = &mut self.queues[at];
        let waiter = queue.waiting.pop_front()?;
        queue.next_dispatch += GUESSED * f64::from(seats);
        queue.seats_in_use += seats;
        queue.executing += 1;
        self.next = (at + 1) % self.queues.len();
        self.waiting -= 1;
        self.waiting_seats -= seats;
        Some((waiter, Origin { queue: at, generation: self.generation }))
    }

    /// A dispatched request has ended.
    pub fn finish(&mut self, origin: Origin, seats: u32, ran: Duration) {
        if origin.generation != self.generation {
            return;
        }
        let queue = &mut self.queues[origin.queue];
        queue.seats_in_use = queue.seats_in_use.saturating_sub(seats);
        queue.executing = queue.executing.saturating_sub(1);
        queue.next_dispatch += (ran.as_secs_f64() - GUESSED) * f64::from(seats);
    }

    /// Gives up waiting. False: it does not wait any more.
    pub fn remove(&mut self, id: u64) -> bool {
        for queue in &mut self.queues {
            if let Some(at) = queue.waiting.iter().position(|waiter| waiter.id == id) {
                if let Some(waiter) = queue.waiting.remove(at) {
                    self.waiting -= 1;
                    self.waiting_seats -= waiter.seats;
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUING: Queuing = Queuing { queues: 64, hand: 6, length: 50 };

    fn waiter(id: u64, flow: &str) -> Waiter<&str> {
        Waiter { id, flow: shuffle::flow_hash("schema", flow), seats: 1, wake: flow }
    }

    #[test]
    fn a_mouse_does_not_wait_for_the_elephant() {
        let start = Instant::now();
        let mut queues = Queues::new(QUEUING, start);
        for id in 0..200 {
            queues.enqueue(waiter(id, "elephant"), start, 10, 10).ok().expect("room in six queues of fifty");
        }
        queues.enqueue(waiter(1000, "mouse"), start, 10, 10).ok().expect("room");
        let mut served = Vec::new();
        for step in 1..=20 {
            let now = start + Duration::from_millis(step * 10);
            let (waiter, origin) = queues.dispatch(now, 9, 10, |_| true).expect("someone waits");
            served.push(waiter.wake);
            queues.finish(origin, 1, Duration::from_millis(10));
        }
        let place = served.iter().position(|flow| *flow == "mouse");
        assert!(place.is_some_and(|place| place <= 7), "{served:?}");
        assert_eq!(queues.waiting(), 181);
    }

    #[test]
    fn flows_in_different_queues_take_turns_whatever_their_durations() {
        let start = Instant::now();
        let mut queues = Queues::new(Queuing { queues: 64, hand: 1, length: 1000 }, start);
        for id in 0..200 {
            queues.enqueue(waiter(2 * id, "slow"), start, 1, 1).ok().expect("room");
            queues.enqueue(waiter(2 * id + 1, "fast"), start, 1, 1).ok().expect("room");
        }
        let (mut now, mut slow, mut fast) = (start, Duration::ZERO, Duration::ZERO);
        for _ in 0..110 {
            let (waiter, origin) = queues.dispatch(now, 0, 1, |_| true).expect("someone waits");
            let (ran, sum) = match waiter.wake {
                "slow" => (Duration::from_millis(100), &mut slow),
                _ => (Duration::from_millis(10), &mut fast),
            };
            now += ran;
            *sum += ran;
            queues.finish(origin, 1, ran);
        }
        let share = slow.as_secs_f64() / (slow + fast).as_secs_f64();
        assert!((0.4..0.6).contains(&share), "each has half of the time, not half of the requests: {share}");
    }

    #[test]
    fn a_full_queue_refuses_and_the_impatient_leave() {
        let start = Instant::now();
        let mut queues = Queues::new(Queuing { queues: 1, hand: 1, length: 2 }, start);
        for id in 0..2 {
            assert!(queues.enqueue(waiter(id, "a"), start, 1, 1).is_ok());
        }
        assert!(queues.enqueue(waiter(2, "a"), start, 1, 1).is_err());
        assert!(queues.remove(0));
        assert!(!queues.remove(0));
        assert!(queues.enqueue(waiter(3, "b"), start, 1, 1).is_ok());
        assert!(queues.dispatch(start, 1, 1, |_| false).is_none());
        queues.reconfigure(Queuing { queues: 8, hand: 2, length: 2 });
        assert_eq!((queues.waiting(), queues.waiting_seats()), (2, 2));
        let mut left = Vec::new();
        while let Some((waiter, _)) = queues.dispatch(start, 0, 1, |_| true) {
            left.push(waiter.id);
        }
        left.sort_unstable();
        assert_eq!(left, [1, 3]);
    }
}
