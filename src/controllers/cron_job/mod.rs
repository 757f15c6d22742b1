//! CronJob: a Job at each time of a schedule.
//!
//! `plan` says which time is due, this file makes and deletes Jobs. A Job's name is that of its time,
//! so that none is made twice. When the clock steps, all schedules are looked at again.
//! Source: `pkg/controller/cronjob`.

mod plan;

use super::context::{Context, Running};
use super::ownership::{controller_reference, owner_key};
use super::pod_control::message;
use crate::api::time::seconds;
use crate::client::{DeleteOptions, Objects, Propagation, is_already_exists, is_namespace_terminating, kinds};
use crate::runtime::clock_steps::ClockSteps;
use crate::runtime::views::{CronJob, CronJobStatus, Job};
use crate::runtime::{Action, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use plan::{Due, is_active};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "cronjob-controller";

/// On a Job: the time that it is for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let crons = context.informers.of::<CronJob>();
    let jobs = context.informers.of::<Job>();
    crons.on_change({
        let queue = queue.clone();
        move |change| {
            let (old, new) = (change.old(), change.object());
            let wait = old.map_or(Duration::ZERO, |old| plan::patience(old, new, Timestamp::now()));
            queue.add_after(new.key(), wait);
        }
    });
    jobs.on_change({
        let queue = queue.clone();
        move |change| {
            let owners = change.states().filter_map(|job| owner_key(&kinds::CRON_JOBS, &job.meta));
            owners.for_each(|owner| queue.add(owner));
        }
    });
    let controller = CronJobs {
        objects: context.objects(NAME),
        recorder: context.recorder(NAME),
        crons: crons.clone(),
        jobs: jobs.clone(),
    };
    let stepped = (crons.clone(), queue.clone());
    let mut running =
        Running::new(controller, queue, 2, [crons.until_synced(), jobs.until_synced()], move || crons.keys());
    let work = running.task;
    running.task = Box::pin(async move {
        tokio::join!(work, follow_clock(stepped.0, stepped.1));
    });
    running
}

/// A timer knows nothing of a clock that is set.
async fn follow_clock(crons: Arc<Store<CronJob>>, queue: Arc<WorkQueue<ObjectKey>>) {
    let result: std::io::Result<()> = async {
        let mut steps = ClockSteps::new()?;
        loop {
            steps.stepped().await?;
            crons.all().iter().for_each(|cron| queue.add(cron.key()));
        }
    }
    .await;
    if let Err(error) = result {
        tracing::warn!(controller = NAME, "follow the clock: {error}; schedules may be late when it is set");
    }
}

struct CronJobs {
    objects: Objects,
    recorder: Recorder,
    crons: Arc<Store<CronJob>>,
    jobs: Arc<Store<Job>>,
}

#[async_trait]
impl Controller for CronJobs {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(cron) = self.crons.get(key) else { return Ok(Action::Done) };
        let jobs = self.jobs.controlled_by(&cron.meta.uid);
        let mut status = cron.status.clone();
        self.clean_up(&cron, &jobs, &mut status).await;
        let result = self.sync(&cron, &jobs, &mut status).await;
        if status != cron.status {
            self.write_status(&cron, &status).await?;
        }
        Ok(result?.map_or(Action::Done, Action::After))
    }
}

