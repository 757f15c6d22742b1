//! Jobs.

use super::nullable;
use crate::client::kinds;
use crate::runtime::{LabelSelector, Meta, whole};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Job {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: JobSpec,
    pub status: JobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    pub parallelism: Option<i32>,
    /// None: the first pod that succeeds ends it.
    pub completions: Option<i32>,
    /// `NonIndexed` or `Indexed`.
    pub completion_mode: Box<str>,
    pub backoff_limit: Option<i32>,
    pub backoff_limit_per_index: Option<i32>,
    pub max_failed_indexes: Option<i32>,
    pub active_deadline_seconds: Option<i64>,
    pub ttl_seconds_after_finished: Option<i64>,
    pub suspend: Option<bool>,
    pub selector: LabelSelector,
    pub template: Arc<Value>,
    pub pod_failure_policy: Option<FailurePolicy>,
    pub success_policy: Option<SuccessPolicy>,
    /// `TerminatingOrFailed` or `Failed`.
    pub pod_replacement_policy: Box<str>,
    pub managed_by: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct FailurePolicy {
    #[serde(deserialize_with = "nullable")]
    pub rules: Vec<FailureRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailureRule {
    /// `FailJob`, `FailIndex`, `Ignore` or `Count`.
    pub action: Box<str>,
    pub on_exit_codes: Option<ExitCodes>,
    #[serde(deserialize_with = "nullable")]
    pub on_pod_conditions: Vec<ConditionPattern>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExitCodes {
    /// None: of any container.
    pub container_name: Option<Box<str>>,
    /// `In` or `NotIn`.
    pub operator: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub values: Vec<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConditionPattern {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub status: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SuccessPolicy {
    #[serde(deserialize_with = "nullable")]
    pub rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SuccessRule {
    /// As `0-2,5`.
    pub succeeded_indexes: Option<Box<str>>,
    pub succeeded_count: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// Whole: others write conditions of their own.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Value>,
    pub start_time: Option<Timestamp>,
    pub completion_time: Option<Timestamp>,
    pub active: i32,
    pub succeeded: i32,
    pub failed: i32,
    pub terminating: Option<i32>,
    pub completed_indexes: Box<str>,
    pub failed_indexes: Option<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    pub uncounted_terminated_pods: Uncounted,
    pub ready: Option<i32>,
}

/// UIDs of pods that ended, and whose finalizers are not yet gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Uncounted {
    #[serde(deserialize_with = "nullable")]
    pub succeeded: Vec<Arc<str>>,
    #[serde(deserialize_with = "nullable")]
    pub failed: Vec<Arc<str>>,
}

impl Job {
    pub fn is_indexed(&self) -> bool {
        &*self.spec.completion_mode == "Indexed"
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// The condition of this type, if it is true.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        let mut conditions = self.status.conditions.iter();
        conditions.find(|condition| condition["type"] == kind && condition["status"] == "True")
    }

    /// `Complete` or `Failed`.
    pub fn finished(&self) -> Option<&Value> {
        self.condition("Complete").or_else(|| self.condition("Failed"))
    }
}

whole!(Job, kinds::JOBS, forget: |object| object.meta.forget_applied());
