//! Job: pods until enough of them have succeeded, or too many failed.
//!
//! `plan` decides, `track` counts, this file applies. Its pods carry a finalizer until they are
//! counted; one whose Job is gone or over loses it. Source: `pkg/controller/job`.

mod backoff;
mod indexes;
mod plan;
mod policy;
#[cfg(test)]
mod tests;
mod track;

use super::context::{Context, Running};
use super::ownership::{Claims, claim_with, owner_key, owners};
use super::pod_control::{PodControl, pod_from_template};
use crate::api::time::seconds;
use crate::client::{Patch, is_not_found, kinds};
use crate::runtime::views::{Job, JobStatus, Pod};
use crate::runtime::{
    Action, Change, Controller, EventType, Expectations, ObjectKey, Projection, Store, Subject, WorkQueue,
};
use anyhow::Context as _;
use async_trait::async_trait;
use backoff::Backoff;
use futures::future::join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use plan::{Decision, FINALIZER, INDEX, NewPod, Outcome, Pods, Round};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

const NAME: &str = "job-controller";

/// The one of `spec.managedBy`.
const MANAGER: &str = "kubernetes.io/job-controller";

/// The longest start of a generated name.
const GENERATED_NAME: usize = 58;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Job(ObjectKey),
    /// A pod whose finalizer nobody else removes.
    Orphan(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(key) => key.fmt(f),
            Self::Orphan(key) => write!(f, "pod {key}"),
        }
    }
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let (expectations, releases) = (Arc::new(Expectations::default()), Arc::new(Expectations::default()));
    let jobs = context.informers.of::<Job>();
    let pods = context.informers.of::<Pod>();
    jobs.on_change({
        let (queue, pods) = (queue.clone(), pods.clone());
        move |change| {
            let job = change.object();
            if matches!(change, Change::Deleted(_)) || job.finished().is_some() {
                let left = pods.controlled_by(&job.meta.uid);
                left.iter().filter(|pod| plan::has_finalizer(pod)).for_each(|pod| queue.add(Key::Orphan(pod.key())));
            }
            queue.add(Key::Job(job.key()));
        }
    });
    pods.on_change({
        let watched = Watched {
            queue: queue.clone(),
            expectations: expectations.clone(),
            releases: releases.clone(),
            jobs: jobs.clone(),
        };
        move |change| watched.pod_changed(change)
    });
    let controller = Jobs {
        control: PodControl {
            objects: context.objects(NAME),
            recorder: context.recorder(NAME),
            kind: kinds::JOBS,
            expectations,
        },
        releases,
        jobs: jobs.clone(),
        pods: pods.clone(),
        known: Mutex::default(),
    };
    Running::new(controller, queue, 4, [jobs.until_synced(), pods.until_synced()], move || {
        jobs.all().iter().map(|job| Key::Job(job.key())).collect()
    })
}

/// Whether nobody else will remove the finalizer of a pod.
fn is_orphan(jobs: &Store<Job>, pod: &Pod) -> bool {
    if !plan::has_finalizer(pod) {
        return false;
    }
    let Some(owner) = pod.meta.controller() else { return true };
    if owner.kind != "Job" || owner.api_version != kinds::JOBS.api_version() {
        return false;
    }
    let job = owner_key(&kinds::JOBS, &pod.meta).and_then(|key| jobs.get(&key)).filter(|job| job.meta.uid == owner.uid);
    job.is_none_or(|job| !is_managed_elsewhere(&job) && job.finished().is_some())
}

fn is_managed_elsewhere(job: &Job) -> bool {
    !job.spec.managed_by.is_empty() && &*job.spec.managed_by != MANAGER
}

/// What a change of a pod is news for.
struct Watched {
    queue: Arc<WorkQueue<Key>>,
    expectations: Arc<Expectations>,
    releases: Arc<Expectations>,
    jobs: Arc<Store<Job>>,
}

