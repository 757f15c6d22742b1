//! StatefulSets.

use super::nullable;
use super::workload::UpdateStrategy;
use crate::client::kinds;
use crate::runtime::{LabelSelector, Meta, whole};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StatefulSet {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: StatefulSetSpec,
    pub status: StatefulSetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetSpec {
    pub replicas: Option<i32>,
    pub selector: LabelSelector,
    pub template: Arc<Value>,
    /// Claims that each pod gets one of its own of.
    #[serde(deserialize_with = "nullable")]
    pub volume_claim_templates: Vec<Value>,
    pub service_name: Box<str>,
    /// `OrderedReady` or `Parallel`.
    pub pod_management_policy: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub update_strategy: UpdateStrategy,
    pub revision_history_limit: Option<i32>,
    pub min_ready_seconds: i32,
    #[serde(deserialize_with = "nullable")]
    pub ordinals: Ordinals,
    #[serde(deserialize_with = "nullable")]
    pub persistent_volume_claim_retention_policy: ClaimRetention,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ordinals {
    /// The lowest.
    pub start: i32,
}

/// Empty is `Retain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimRetention {
    pub when_deleted: Box<str>,
    pub when_scaled: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub current_replicas: i32,
    pub updated_replicas: i32,
    /// Names of revisions.
    pub current_revision: Box<str>,
    pub update_revision: Box<str>,
    pub collision_count: Option<i32>,
}

whole!(StatefulSet, kinds::STATEFUL_SETS, forget: |object| object.meta.forget_applied());
