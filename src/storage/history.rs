//! The last changes, for watches: a ring bounded by bytes and by age.
//!
//! The writer publishes a batch once; a watch reads from the log of its prefix, which all watches of
//! that prefix share, so a change costs the watches it does not concern nothing. A watch sees a
//! change only after reads do, in order, exactly once, or is told that it lags.

use super::live::Tree;
use super::{Change, Error, Key, Prefix, Result, Revision, Watch, WatchError};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Changes whose finished frames are kept; watches are seldom further behind.
const FRAMED: usize = 256;

/// What the history may keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: usize,
    pub age: Duration,
}

pub struct History {
    limits: Limits,
    /// The revision that reads see; watches deliver nothing above it.
    visible: AtomicU64,
    state: Mutex<State>,
}

struct State {
    ring: VecDeque<Kept>,
    bytes: usize,
    /// All changes after this one are in the ring.
    oldest: Revision,
    topics: HashMap<Arc<str>, Arc<Topic>>,
    closed: bool,
}

struct Kept {
    change: Arc<Change>,
    at: Instant,
    cost: usize,
}

/// The changes below one prefix that somebody watches.
#[derive(Default)]
struct Topic {
    log: Mutex<Log>,
}

struct Log {
    changes: VecDeque<Arc<Change>>,
    /// Position of the first change; positions count up and are never used twice.
    first: u64,
    /// All changes of the prefix after this one are in the log.
    since: Revision,
    watches: u64,
    next_watch: u64,
    wakers: HashMap<u64, Waker>,
    closed: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            changes: VecDeque::new(),
            // Room below for changes that a watch from an earlier revision puts in front.
            first: 1 << 62,
            since: Revision::default(),
            watches: 0,
            next_watch: 0,
            wakers: HashMap::new(),
            closed: false,
        }
    }
}

impl History {
    /// Empty, at a revision: watches from before it are refused.
    pub fn new(revision: Revision, limits: Limits) -> Self {
        Self {
            limits,
            visible: AtomicU64::new(revision.0),
            state: Mutex::new(State {
                ring: VecDeque::new(),
                bytes: 0,
                oldest: revision,
                topics: HashMap::new(),
                closed: false,
            }),
        }
    }

    pub fn revision(&self) -> Revision {
        Revision(self.visible.load(Ordering::Acquire))
    }

    /// Adds changes in revision order; `show` makes the new state visible to reads. Only the writer calls it.
    pub fn publish(&self, changes: Vec<Arc<Change>>, revision: Revision, show: impl FnOnce()) {
        let now = Instant::now();
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        let mut state = self.state.lock();
        for change in changes {
            for topic in state.topics(&change.key) {
                topic.log.lock().changes.push_back(change.clone());
                if !touched.iter().any(|known| Arc::ptr_eq(known, topic)) {
                    touched.push(topic.clone());
                }
            }
            let cost = cost(&change);
            state.bytes += cost;
            state.ring.push_back(Kept { change, at: now, cost });
            if let Some(cold) = state.ring.len().checked_sub(FRAMED + 1) {
                state.ring[cold].change.drop_frames();
            }
        }
        let gone = state.evict(self.limits, now);
        show();
        self.visible.store(revision.0, Ordering::Release);
        drop(state);
        drop(gone);
        for topic in touched {
            topic.wake();
        }
    }

    pub fn watch(self: &Arc<Self>, prefix: Prefix, from: Revision) -> Result<Box<dyn Watch>> {
        let mut state = self.state.lock();
        let current = self.revision();
        if from > current {
            return Err(Error::Future { requested: from, current });
        }
        if from < state.oldest {
            return Err(Error::Compacted { requested: from, oldest: state.oldest });
        }
        let closed = state.closed;
        let name = prefix.shared();
        let topic = state.topics.get(&name).cloned().unwrap_or_else(|| {
            let topic = Arc::new(Topic::default());
            // Complete from here on; the ring below fills in what came before.
            topic.log.lock().since = Revision(u64::MAX);
            state.topics.insert(name, topic.clone());
            topic
        });
        let (id, position) = {
            let mut log = topic.log.lock();
            if from < log.since {
                let start = state.ring.partition_point(|kept| kept.change.revision <= from);
                let since = log.since;
                let earlier: Vec<Arc<Change>> = state
                    .ring
                    .range(start..)
                    .map(|kept| &kept.change)
                    .take_while(|change| change.revision <= since)
                    .filter(|change| prefix.contains(&change.key))
                    .cloned()
                    .collect();
                log.first -= earlier.len() as u64;
                for change in earlier.into_iter().rev() {
                    log.changes.push_front(change);
                }
                log.since = from;
            }
            log.closed = closed;
            log.watches += 1;
            log.next_watch += 1;
            (log.next_watch, log.first + log.changes.partition_point(|change| change.revision <= from) as u64)
        };
        drop(state);
        Ok(Box::new(Watcher { history: self.clone(), topic, prefix, id, position, delivered: from }))
    }

