//! `batch/v1`.

pub mod cron_job;
mod indexes;
pub mod job;
mod job_status;
mod job_update;
mod pod_failure_policy;
