//! DaemonSets, and the revisions of their templates (StatefulSets have them too).

use super::workload::UpdateStrategy;
use super::{Pod, nullable, pod};
use crate::client::{Kind, kinds, typed};
use crate::runtime::{LabelSelector, Meta, Projection, whole};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonSet {
    pub meta: Meta,
    pub spec: DaemonSetSpec,
    pub status: DaemonSetStatus,
    /// Its template read as a pod: what says on which nodes it runs.
    pub pod: Box<Pod>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    pub selector: LabelSelector,
    pub template: Arc<Value>,
    #[serde(deserialize_with = "nullable")]
    pub update_strategy: UpdateStrategy,
    pub min_ready_seconds: i32,
    pub revision_history_limit: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    pub observed_generation: i64,
    pub desired_number_scheduled: i32,
    pub current_number_scheduled: i32,
    pub number_misscheduled: i32,
    pub number_ready: i32,
    pub updated_number_scheduled: i32,
    pub number_available: i32,
    pub number_unavailable: i32,
    pub collision_count: Option<i32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct DaemonSetObject {
    metadata: Meta,
    spec: DaemonSetSpec,
    status: DaemonSetStatus,
}

impl Projection for DaemonSet {
    type Object = DaemonSetObject;

    const KIND: Kind = kinds::DAEMON_SETS;

    fn project(object: DaemonSetObject) -> Self {
        let DaemonSetObject { metadata, spec, status } = object;
        // A stored template is a valid one; what cannot be read of it asks for nothing.
        let pod = typed::<pod::Wire>(&spec.template).unwrap_or_default();
        Self { meta: metadata, spec, status, pod: Box::new(Pod::project(pod)) }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A version of what an owner makes its pods from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ControllerRevision {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// A strategic merge patch that brings the owner back to it.
    pub data: Arc<Value>,
    /// The newest has the highest.
    pub revision: i64,
}

whole!(ControllerRevision, kinds::CONTROLLER_REVISIONS, forget: |object| object.meta.annotations.clear());
