//! One priority level: its seats, and those who wait for one.
//!
//! While seats are free and nobody waits, a request takes and returns its seats with one atomic
//! operation each. The lock is for the rest. Who ends and who begins to wait cannot miss each other:
//! the one gives seats back and then looks for waiters, the other is in the queue and then looks for
//! seats.

use super::queues::{Origin, Queues, Queuing, Told, Waiter};
use super::retry_after::RetryAfter;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Why a request was not let in: the `reason` of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// Those who got no seat: at once, after waiting, or because they went away.
pub struct Refused {
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}

pub struct Level {
    pub name: String,
    exempt: AtomicBool,
    in_use: AtomicU32,
    limit: AtomicU32,
    waiting: AtomicUsize,
    rejected: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    /// None: who finds no seat is refused.
    queues: Mutex<Option<Queues<oneshot::Sender<Origin>>>>,
    ids: AtomicU64,
    /// Told when seats are wanting here: others may have some to lend.
    wanting: Arc<Notify>,
    pub retry_after: RetryAfter,
}

/// Seats of a level, for as long as it lives.
pub struct Seats {
    level: Arc<Level>,
    count: u32,
    origin: Option<Origin>,
    since: Instant,
}

impl Seats {
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.level.release(self.count, self.origin, self.since);
    }
}

/// A request that is larger than the limit, be it 0, has it alone.
fn fits(in_use: u32, seats: u32, limit: u32) -> bool {
    if seats > limit { in_use == 0 } else { in_use + seats <= limit }
}

impl Level {
    pub fn new(name: &str, wanting: Arc<Notify>) -> Self {
        Self {
            name: name.to_owned(),
            exempt: AtomicBool::new(false),
            in_use: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            waiting: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            queues: Mutex::new(None),
            ids: AtomicU64::new(0),
            wanting,
            retry_after: RetryAfter::default(),
        }
    }

    pub fn configure(&self, exempt: bool, queuing: Option<Queuing>) {
        self.exempt.store(exempt, Ordering::SeqCst);
        let mut queues = self.queues.lock();
        match (queues.as_mut(), queuing) {
            (Some(queues), Some(queuing)) => queues.reconfigure(queuing),
            (None, Some(queuing)) => *queues = Some(Queues::new(queuing, Instant::now())),
            (_, None) => *queues = None,
        }
        self.waiting.store(queues.as_ref().map_or(0, Queues::waiting), Ordering::SeqCst);
    }

    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0
            && let Some(queues) = self.queues.lock().as_mut()
        {
            self.dispatch(queues);
        }
    }

    /// Its queues at the moment.
    pub fn queues(&self) -> Vec<Told> {
        self.queues.lock().as_ref().map(Queues::told).unwrap_or_default()
    }

    /// How many got no seat since the start.
    pub fn refused(&self) -> Refused {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Refused {
            rejected: count(&self.rejected),
            timed_out: count(&self.timed_out),
            cancelled: count(&self.cancelled),
        }
    }

    pub fn is_exempt(&self) -> bool {
        self.exempt.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::SeqCst)
    }

    /// Seats in use and wanted.
    pub fn demand(&self) -> u32 {
        let waiting = self.queues.lock().as_ref().map_or(0, Queues::waiting_seats);
        self.in_use().saturating_add(waiting)
    }

    fn take(&self, seats: u32) -> bool {
        let limit = self.limit();
        let taken = |in_use: u32| fits(in_use, seats, limit).then(|| in_use + seats);
        self.in_use.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok()
    }

    fn seats(self: &Arc<Self>, count: u32, origin: Option<Origin>) -> Seats {
        Seats { level: self.clone(), count, origin, since: Instant::now() }
    }

    /// Seats that are free now, without anybody waiting for them.
    pub fn try_enter(self: &Arc<Self>, seats: u32) -> Option<Seats> {
        if self.is_exempt() {
            self.in_use.fetch_add(seats, Ordering::SeqCst);
            return Some(self.seats(seats, None));
        }
        (self.waiting.load(Ordering::SeqCst) == 0 && self.take(seats)).then(|| self.seats(seats, None))
    }

    /// Seats, after waiting for them at most so long. `queued` is told how long the queue is.
    pub async fn enter(
        self: &Arc<Self>,
        flow: u64,
        seats: u32,
        patience: Duration,
        queued: impl FnOnce(usize),
    ) -> Result<Seats, Refusal> {
        self.wanting.notify_one();
        let mut pending = {
            let mut queues = self.queues.lock();
            let Some(queues) = queues.as_mut() else {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::ConcurrencyLimit);
            };
            let (wake, receiver) = oneshot::channel();
            let id = self.ids.fetch_add(1, Ordering::Relaxed);
            let waiter = Waiter { id, flow, seats, wake };
            let Ok(length) = queues.enqueue(waiter, Instant::now(), self.in_use(), self.limit()) else {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::QueueFull);
            };
            queued(length);
            self.waiting.store(queues.waiting(), Ordering::SeqCst);
            self.dispatch(queues);
            Pending { level: self.clone(), id, seats, receiver, taken: false, late: false }
        };
        match tokio::time::timeout(patience, &mut pending.receiver).await {
            Ok(Ok(origin)) => {
                pending.taken = true;
                Ok(self.seats(seats, Some(origin)))
            }
            // The level has no queues any more.
            Ok(Err(_)) => Err(Refusal::ConcurrencyLimit),
            Err(_) => {
                pending.late = true;
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                Err(Refusal::TimeOut)
            }
        }
    }

    fn dispatch(&self, queues: &mut Queues<oneshot::Sender<Origin>>) {
        let now = Instant::now();
        while let Some((waiter, origin)) = queues.dispatch(now, self.in_use(), self.limit(), |seats| self.take(seats)) {
            // Who gives up takes itself out of the queue first, under the same lock: it is there.
            let _ = waiter.wake.send(origin);
        }
        self.waiting.store(queues.waiting(), Ordering::SeqCst);
    }

    fn release(&self, seats: u32, origin: Option<Origin>, since: Instant) {
        self.in_use.fetch_sub(seats, Ordering::SeqCst);
        if origin.is_none() && self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(queues) = self.queues.lock().as_mut() {
            if let Some(origin) = origin {
                queues.finish(origin, seats, since.elapsed());
            }
            self.dispatch(queues);
        }
    }
}

