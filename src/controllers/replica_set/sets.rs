//! ReplicaSets and ReplicationControllers: what differs, and where they are found.

use crate::client::{Kind, kinds};
use crate::runtime::views::{ReplicaSet, ReplicationController};
use crate::runtime::{ObjectKey, Projection, Store};
use std::sync::Arc;

/// A kind that is looked after as a ReplicaSet is.
#[derive(Clone)]
pub struct Flavor {
    /// Its service account, and the source of its events.
    pub controller: &'static str,
    pub kind: Kind,
    /// Its status counts pods that are on their way out.
    pub counts_terminating: bool,
}

impl Flavor {
    pub const REPLICA_SET: Self =
        Self { controller: "replicaset-controller", kind: kinds::REPLICA_SETS, counts_terminating: true };
    pub const REPLICATION_CONTROLLER: Self =
        Self { controller: "replication-controller", kind: kinds::REPLICATION_CONTROLLERS, counts_terminating: false };
}

/// A projection that is, or holds, a ReplicaSet.
pub trait AsSet: Projection {
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
    fn all(&self) -> Vec<Arc<ReplicaSet>>;
    fn in_namespace(&self, namespace: &str) -> Vec<Arc<ReplicaSet>>;
    fn controlled_by(&self, uid: &str) -> Vec<Arc<ReplicaSet>>;
}

impl<P: AsSet> Sets for Store<P> {
    fn get(&self, key: &ObjectKey) -> Option<Arc<ReplicaSet>> {
        Self::get(self, key).map(|set| set.set())
    }

    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        Self::all(self).iter().map(P::set).collect()
    }

    fn in_namespace(&self, namespace: &str) -> Vec<Arc<ReplicaSet>> {
        Self::in_namespace(self, namespace).iter().map(P::set).collect()
    }

    fn controlled_by(&self, uid: &str) -> Vec<Arc<ReplicaSet>> {
        Self::controlled_by(self, uid).iter().map(P::set).collect()
    }
}
