//! CronJobs.

use super::nullable;
use crate::client::kinds;
use crate::runtime::{Meta, whole};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CronJob {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: CronJobSpec,
    pub status: CronJobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    pub schedule: Box<str>,
    pub time_zone: Option<Box<str>>,
    pub starting_deadline_seconds: Option<i64>,
    /// `Allow`, `Forbid` or `Replace`.
    pub concurrency_policy: Box<str>,
    pub suspend: Option<bool>,
    pub job_template: Arc<Value>,
    pub successful_jobs_history_limit: Option<i32>,
    pub failed_jobs_history_limit: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobStatus {
    /// References to Jobs that are not over.
    #[serde(deserialize_with = "nullable")]
    pub active: Vec<Value>,
    pub last_schedule_time: Option<Timestamp>,
    pub last_successful_time: Option<Timestamp>,
}

whole!(CronJob, kinds::CRON_JOBS, forget: |object| object.meta.annotations.clear());