/// A request that waits; gives up when dropped.
struct Pending {
    level: Arc<Level>,
    id: u64,
    seats: u32,
    receiver: oneshot::Receiver<Origin>,
    taken: bool,
    late: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        if !self.late {
            self.level.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        let granted = {
            let mut queues = self.level.queues.lock();
            let removed = queues.as_mut().is_some_and(|queues| queues.remove(self.id));
            self.level.waiting.store(queues.as_ref().map_or(0, Queues::waiting), Ordering::SeqCst);
            if removed { None } else { self.receiver.try_recv().ok() }
        };
        // Its turn came while it was leaving.
        if let Some(origin) = granted {
            self.level.release(self.seats, Some(origin), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn level(limit: u32, queuing: Option<Queuing>) -> Arc<Level> {
        let level = Arc::new(Level::new("test", Arc::default()));
        level.configure(false, queuing);
        level.set_limit(limit);
        level
    }

    const QUEUING: Queuing = Queuing { queues: 4, hand: 2, length: 2 };

    #[tokio::test(start_paused = true)]
    async fn seats_are_taken_waited_for_and_given_back() {
        let level = level(2, Some(QUEUING));
        let first = level.try_enter(1).expect("free");
        let _second = level.try_enter(1).expect("free");
        assert!(level.try_enter(1).is_none());
        let waits = tokio::spawn({
            let level = level.clone();
            async move { level.enter(7, 1, PATIENCE, |_| {}).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!((level.in_use(), level.demand()), (2, 3));
        drop(first);
        assert_eq!(waits.await.expect("no panic"), Ok(()));
        assert_eq!(level.in_use(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_leaves_nothing_behind() {
        let level = level(1, Some(QUEUING));
        let seat = level.try_enter(1).expect("free");
        assert_eq!(level.enter(7, 1, PATIENCE, |_| {}).await.map(drop), Err(Refusal::TimeOut));
        drop(seat);
        assert!(level.try_enter(1).is_some(), "nobody waits any more");
        assert_eq!(level.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cancelled_frees_its_place() {
        let level = level(1, Some(QUEUING));
        let seat = level.try_enter(1).expect("free");
        let waits = tokio::spawn({
            let level = level.clone();
            async move { level.enter(7, 1, PATIENCE, |_| {}).await.map(drop) }
        });
        tokio::task::yield_now().await;
        waits.abort();
        assert!(waits.await.is_err());
        assert_eq!(level.demand(), 1);
        drop(seat);
        assert_eq!(level.demand(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_queues_or_with_full_ones_requests_are_refused() {
        let reject = level(1, None);
        let _seat = reject.try_enter(1).expect("free");
        assert_eq!(reject.enter(7, 1, PATIENCE, |_| {}).await.map(drop), Err(Refusal::ConcurrencyLimit));
        let full = level(1, Some(Queuing { queues: 1, hand: 1, length: 1 }));
        let _seat = full.try_enter(1).expect("free");
        let mut first = Box::pin(full.enter(7, 1, PATIENCE, |_| {}));
        assert!(futures::poll!(first.as_mut()).is_pending());
        assert_eq!(full.enter(7, 1, PATIENCE, |_| {}).await.map(drop), Err(Refusal::QueueFull));
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_without_seats_lets_in_one_after_the_other_until_it_gets_some() {
        let level = level(0, Some(QUEUING));
        let _first = level.try_enter(1).expect("nobody else is there");
        assert!(level.try_enter(1).is_none());
        let mut waits = Box::pin(level.enter(7, 1, PATIENCE, |_| {}));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        let queue = &level.queues()[..];
        assert_eq!(queue.iter().map(|queue| (queue.waiting, queue.executing)).max(), Some((1, 0)));
        level.set_limit(2);
        assert!(futures::poll!(waits.as_mut()).is_ready());
        assert_eq!(level.queues().iter().map(|queue| queue.waiting).sum::<usize>(), 0);
        let mut leaves = Box::pin(level.enter(7, 9, PATIENCE, |_| {}));
        assert!(futures::poll!(leaves.as_mut()).is_pending());
        drop(leaves);
        let refused = level.refused();
        assert_eq!((refused.rejected, refused.timed_out, refused.cancelled), (0, 0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_request_runs_alone() {
        let level = level(4, Some(QUEUING));
        let large = level.try_enter(10).expect("nobody else is there");
        assert!(level.try_enter(1).is_none());
        drop(large);
        assert!(level.try_enter(1).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten_under_load() {
        let level = level(3, Some(Queuing { queues: 8, hand: 2, length: 1000 }));
        let mut tasks = tokio::task::JoinSet::new();
        for flow in 0..400_u64 {
            let level = level.clone();
            tasks.spawn(async move {
                let seats = match level.try_enter(1) {
                    Some(seats) => seats,
                    None => level.enter(flow % 5, 1, Duration::from_secs(60), |_| {}).await.expect("a seat"),
                };
                assert!(level.in_use() <= 3);
                tokio::task::yield_now().await;
                drop(seats);
            });
        }
        let all = async {
            while let Some(task) = tasks.join_next().await {
                task.expect("no panic")
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("everybody had a turn");
        assert_eq!(level.demand(), 0);
    }
}
