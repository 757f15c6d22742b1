//! Waking a pod's worker, with what changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// The runtime's state of the pod changed.
pub const RUNTIME: u8 = 1;
/// An object that the pod refers to changed.
pub const OBJECTS: u8 = 2;
/// A probe came to another verdict.
pub const PROBES: u8 = 4;
/// Something else in the worker's state changed.
pub const STATE: u8 = 8;

/// Clones wake the same worker. Wakes that come together are one.
#[derive(Clone, Default)]
pub struct Wake {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    changed: AtomicU8,
    notify: Notify,
}

impl Wake {
    pub fn raise(&self, what: u8) {
        self.inner.changed.fetch_or(what, Ordering::AcqRel);
        self.inner.notify.notify_one();
    }

    /// What changed since the last call.
    pub fn take(&self) -> u8 {
        self.inner.changed.swap(0, Ordering::AcqRel)
    }

    pub async fn raised(&self) {
        self.inner.notify.notified().await;
    }
}
