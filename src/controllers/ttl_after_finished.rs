//! TTLAfterFinished: delete Jobs some time after they are over, where they say so.
//!
//! Source: `pkg/controller/ttlafterfinished`.

use super::context::{Context, Running};
use crate::client::{DeleteOptions, Objects, Propagation, kinds};
use crate::runtime::views::Job;
use crate::runtime::{Action, Controller, ObjectKey, Store, WorkQueue};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "ttl-after-finished-controller";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let jobs = context.informers.of::<Job>();
    jobs.feed_if(&queue, |job| expiry(job).is_some());
    let controller = TtlAfterFinished { objects: context.objects(NAME), jobs: jobs.clone() };
    Running::new(controller, queue, 1, [jobs.until_synced()], move || jobs.keys())
}

/// When a Job that is over is to go. None: by nobody, or it goes already.
fn expiry(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.ttl_seconds_after_finished.filter(|_| !job.meta.is_deleting())?;
    let finished: Timestamp = job.finished()?["lastTransitionTime"].as_str()?.parse().ok()?;
    finished.checked_add(SignedDuration::from_secs(ttl)).ok()
}

struct TtlAfterFinished {
    objects: Objects,
    jobs: Arc<Store<Job>>,
}

#[async_trait]
impl Controller for TtlAfterFinished {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some((job, expiry)) = self.jobs.get(key).and_then(|job| expiry(&job).map(|expiry| (job, expiry))) else {
            return Ok(Action::Done);
        };
        let left = Duration::try_from(expiry.duration_since(Timestamp::now())).unwrap_or_default();
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        // Of this very state: its time to live may just have been changed.
        let options = DeleteOptions::of(&job.meta.uid)
            .resource_version(&job.meta.resource_version)
            .propagation(Propagation::Foreground);
        let (namespace, name) = (&job.meta.namespace, &job.meta.name);
        let deleted = self.objects.delete_as_seen(&kinds::JOBS, namespace, name, &options).await;
        deleted.with_context(|| format!("delete job {key}, which is over"))?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_goes_after_its_end() {
        let job = |ttl: serde_json::Value, kind: &str| -> Job {
            let condition = json!({ "type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" });
            serde_json::from_value(json!({
                "spec": { "ttlSecondsAfterFinished": ttl }, "status": { "conditions": [condition] },
            }))
            .expect("a Job")
        };
        let at = Some("2026-01-01T00:01:00Z".parse().expect("a time"));
        assert_eq!(expiry(&job(json!(60), "Complete")), at);
        assert_eq!(expiry(&job(json!(60), "Failed")), at);
        assert_eq!(expiry(&job(json!(60), "Suspended")), None);
        assert_eq!(expiry(&job(json!(null), "Complete")), None);
    }
}