    /// The state at `revision`, from that of a later one: what was written since is undone.
    pub fn rewind(&self, tree: &Tree, revision: Revision) -> Result<Tree> {
        let state = self.state.lock();
        if revision < state.oldest {
            return Err(Error::Compacted { requested: revision, oldest: state.oldest });
        }
        let since = state.ring.partition_point(|kept| kept.change.revision <= revision);
        let until = state.ring.partition_point(|kept| kept.change.revision <= tree.revision);
        let mut tree = tree.clone();
        for kept in state.ring.range(since..until).rev() {
            match &kept.change.old {
                Some(old) => tree.insert(old.clone()),
                None => drop(tree.remove(&kept.change.key)),
            }
        }
        tree.revision = revision;
        Ok(tree)
    }

    /// Every watch ends after what it has not delivered yet.
    pub fn close(&self) {
        let topics: Vec<Arc<Topic>> = {
            let mut state = self.state.lock();
            state.closed = true;
            state.topics.values().cloned().collect()
        };
        for topic in topics {
            topic.log.lock().closed = true;
            topic.wake();
        }
    }
}

impl State {
    /// The watched prefixes that a key is below.
    fn topics(&self, key: &Key) -> impl Iterator<Item = &Arc<Topic>> {
        let key = if self.topics.is_empty() { "" } else { key.as_str() };
        let parts = key.match_indices('/').map(|(at, _)| &key[..=at]);
        std::iter::once("")
            .chain(parts)
            .chain((!key.is_empty()).then_some(key))
            .filter_map(|prefix| self.topics.get(prefix))
    }

    /// Returns what was let go, to be dropped outside the lock.
    fn evict(&mut self, limits: Limits, now: Instant) -> Vec<Kept> {
        let mut gone = Vec::new();
        while let Some(kept) = self.ring.front()
            && (self.bytes > limits.bytes || now.duration_since(kept.at) > limits.age)
        {
            let kept = self.ring.pop_front().expect("there is a front");
            self.bytes -= kept.cost;
            self.oldest = kept.change.revision;
            for topic in self.topics(&kept.change.key) {
                let mut log = topic.log.lock();
                if log.changes.front().is_some_and(|front| Arc::ptr_eq(front, &kept.change)) {
                    log.changes.pop_front();
                    log.first += 1;
                    log.since = kept.change.revision;
                }
            }
            gone.push(kept);
        }
        gone
    }
}

/// Bytes that only the history keeps alive: the state before. The state after is the live index's
/// until a later change replaces it, and is counted there.
fn cost(change: &Change) -> usize {
    const ENTRY: usize = 320;
    ENTRY + change.key.as_str().len() + change.old.as_ref().map_or(0, |old| old.body.len() + ENTRY)
}

impl Topic {
    fn wake(&self) {
        let wakers = std::mem::take(&mut self.log.lock().wakers);
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

struct Watcher {
    history: Arc<History>,
    topic: Arc<Topic>,
    prefix: Prefix,
    id: u64,
    /// Of the next change in the log.
    position: u64,
    delivered: Revision,
}

impl Watch for Watcher {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<Arc<Change>, WatchError>> {
        // Before the log: what is visible now is in it.
        let visible = self.history.revision();
        let mut log = self.topic.log.lock();
        if self.position < log.first {
            return Poll::Ready(Err(WatchError::Lagged));
        }
        if let Some(change) = log.changes.get((self.position - log.first) as usize)
            && change.revision <= visible
        {
            self.position += 1;
            self.delivered = change.revision;
            return Poll::Ready(Ok(change.clone()));
        }
        if log.closed {
            return Poll::Ready(Err(WatchError::Closed));
        }
        self.delivered = self.delivered.max(visible);
        match log.wakers.get_mut(&self.id) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                log.wakers.insert(self.id, context.waker().clone());
            }
        }
        Poll::Pending
    }

    fn progress(&self) -> Revision {
        let visible = self.history.revision();
        let log = self.topic.log.lock();
        match self.position.checked_sub(log.first) {
            Some(at) if log.changes.get(at as usize).is_none_or(|change| change.revision > visible) => {
                visible.max(self.delivered)
            }
            _ => self.delivered,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.history.state.lock();
        let mut log = self.topic.log.lock();
        log.wakers.remove(&self.id);
        log.watches -= 1;
        if log.watches == 0 {
            state.topics.remove(self.prefix.as_str());
        }
    }
}