impl Watched {
    fn pod_changed(&self, change: Change<'_, Pod>) {
        let pod = change.object();
        let owner_of = |pod: &Arc<Pod>| owner_key(&kinds::JOBS, &pod.meta);
        if let Some(owner) = owner_of(pod) {
            self.expectations.observe(&owner, change);
        }
        if matches!(change, Change::Deleted(_)) || !plan::has_finalizer(pod) {
            change.states().filter_map(owner_of).for_each(|owner| self.releases.deleted(&owner, &pod.meta.uid));
        }
        owners(change, &self.jobs).into_iter().for_each(|owner| self.queue.add(Key::Job(owner)));
        if let Some(pod) = change.new().filter(|pod| is_orphan(&self.jobs, pod)) {
            self.queue.add(Key::Orphan(pod.key()));
        }
    }
}

/// What is known of a Job beside what the cache shows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Of which Job of the name.
    uid: Arc<str>,
    backoff: Backoff,
    /// The revision of the last status that was written.
    written: u64,
}

struct Jobs {
    control: PodControl,
    /// Finalizers that were removed.
    releases: Arc<Expectations>,
    jobs: Arc<Store<Job>>,
    pods: Arc<Store<Pod>>,
    known: Mutex<HashMap<ObjectKey, Known>>,
}

#[async_trait]
impl Controller for Jobs {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> anyhow::Result<Action> {
        match key {
            Key::Job(key) => self.sync(key).await,
            Key::Orphan(key) => match self.pods.get(key).filter(|pod| is_orphan(&self.jobs, pod)) {
                Some(pod) => self.release(&pod).await.map(|()| Action::Done),
                None => Ok(Action::Done),
            },
        }
    }
}

