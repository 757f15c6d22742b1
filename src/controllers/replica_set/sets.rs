//! ReplicaSets and ReplicationControllers: what differs, and where they are found.

use crate::runtime::views::{ReplicaSet, ReplicationController, Selecting};
use crate::runtime::{ObjectKey, Store};
use std::sync::Arc;

/// A kind that is looked after as a ReplicaSet is.
#[derive(Clone)]
pub struct Flavor {
    /// Its service account, and the source of its events.
    pub controller: &'static str,
    /// Its status counts pods that are on their way out.
    pub counts_terminating: bool,
}

impl Flavor {
    pub const REPLICA_SET: Self = Self { controller: "replicaset-controller", counts_terminating: true };
    pub const REPLICATION_CONTROLLER: Self = Self { controller: "replication-controller", counts_terminating: false };
}

/// A projection that is, or holds, a ReplicaSet.
pub trait AsSet: Selecting {
    fn set(self: &Arc<Self>) -> Arc<ReplicaSet>;
}

impl AsSet for ReplicaSet {
    fn set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        self.clone()
    }
}

impl AsSet for ReplicationController {
    fn set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        self.0.clone()
    }
}

/// The store of either kind.
pub trait Sets: Send + Sync {
    fn get(&self, key: &ObjectKey) -> Option<Arc<ReplicaSet>>;
    fn controlled_by(&self, uid: &str) -> Vec<Arc<ReplicaSet>>;
}

impl<P: AsSet> Sets for Store<P> {
    fn get(&self, key: &ObjectKey) -> Option<Arc<ReplicaSet>> {
        Self::get(self, key).map(|set| set.set())
    }

    fn controlled_by(&self, uid: &str) -> Vec<Arc<ReplicaSet>> {
        Self::controlled_by(self, uid).iter().map(P::set).collect()
    }
}
