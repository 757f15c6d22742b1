//! A queue of keys to reconcile.
//!
//! A key is in it once however often it is added; while it is being worked on, an add waits until
//! it is done, so no two workers hold the same key. Adds can be delayed, and a key that fails backs
//! off exponentially on its own. Waiting costs nothing.

use super::metrics::Series;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First and longest delay of a failing key, as client-go has them.
const BASE_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);

pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    /// A key became ready, or an earlier deadline was set.
    ready: Notify,
    idle: Notify,
    /// Set when somebody works it off.
    series: OnceLock<Series>,
}

struct State<K> {
    order: VecDeque<K>,
    /// In `order`, or to go there when it is done.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    deadlines: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                order: VecDeque::new(),
                dirty: HashSet::new(),
                processing: HashSet::new(),
                delayed: BTreeSet::new(),
                deadlines: HashMap::new(),
                failures: HashMap::new(),
            }),
            ready: Notify::new(),
            idle: Notify::new(),
            series: OnceLock::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.order.push_back(key);
        true
    }

    /// False: it was to be added sooner anyway.
    fn add_at(&mut self, key: K, at: Instant) -> bool {
        match self.deadlines.get(&key) {
            Some(&before) if before <= at => return false,
            Some(&before) => {
                self.delayed.remove(&(before, key.clone()));
            }
            None => {}
        }
        self.deadlines.insert(key.clone(), at);
        self.delayed.insert((at, key));
        true
    }

    /// Count a failure; the delay of the next try.
    fn failed(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = BASE_DELAY.saturating_mul(1 << (*failures).min(20)).min(MAX_DELAY);
        *failures += 1;
        delay
    }

    /// Move due keys to the queue; the next deadline.
    fn release(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, _)) = self.delayed.first() {
            if *at > now {
                return Some(*at);
            }
            if let Some((_, key)) = self.delayed.pop_first() {
                self.deadlines.remove(&key);
                self.add(key);
            }
        }
        None
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// From now on it is measured under this name.
    pub(super) fn measure(&self, name: &'static str) {
        self.series.get_or_init(|| Series::of(name));
    }

    /// How long a key was worked on.
    pub(super) fn worked(&self, time: Duration) {
        if let Some(series) = self.series.get() {
            series.work.observe(time.as_secs_f64());
        }
    }

    fn note_depth(&self, state: &State<K>) {
        if let Some(series) = self.series.get() {
            series.depth.set(state.order.len() as i64);
        }
    }

    pub fn add(&self, key: K) {
        let mut state = self.state.lock();
        let added = state.add(key);
        if added {
            self.note_depth(&state);
        }
        drop(state);
        if let Some(series) = self.series.get() {
            series.adds.inc();
        }
        if added {
            self.ready.notify_one();
        }
    }

    /// Add it at a later time; the earlier of two deadlines counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        if self.state.lock().add_at(key, Instant::now() + delay) {
            self.ready.notify_one();
        }
    }

    /// Add it after its own growing delay; [`WorkQueue::forget`] resets that.
    pub fn add_rate_limited(&self, key: K) {
        if let Some(series) = self.series.get() {
            series.retries.inc();
        }
        let delay = self.state.lock().failed(&key);
        self.add_after(key, delay);
    }

    /// It succeeded: the next failure starts from the shortest delay.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often it failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// The next key; the caller says [`WorkQueue::done`] when it has dealt with it. Cancel-safe.
    pub async fn next(&self) -> K {
        loop {
            let notified = self.ready.notified();
            let deadline = {
                let mut state = self.state.lock();
                let deadline = state.release(Instant::now());
                if let Some(key) = state.order.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    self.note_depth(&state);
                    if !state.order.is_empty() {
                        self.ready.notify_one();
                    }
                    return key;
                }
                deadline
            };
            match deadline {
                Some(deadline) => {
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.order.push_back(key.clone());
            drop(state);
            self.ready.notify_one();
        } else if state.order.is_empty() && state.processing.is_empty() {
            drop(state);
            self.idle.notify_waiters();
        }
    }

    /// Keys ready or in work; delayed ones do not count.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.order.len() + state.processing.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wait until nothing is ready or in work.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_in_the_queue_once() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn an_add_while_in_work_comes_back_when_done() {
        let queue = WorkQueue::default();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.state.lock().order.is_empty(), "no two workers hold one key");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts() {
        let queue = WorkQueue::default();
        let mut state = queue.state.lock();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(state.add_at("late", at(60)));
        assert!(state.add_at("early", at(10)));
        assert!(state.add_at("late", at(20)));
        assert!(!state.add_at("early", at(30)));
        assert_eq!(state.release(at(9)), Some(at(10)));
        assert!(state.order.is_empty());
        assert_eq!(state.release(at(10)), Some(at(20)));
        assert_eq!(state.order, ["early"]);
        assert_eq!(state.release(at(1000)), None, "the later deadlines are gone");
        assert_eq!(state.order, ["early", "late"]);
    }

    #[tokio::test]
    async fn a_delayed_key_comes_by_itself() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_millis(15));
        assert_eq!(queue.next().await, "a");
        assert!(start.elapsed() >= Duration::from_millis(15));
    }

    #[test]
    fn failures_back_off_each_on_its_own() {
        let queue = WorkQueue::default();
        for expected in [5_u64, 10, 20, 40] {
            assert_eq!(queue.state.lock().failed(&"a"), Duration::from_millis(expected));
        }
        assert_eq!(queue.state.lock().failed(&"b"), Duration::from_millis(5));
        assert_eq!(queue.failures(&"a"), 4);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
        for _ in 0..60 {
            assert!(queue.state.lock().failed(&"a") <= MAX_DELAY);
        }
    }

    #[tokio::test]
    async fn idle_waits_for_work_under_way() {
        let queue = std::sync::Arc::new(WorkQueue::default());
        queue.add(1);
        let key = queue.next().await;
        let waiter = tokio::spawn({
            let queue = queue.clone();
            async move { queue.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        queue.done(&key);
        waiter.await.expect("idle");
    }
}