impl Jobs {
    async fn sync(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(job) = self.jobs.get(key) else {
            self.control.expectations.forget(key);
            self.releases.forget(key);
            self.known.lock().remove(key);
            return Ok(Action::Done);
        };
        if is_managed_elsewhere(&job) {
            return Ok(Action::Done);
        }
        if job.finished().is_some() {
            self.known.lock().remove(key);
            return Ok(Action::Done);
        }
        let known = self.known.lock().get(key).filter(|known| known.uid == job.meta.uid).cloned().unwrap_or_default();
        // What was just done must show before more is done: a pod is counted once.
        let shown = revision(&job.meta.resource_version) >= known.written;
        if !shown || !self.control.expectations.satisfied(key) || !self.releases.satisfied(key) {
            return Ok(Action::Done);
        }
        let claims = Claims {
            owner_kind: &kinds::JOBS,
            selector: Some(&job.spec.selector),
            finalizer: Some(FINALIZER),
            is_member: &|_| true,
        };
        let pods = claim_with(&self.control.objects, &claims, &job.meta, &self.pods, |_| true).await?;
        let pods: Vec<Arc<Pod>> = pods.into_iter().map(adopted).collect();
        let round = Round::new(&job, &pods, known.backoff, Timestamp::now());
        let decision = round.decide();
        let (outcome, failed) = self.apply(key, &job, &decision.pods).await;
        let written = self.count(key, &job, &round, &decision, outcome).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(decision.again.filter(|_| !written).map_or(Action::Done, Action::After)),
        }
    }

    /// Make and delete pods; what came of it, and the first error.
    async fn apply(&self, key: &ObjectKey, job: &Job, pods: &Pods) -> (Outcome, Option<kube::Error>) {
        match pods {
            Pods::Leave => (Outcome::default(), None),
            Pods::Create(new) => {
                self.control.expectations.expect(key, new.len(), []);
                let template = template(job);
                let objects = new.iter().map(|pod| new_pod(job, &template, pod));
                let (missing, error) = match self.control.create_slowly(&job.meta, objects).await {
                    Ok(()) => (0, None),
                    Err((error, missing)) => (missing, Some(error)),
                };
                let created = i32::try_from(new.len() - missing).unwrap_or(i32::MAX);
                (Outcome { created, failed: error.is_some(), ..Outcome::default() }, error)
            }
            Pods::End(pods) => self.delete(key, job, pods, false).await,
            Pods::Remove(pods) => self.delete(key, job, pods, true).await,
        }
    }

    /// `uncounted`: they go without being counted.
    async fn delete(
        &self,
        key: &ObjectKey,
        job: &Job,
        pods: &[Arc<Pod>],
        uncounted: bool,
    ) -> (Outcome, Option<kube::Error>) {
        self.control.expectations.expect(key, 0, pods.iter().map(|pod| pod.meta.uid.clone()));
        let deletions = pods.iter().map(|pod| async {
            let released = if uncounted { self.remove_finalizer(pod).await } else { Ok(()) };
            let result = match released {
                Ok(()) => self.control.delete(&job.meta, &pod.meta).await,
                Err(error) => {
                    self.control.expectations.deleted(key, &pod.meta.uid);
                    Err(error)
                }
            };
            (pod.is_ready(), result)
        });
        let mut outcome = Outcome::default();
        let mut first = None;
        for (ready, result) in join_all(deletions).await {
            match result {
                Ok(()) => {
                    outcome.deleted += 1;
                    outcome.deleted_ready += i32::from(ready);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        outcome.failed = first.is_some();
        (outcome, first)
    }

    /// Write what ended, let the finalizers go, write what is counted. Whether anything was written: then the
    /// Job is looked at again anyway.
    async fn count(
        &self,
        key: &ObjectKey,
        job: &Job,
        round: &Round<'_>,
        decision: &Decision,
        outcome: Outcome,
    ) -> anyhow::Result<bool> {
        let tracked = round.track(decision, outcome);
        let mut seen = revision(&job.meta.resource_version);
        let mut written = false;
        if tracked.status != job.status {
            // Somebody else wrote it: that is news, and a new round.
            let Some(revision) = self.write(job, seen, &tracked.status, round.backoff).await? else { return Ok(true) };
            (seen, written) = (revision, true);
            if let Some(reason) = tracked.event {
                self.event(job, EventType::Normal, reason, format!("Job {}", reason.to_lowercase()));
            }
        }
        self.releases.expect(key, 0, tracked.release.iter().map(|pod| pod.meta.uid.clone()));
        let releases = tracked.release.iter().map(|pod| async move {
            let result = self.remove_finalizer(pod).await;
            if result.is_err() {
                self.releases.deleted(key, &pod.meta.uid);
            }
            result.map(|()| pod.clone())
        });
        let (mut released, mut failed) = (Vec::new(), None);
        for result in join_all(releases).await {
            match result {
                Ok(pod) => released.push(pod),
                Err(error) => failed = Some(error),
            }
        }
        let (status, last) = tracked.counted(&released);
        if status != tracked.status && self.write(job, seen, &status, round.backoff).await?.is_some() {
            written = true;
            if let Some(verdict) = tracked.verdict.as_ref().filter(|_| last) {
                self.tell_of_end(job, &status, verdict);
            }
        }
        failed.map_or(Ok(written), |error| Err(error).context("remove finalizers of pods that ended"))
    }

    fn tell_of_end(&self, job: &Job, status: &JobStatus, verdict: &plan::Verdict) {
        if !verdict.success {
            return self.event(job, EventType::Warning, &verdict.reason, verdict.message.clone());
        }
        if job.spec.completions.is_some_and(|completions| status.succeeded > completions) {
            let text = "Too many succeeded pods running after completion count reached".to_owned();
            self.event(job, EventType::Warning, "TooManySucceededPods", text);
        }
        self.event(job, EventType::Normal, "Completed", "Job completed".to_owned());
    }

    fn event(&self, job: &Job, kind: EventType, reason: &str, text: String) {
        self.control.recorder.event(&Subject::of(&kinds::JOBS, &job.meta), kind, reason, text);
    }

    async fn release(&self, pod: &Pod) -> anyhow::Result<()> {
        let released = self.remove_finalizer(pod).await;
        released.with_context(|| format!("remove the finalizer of pod {}", pod.meta.key()))
    }

    /// One that is gone has none. Any other refusal is an error, also that another pod has the name by now: the cache
    /// will say so, and nothing is counted that still holds it.
    async fn remove_finalizer(&self, pod: &Pod) -> Result<(), kube::Error> {
        let (objects, meta) = (&self.control.objects, &pod.meta);
        let patch = json!({ "metadata": { "uid": &*meta.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
        match objects.patch(&kinds::PODS, &meta.namespace, &meta.name, "", Patch::Strategic, &patch).await {
            Err(error) if is_not_found(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// The revision of the write. None: the Job is another than was seen.
    async fn write(&self, job: &Job, seen: u64, status: &JobStatus, backoff: Backoff) -> anyhow::Result<Option<u64>> {
        let meta = &job.meta;
        let of = |object: &Value| revision(object["metadata"]["resourceVersion"].as_str().unwrap_or_default());
        let named = || format!("write the status of job {}", meta.key());
        let found = self.control.objects.find(&kinds::JOBS, &meta.namespace, &meta.name).await.with_context(named)?;
        let Some(mut live) = found.filter(|live| of(live) == seen) else { return Ok(None) };
        live["status"] = wire(status);
        let updated = self.control.objects.update(&kinds::JOBS, &meta.namespace, &meta.name, "status", &live).await;
        let written = of(&updated.with_context(named)?);
        self.known.lock().insert(meta.key(), Known { uid: meta.uid.clone(), backoff, written });
        Ok(Some(written))
    }
}

/// One that was an orphan has the finalizer by now, and counts; the cache shows it without.
fn adopted(pod: Arc<Pod>) -> Arc<Pod> {
    if pod.meta.controller().is_some() || plan::has_finalizer(&pod) {
        return pod;
    }
    let mut adopted = Pod::clone(&pod);
    adopted.meta.finalizers.push(FINALIZER.to_owned());
    Arc::new(adopted)
}

/// Revisions are numbers, in the order of the writes.
fn revision(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// The template of its pods, with what every one of them has.
fn template(job: &Job) -> Value {
    let mut template = (*job.spec.template).clone();
    let metadata = &mut template["metadata"];
    if metadata["finalizers"].is_null() {
        metadata["finalizers"] = json!([]);
    }
    if let Some(finalizers) = metadata["finalizers"].as_array_mut()
        && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    {
        finalizers.push(FINALIZER.into());
    }
    if !job.is_indexed() {
        return template;
    }
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    for list in ["initContainers", "containers"] {
        for container in template["spec"][list].as_array_mut().into_iter().flatten() {
            let variables = container["env"].as_array().cloned().unwrap_or_default();
            if variables.iter().any(|variable| variable["name"] == VARIABLE) {
                continue;
            }
            let field = json!({ "fieldRef": { "fieldPath": format!("metadata.labels['{INDEX}']") } });
            let variable = json!({ "name": VARIABLE, "valueFrom": field });
            container["env"] = variables.into_iter().chain([variable]).collect();
        }
    }
    template
}

fn new_pod(job: &Job, template: &Value, new: &NewPod) -> Value {
    let mut pod = pod_from_template(&kinds::JOBS, &job.meta, template);
    let Some(index) = new.index else { return pod };
    let name = &job.meta.name;
    pod["metadata"]["annotations"][INDEX] = index.to_string().into();
    pod["metadata"]["labels"][INDEX] = index.to_string().into();
    for (annotation, count) in &new.failures {
        pod["metadata"]["annotations"][*annotation] = count.as_str().into();
    }
    let end = format!("-{index}-");
    let start = &name[..name.len().min(GENERATED_NAME - end.len())];
    pod["metadata"]["generateName"] = format!("{start}{end}").into();
    pod["spec"]["hostname"] = format!("{name}-{index}").into();
    pod
}

/// As it is on the wire.
fn wire(status: &JobStatus) -> Value {
    let lists = &status.uncounted_terminated_pods;
    let mut uncounted = json!({});
    for (field, list) in [("succeeded", &lists.succeeded), ("failed", &lists.failed)] {
        if !list.is_empty() {
            uncounted[field] = list.iter().map(|uid| Value::from(&**uid)).collect();
        }
    }
    let mut object = json!({ "uncountedTerminatedPods": uncounted });
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[field] = value;
        }
    };
    let positive = |count: i32| (count != 0).then(|| count.into());
    set("conditions", (!status.conditions.is_empty()).then(|| status.conditions.clone().into()));
    set("startTime", status.start_time.map(|time| seconds(time).into()));
    set("completionTime", status.completion_time.map(|time| seconds(time).into()));
    set("active", positive(status.active));
    set("succeeded", positive(status.succeeded));
    set("failed", positive(status.failed));
    set("terminating", status.terminating.map(Into::into));
    set("ready", status.ready.map(Into::into));
    set("completedIndexes", (!status.completed_indexes.is_empty()).then(|| (*status.completed_indexes).into()));
    set("failedIndexes", status.failed_indexes.as_ref().map(|text| (**text).into()));
    object
}