impl CronJobs {
    /// See to its Jobs and start one that is due. How long until the next one.
    async fn sync(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> anyhow::Result<Option<Duration>> {
        for job in jobs {
            if !self.see(cron, job, status).await? {
                // A newer state of it is on its way to the cache, and comes here then.
                return Ok(None);
            }
        }
        self.forget_missing(cron, jobs, status).await?;
        if cron.meta.is_deleting() {
            return Ok(None);
        }
        let zone = match plan::zone(cron) {
            Ok(zone) => zone,
            Err(error) => {
                let name = cron.spec.time_zone.as_deref().unwrap_or_default();
                self.warn(cron, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                return Ok(None);
            }
        };
        if cron.spec.suspend == Some(true) {
            return Ok(None);
        }
        let text = &*cron.spec.schedule;
        if let Some(unsupported) = plan::unsupported(text) {
            self.warn(cron, "UnsupportedSchedule", unsupported);
        }
        let schedule = match plan::schedule(text) {
            Ok(schedule) => schedule,
            Err(unparseable) => {
                self.warn(cron, "UnparseableSchedule", unparseable);
                return Ok(None);
            }
        };
        let now = Timestamp::now();
        let Due { time, many_missed, next } = match plan::due(cron, &schedule, &zone, now) {
            Ok(due) => due,
            Err(error) => {
                self.warn(cron, "InvalidSchedule", format!("invalid schedule: {text} : {error}"));
                return Ok(None);
            }
        };
        let Some(time) = time else { return Ok(next) };
        if many_missed {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warn(cron, "TooManyMissedTimes", text.to_owned());
        }
        if plan::is_too_late(cron, time, now) {
            let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            self.warn(cron, "MissSchedule", format!("Missed scheduled time to start a job: {time}"));
            return Ok(next);
        }
        let name = format!("{}-{}", cron.meta.name, time.as_second() / 60);
        let known = status.active.iter().any(|job| job["name"] == name.as_str());
        if known || status.last_schedule_time == Some(time) {
            return Ok(next);
        }
        if self.may_start(cron, status).await? {
            self.start(cron, &name, time, status).await?;
        }
        Ok(next)
    }

    /// What has become of one of its Jobs. False: the CronJob that was seen is older than the Job.
    async fn see(&self, cron: &CronJob, job: &Job, status: &mut CronJobStatus) -> anyhow::Result<bool> {
        let listed = is_active(&status.active, &job.meta.uid);
        let Some(finished) = job.finished() else {
            if listed {
                return Ok(true);
            }
            let live = self.objects.find(&kinds::CRON_JOBS, &cron.meta.namespace, &cron.meta.name).await?;
            let live = live.map(|live| live["status"]["active"].as_array().cloned().unwrap_or_default());
            if live.is_none_or(|active| is_active(&active, &job.meta.uid)) {
                return Ok(false);
            }
            let text = format!("Saw a job that the controller did not create or forgot: {}", job.meta.name);
            self.warn(cron, "UnexpectedJob", text);
            return Ok(true);
        };
        let kind = finished["type"].as_str().unwrap_or_default();
        if listed {
            status.active.retain(|reference| reference["uid"] != *job.meta.uid);
            let text = format!("Saw completed job: {}, condition: {kind}", job.meta.name);
            self.event(cron, EventType::Normal, "SawCompletedJob", text);
        }
        if kind == "Complete" {
            status.last_successful_time = status.last_successful_time.max(job.status.completion_time);
        }
        Ok(true)
    }

    /// Jobs that are gone are active no more; the cache may only not show them yet.
    async fn forget_missing(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> anyhow::Result<()> {
        for reference in status.active.clone() {
            let uid = reference["uid"].as_str().unwrap_or_default();
            if jobs.iter().any(|job| &*job.meta.uid == uid) {
                continue;
            }
            let name = reference["name"].as_str().unwrap_or_default();
            if self.objects.find(&kinds::JOBS, &cron.meta.namespace, name).await?.is_none() {
                self.event(cron, EventType::Normal, "MissingJob", format!("Active job went missing: {name}"));
                status.active.retain(|other| other["uid"] != uid);
            }
        }
        Ok(())
    }

    /// What its policy says of Jobs that still run.
    async fn may_start(&self, cron: &CronJob, status: &mut CronJobStatus) -> anyhow::Result<bool> {
        match &*cron.spec.concurrency_policy {
            "Forbid" if !status.active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.event(cron, EventType::Normal, "JobAlreadyActive", text.to_owned());
                Ok(false)
            }
            "Replace" => {
                for reference in status.active.clone() {
                    let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
                    let (name, uid) = (text("name"), text("uid"));
                    if !self.delete(cron, &name, &uid, status).await {
                        bail!("could not replace job {}/{name}", cron.meta.namespace);
                    }
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    async fn start(
        &self,
        cron: &CronJob,
        name: &str,
        time: Timestamp,
        status: &mut CronJobStatus,
    ) -> anyhow::Result<()> {
        let namespace = &cron.meta.namespace;
        let job = match self.objects.create(&kinds::JOBS, namespace, job(cron, name, time)).await {
            Ok(job) => {
                self.event(cron, EventType::Normal, "SuccessfulCreate", format!("Created job {name}"));
                job
            }
            Err(error) if is_already_exists(&error) => {
                // Ours, from before the status could be written; or somebody's.
                let found = self.objects.find(&kinds::JOBS, namespace, name).await?;
                let is_ours = |job: &Value| {
                    let owners = job["metadata"]["ownerReferences"].as_array();
                    owners
                        .into_iter()
                        .flatten()
                        .any(|owner| owner["controller"] == true && owner["uid"] == *cron.meta.uid)
                };
                match found.filter(is_ours) {
                    Some(job) => job,
                    None => return Ok(()),
                }
            }
            Err(error) => {
                if !is_namespace_terminating(&error) {
                    self.warn(cron, "FailedCreate", format!("Error creating job: {}", message(&error)));
                }
                return Err(error.into());
            }
        };
        let metadata = &job["metadata"];
        status.active.push(json!({
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "namespace": &**namespace,
            "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
        }));
        status.last_schedule_time = Some(time);
        Ok(())
    }

    /// Jobs that are over, beyond what is to be kept.
    async fn clean_up(&self, cron: &CronJob, jobs: &[Arc<Job>], status: &mut CronJobStatus) {
        let spec = &cron.spec;
        for (kind, limit) in
            [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
        {
            let over = jobs.iter().filter(|job| job.finished().is_some_and(|finished| finished["type"] == kind));
            for job in plan::surplus(over.cloned().collect(), limit) {
                self.delete(cron, &job.meta.name, &job.meta.uid, status).await;
            }
        }
    }

    /// Whether it is gone; an event tells when it is not.
    async fn delete(&self, cron: &CronJob, name: &str, uid: &str, status: &mut CronJobStatus) -> bool {
        let options = DeleteOptions::of(uid).propagation(Propagation::Background);
        match self.objects.delete_as_seen(&kinds::JOBS, &cron.meta.namespace, name, &options).await {
            Ok(deleted) => {
                status.active.retain(|reference| reference["uid"] != uid);
                if deleted {
                    self.event(cron, EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                }
                true
            }
            Err(error) => {
                self.warn(cron, "FailedDelete", format!("Deleted job: {}", message(&error)));
                false
            }
        }
    }

    fn warn(&self, cron: &CronJob, reason: &str, text: String) {
        self.event(cron, EventType::Warning, reason, text);
    }

    fn event(&self, cron: &CronJob, kind: EventType, reason: &str, text: String) {
        self.recorder.event(&Subject::of(&kinds::CRON_JOBS, &cron.meta), kind, reason, text);
    }

    /// Only over the state that was seen: an older one would forget Jobs.
    async fn write_status(&self, cron: &CronJob, status: &CronJobStatus) -> anyhow::Result<()> {
        let meta = &cron.meta;
        let mut next = json!({});
        if !status.active.is_empty() {
            next["active"] = status.active.clone().into();
        }
        for (field, time) in
            [("lastScheduleTime", status.last_schedule_time), ("lastSuccessfulTime", status.last_successful_time)]
        {
            if let Some(time) = time {
                next[field] = seconds(time).into();
            }
        }
        let patch = |live: &mut Value| {
            if live["metadata"]["resourceVersion"].as_str() != Some(&*meta.resource_version) {
                return false;
            }
            live["status"] = next.clone();
            true
        };
        let named = || format!("write the status of cron job {}", meta.key());
        self.objects
            .modify(&kinds::CRON_JOBS, &meta.namespace, &meta.name, "status", patch)
            .await
            .with_context(named)?;
        Ok(())
    }
}

/// The Job for one time.
fn job(cron: &CronJob, name: &str, time: Timestamp) -> Value {
    let template = &cron.spec.job_template;
    let mut metadata = json!({
        "name": name,
        "labels": template["metadata"].get("labels").cloned().unwrap_or_else(|| json!({})),
        "annotations": template["metadata"].get("annotations").cloned().unwrap_or_else(|| json!({})),
        "ownerReferences": [controller_reference(&kinds::CRON_JOBS, &cron.meta)],
    });
    // Without a zone of its own it is written in that of the world, wherever the server is.
    let zone = cron.spec.time_zone.as_ref().and_then(|_| plan::zone(cron).ok()).unwrap_or(TimeZone::UTC);
    let local = time.to_zoned(zone);
    let written =
        if local.offset().is_zero() { seconds(time) } else { local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() };
    metadata["annotations"][SCHEDULED] = written.into();
    json!({ "metadata": metadata, "spec": template["spec"] })
}
