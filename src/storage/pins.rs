//! Roots of the live index kept for continue tokens: a few, five minutes at most.
//!
//! A pinned root keeps alive only what has changed since; the oldest goes first.

use super::{Error, Result, Revision, Snapshot};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROOTS: usize = 16;

pub struct Pins {
    keep: Duration,
    roots: Mutex<VecDeque<Root>>,
}

struct Root {
    until: Instant,
    snapshot: Arc<dyn Snapshot>,
}

impl Pins {
    pub fn new(keep: Duration) -> Self {
        Self { keep, roots: Mutex::default() }
    }

    pub fn pin(&self, snapshot: &Arc<dyn Snapshot>) {
        let now = Instant::now();
        let mut roots = self.roots.lock();
        roots.retain(|root| root.until > now && root.snapshot.revision() != snapshot.revision());
        if roots.len() == ROOTS {
            roots.pop_front();
        }
        roots.push_back(Root { until: now + self.keep, snapshot: snapshot.clone() });
    }

    pub fn find(&self, revision: Revision, current: Revision) -> Result<Arc<dyn Snapshot>> {
        self.expire();
        let roots = self.roots.lock();
        let found = roots.iter().find(|root| root.snapshot.revision() == revision);
        found.map(|root| root.snapshot.clone()).ok_or_else(|| Error::Compacted {
            requested: revision,
            oldest: roots.iter().map(|root| root.snapshot.revision()).min().unwrap_or(current),
        })
    }

    /// Lets go of what nobody may ask for any more.
    pub fn expire(&self) {
        let now = Instant::now();
        self.roots.lock().retain(|root| root.until > now);
    }
}
