//! What a controller did and has not yet seen in its cache.
//!
//! A controller that made or deleted objects must not count again before its cache shows them.
//! Creations are counted, deletions are remembered by UID. An expectation that is never met is
//! dropped after five minutes, so that a lost event does not stop a controller for ever.

use super::key::ObjectKey;
use super::projection::Projection;
use super::store::Change;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
pub struct Expectations {
    owners: Mutex<HashMap<ObjectKey, Expected>>,
}

struct Expected {
    creations: usize,
    deletions: HashSet<Arc<str>>,
    since: Instant,
}

impl Expected {
    fn is_met(&self) -> bool {
        self.creations == 0 && self.deletions.is_empty()
    }
}

impl Expectations {
    /// Whether the cache shows all that was done for this owner.
    pub fn satisfied(&self, owner: &ObjectKey) -> bool {
        self.satisfied_at(owner, Instant::now())
    }

    fn satisfied_at(&self, owner: &ObjectKey, now: Instant) -> bool {
        match self.owners.lock().get(owner) {
            None => true,
            Some(expected) => now.duration_since(expected.since) > TIMEOUT,
        }
    }

    /// Before the writes: an event may be there before the reply.
    pub fn expect(&self, owner: &ObjectKey, creations: usize, deletions: impl IntoIterator<Item = Arc<str>>) {
        let expected = Expected { creations, deletions: deletions.into_iter().collect(), since: Instant::now() };
        let mut owners = self.owners.lock();
        if expected.is_met() {
            owners.remove(owner)
        } else {
            owners.insert(owner.clone(), expected)
        };
    }

    /// A creation was seen, or failed.
    pub fn created(&self, owner: &ObjectKey, count: usize) {
        self.seen(owner, |expected| expected.creations = expected.creations.saturating_sub(count));
    }

    /// A deletion was seen (or its start: a deletion timestamp), or failed.
    pub fn deleted(&self, owner: &ObjectKey, uid: &str) {
        self.seen(owner, |expected| {
            expected.deletions.remove(uid);
        });
    }

    /// What is met is forgotten: not every owner is told of when it goes.
    fn seen(&self, owner: &ObjectKey, change: impl FnOnce(&mut Expected)) {
        let mut owners = self.owners.lock();
        let Some(expected) = owners.get_mut(owner) else { return };
        change(expected);
        if expected.is_met() {
            owners.remove(owner);
        }
    }

    /// What a change of something that is owned shows of it.
    pub fn observe<P: Projection>(&self, owner: &ObjectKey, change: Change<'_, P>) {
        let meta = change.object().meta();
        match change {
            Change::Added(_) => self.created(owner, 1),
            Change::Updated { .. } if !meta.is_deleting() => {}
            Change::Updated { .. } | Change::Deleted(_) => self.deleted(owner, &meta.uid),
        }
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.owners.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satisfied_when_seen_or_timed_out() {
        let expectations = Expectations::default();
        let owner = ObjectKey::new("default", "web");
        assert!(expectations.satisfied(&owner));
        expectations.expect(&owner, 2, [Arc::from("uid-1")]);
        expectations.created(&owner, 1);
        expectations.deleted(&owner, "uid-1");
        assert!(!expectations.satisfied(&owner));
        expectations.created(&owner, 1);
        assert!(expectations.satisfied(&owner));
        assert!(expectations.owners.lock().is_empty(), "nothing is kept of what is met");
        expectations.expect(&owner, 0, [Arc::from("uid-2")]);
        assert!(!expectations.satisfied(&owner));
        assert!(expectations.satisfied_at(&owner, Instant::now() + TIMEOUT + Duration::from_secs(1)));
    }
}
