//! Deployments, ReplicaSets and ReplicationControllers.

use super::{IntOrString, nullable};
use crate::client::{Kind, kinds};
use crate::runtime::{Condition, LabelSelector, Meta, Projection, whole};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Deployment {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: DeploymentSpec,
    pub status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    pub replicas: Option<i32>,
    pub selector: LabelSelector,
    pub template: Arc<Value>,
    pub strategy: UpdateStrategy,
    pub min_ready_seconds: i32,
    pub revision_history_limit: Option<i32>,
    pub paused: bool,
    pub progress_deadline_seconds: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateStrategy {
    /// `RollingUpdate`, `Recreate` (Deployments) or `OnDelete` (DaemonSets, StatefulSets).
    #[serde(rename = "type")]
    pub kind: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub rolling_update: RollingUpdate,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    pub max_unavailable: Option<IntOrString>,
    pub max_surge: Option<IntOrString>,
    /// StatefulSets: pods below it stay as they are.
    pub partition: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub updated_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub unavailable_replicas: i32,
    pub terminating_replicas: Option<i32>,
    pub collision_count: Option<i32>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ReplicaSet {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: ReplicaSetSpec,
    pub status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetSpec {
    pub replicas: Option<i32>,
    pub selector: LabelSelector,
    pub template: Arc<Value>,
    pub min_ready_seconds: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub fully_labeled_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub terminating_replicas: Option<i32>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

impl Deployment {
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

impl ReplicaSet {
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

/// Read as the ReplicaSet that it is, but for the form of its selector.
pub struct ReplicationController(pub Arc<ReplicaSet>);

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ReplicationControllerObject {
    metadata: Meta,
    spec: ReplicationControllerSpec,
    status: ReplicaSetStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReplicationControllerSpec {
    replicas: Option<i32>,
    selector: BTreeMap<String, String>,
    template: Arc<Value>,
    min_ready_seconds: i32,
}

whole!(Deployment, kinds::DEPLOYMENTS, forget: |object| object.meta.forget_applied());

whole!(ReplicaSet, kinds::REPLICA_SETS, forget: |object| object.meta.forget_applied());

impl Projection for ReplicationController {
    type Object = ReplicationControllerObject;

    const KIND: Kind = kinds::REPLICATION_CONTROLLERS;

    fn project(object: ReplicationControllerObject) -> Self {
        let spec = object.spec;
        Self(Arc::new(ReplicaSet::project(ReplicaSet {
            meta: object.metadata,
            spec: ReplicaSetSpec {
                replicas: spec.replicas,
                selector: LabelSelector { match_labels: spec.selector, ..LabelSelector::default() },
                template: spec.template,
                min_ready_seconds: spec.min_ready_seconds,
            },
            status: object.status,
        })))
    }

    fn meta(&self) -> &Meta {
        &self.0.meta
    }
}
