//! What a Job's pods come to, and which to make and delete: pure.
//!
//! [`Round::new`] reads, [`Round::decide`] says what to do with pods; what the status says is
//! [`super::track`]'s. Source: `pkg/controller/job`.

use super::backoff::{Backoff, finished};
use super::indexes::Indexes;
use super::policy::{self, Failure};
use crate::controllers::deletion_order::order_by_age;
use crate::runtime::views::{Job, Pod};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// At most so many creations or deletions, and uncounted pods, at a time.
pub(super) const LIMIT: usize = 500;

/// What the Job comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    pub(super) fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { success, reason: reason.to_owned(), message: message.into() }
    }

    fn of(success: bool, condition: &Value) -> Self {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        Self::new(success, text("reason"), text("message"))
    }

    /// The type of the condition that says what is to come, and the one that it has come.
    pub fn conditions(&self) -> (&'static str, &'static str) {
        if self.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") }
    }
}

/// A pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    pub index: Option<i32>,
    /// Annotations that go on counting the failures of the index.
    pub failures: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Pods {
    Leave,
    /// The Job is over: they are counted before they may go.
    End(Vec<Arc<Pod>>),
    /// Too many: they are not counted.
    Remove(Vec<Arc<Pod>>),
    Create(Vec<NewPod>),
}

/// What to do, and when to look again though nothing changes.
#[derive(Debug)]
pub struct Decision {
    pub pods: Pods,
    pub again: Option<Duration>,
    pub(super) verdict: Option<Verdict>,
    /// The number of pods was seen to.
    pub(super) managed: bool,
}

/// What became of the decision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub created: i32,
    pub deleted: i32,
    /// Of the deleted.
    pub deleted_ready: i32,
    pub failed: bool,
}

pub struct Round<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    failed: i32,
    /// Of an indexed Job: before, and with the pods that ended since.
    pub(super) indexes: Option<(Indexes, Indexes)>,
    pub(super) failed_indexes: Option<Indexes>,
    /// Failed pods that stay until their replacement knows how often the index failed.
    pub(super) delayed: BTreeMap<i32, Arc<Pod>>,
    pub backoff: Backoff,
    pub(super) now: Timestamp,
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.meta.annotation(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

fn count_of(pod: &Pod, annotation: &str) -> i32 {
    pod.meta.annotation(annotation).and_then(|text| text.parse().ok()).filter(|count| *count >= 0).unwrap_or_default()
}

/// Terminating pods are waited for before they are replaced.
fn replaces_only_failed(job: &Job) -> bool {
    &*job.spec.pod_replacement_policy == "Failed" || job.spec.pod_failure_policy.is_some()
}

pub(super) fn is_failed(job: &Job, pod: &Pod) -> bool {
    &*pod.phase == "Failed" || (!replaces_only_failed(job) && pod.meta.is_deleting() && &*pod.phase != "Succeeded")
}

pub(super) fn size(pods: &[Arc<Pod>]) -> i32 {
    i32::try_from(pods.len()).unwrap_or(i32::MAX)
}

impl<'a> Round<'a> {
    pub fn new(job: &'a Job, pods: &'a [Arc<Pod>], backoff: Backoff, now: Timestamp) -> Self {
        let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
        let terminating = pods.iter().filter(|pod| pod.meta.is_deleting() && !pod.is_terminal()).count();
        let terminating = i32::try_from(terminating).unwrap_or(i32::MAX);
        let mut round = Self {
            job,
            pods,
            active,
            terminating,
            succeeded: 0,
            failed: 0,
            indexes: None,
            failed_indexes: None,
            delayed: BTreeMap::new(),
            backoff,
            now,
        };
        let uncounted = &job.status.uncounted_terminated_pods;
        let new = |counted: &[Arc<str>], ended: &dyn Fn(&Pod) -> bool| -> Vec<&Arc<Pod>> {
            let is_new = |pod: &&Arc<Pod>| round.is_tracked(pod) && !counted.contains(&pod.meta.uid) && ended(pod);
            pods.iter().filter(is_new).collect()
        };
        let succeeded = new(&uncounted.succeeded, &|pod| &*pod.phase == "Succeeded");
        let failed = new(&uncounted.failed, &|pod| is_failed(job, pod));
        let counts = failed.iter().filter(|pod| policy::failure(job, pod) != Failure::Ignored).count();
        let total = |old: i32, new: usize, uncounted: usize| {
            old.saturating_add(i32::try_from(new + uncounted).unwrap_or(i32::MAX))
        };
        let sums = (
            total(job.status.succeeded, succeeded.len(), uncounted.succeeded.len()),
            total(job.status.failed, counts, uncounted.failed.len()),
        );
        round.backoff = backoff.with(&succeeded, &failed);
        (round.succeeded, round.failed) = sums;
        if job.is_indexed() {
            round.count_indexes();
        }
        round
    }

    fn completions(&self) -> i32 {
        self.job.spec.completions.unwrap_or_default()
    }

    pub(super) fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index_of(pod).filter(|index| *index < self.completions())
    }

    /// Not yet counted, and of a place that counts.
    fn is_tracked(&self, pod: &Pod) -> bool {
        has_finalizer(pod) && (!self.job.is_indexed() || self.valid_index(pod).is_some())
    }

    fn count_indexes(&mut self) {
        let before = Indexes::parse(&self.job.status.completed_indexes, self.completions());
        let ended = self.pods.iter().filter(|pod| &*pod.phase == "Succeeded" && self.is_tracked(pod));
        let now = before.with(ended.filter_map(|pod| self.valid_index(pod)));
        self.succeeded = now.total();
        if let Some(limit) = self.job.spec.backoff_limit_per_index {
            let text = self.job.status.failed_indexes.as_deref().unwrap_or_default();
            let fails = |pod: &Pod| {
                is_failed(self.job, pod)
                    && match policy::failure(self.job, pod) {
                        Failure::FailsIndex => true,
                        Failure::Ignored => false,
                        Failure::Counts | Failure::FailsJob(_) => count_of(pod, FAILURES) >= limit,
                    }
            };
            let failed = self.pods.iter().filter(|pod| self.is_tracked(pod) && fails(pod));
            let failed = Indexes::parse(text, self.completions()).with(failed.filter_map(|pod| self.valid_index(pod)));
            self.delayed = self.waiting(&now, &failed);
            self.failed_indexes = Some(failed);
        }
        self.indexes = Some((before, now));
    }

    fn waiting(&self, succeeded: &Indexes, failed: &Indexes) -> BTreeMap<i32, Arc<Pod>> {
        let mut waiting = BTreeMap::new();
        let active: BTreeSet<i32> = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let order = |pod: &Pod| (count_of(pod, FAILURES) + count_of(pod, IGNORED_FAILURES), finished(pod));
        for pod in self.pods.iter().filter(|pod| self.is_tracked(pod) && is_failed(self.job, pod)) {
            let Some(index) = self.valid_index(pod) else { continue };
            if succeeded.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let last: &mut Arc<Pod> = waiting.entry(index).or_insert_with(|| pod.clone());
            let (one, two) = (order(last), order(pod));
            if one.0 <= two.0 && one.1 <= two.1 {
                *last = pod.clone();
            }
        }
        waiting
    }

    /// How the Job ends, as far as pods that ended say so.
    fn verdict(&self) -> Option<Verdict> {
        let (job, spec) = (self.job, &self.job.spec);
        if let Some(condition) = job.condition("SuccessCriteriaMet") {
            return Some(Verdict::of(true, condition));
        }
        if let Some(condition) = job.condition("FailureTarget") {
            return Some(Verdict::of(false, condition));
        }
        let failed = self.pods.iter().filter(|pod| is_failed(job, pod));
        let message = failed.map(|pod| policy::failure(job, pod)).find_map(|failure| match failure {
            Failure::FailsJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            return Some(Verdict::new(false, "PodFailurePolicy", message));
        }
        if self.failed > spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() {
            let text = "Job has reached the specified backoff limit";
            return Some(Verdict::new(false, "BackoffLimitExceeded", text));
        }
        if self.deadline().is_some_and(|left| left.is_zero()) {
            let text = "Job was active longer than specified deadline";
            return Some(Verdict::new(false, "DeadlineExceeded", text));
        }
        let (_, succeeded) = self.indexes.as_ref()?;
        if let Some(failed) = &self.failed_indexes {
            if spec.max_failed_indexes.is_some_and(|limit| failed.total() > limit) {
                let text = "Job has exceeded the specified maximal number of failed indexes";
                return Some(Verdict::new(false, "MaxFailedIndexesExceeded", text));
            }
            if failed.total() > 0 && failed.total() + succeeded.total() >= self.completions() {
                return Some(Verdict::new(false, "FailedIndexes", "Job has failed indexes"));
            }
        }
        policy::success(job, succeeded).map(|message| Verdict::new(true, "SuccessPolicy", message))
    }

    fn restarted_too_often(&self) -> bool {
        if self.job.spec.template["spec"]["restartPolicy"] != "OnFailure" {
            return false;
        }
        let running = self.pods.iter().filter(|pod| matches!(&*pod.phase, "Running" | "Pending"));
        let restarts: i64 = running.map(|pod| pod.restarts).sum();
        match i64::from(self.job.spec.backoff_limit.unwrap_or(6)) {
            0 => restarts > 0,
            limit => restarts >= limit,
        }
    }

    /// What is left of the time that the Job may be active.
    fn deadline(&self) -> Option<Duration> {
        let limit = self.job.spec.active_deadline_seconds?;
        if self.job.is_suspended() {
            return None;
        }
        let since = self.job.status.start_time.unwrap_or(self.now);
        let left = jiff::SignedDuration::from_secs(limit) - self.now.duration_since(since);
        Some(Duration::try_from(left).unwrap_or_default())
    }

    pub fn decide(&self) -> Decision {
        let verdict = self.verdict();
        if verdict.is_some() {
            return Decision { pods: Pods::End(self.active.clone()), again: None, verdict, managed: false };
        }
        let deadline = self.deadline();
        if self.job.meta.is_deleting() {
            return Decision { pods: Pods::Leave, again: deadline, verdict: None, managed: false };
        }
        let (pods, again) = self.manage();
        let again = again.into_iter().chain(deadline).min();
        Decision { pods, again, verdict: None, managed: true }
    }

    fn manage(&self) -> (Pods, Option<Duration>) {
        let active = size(&self.active);
        if self.job.is_suspended() {
            let all = self.active.clone();
            return (if all.is_empty() { Pods::Leave } else { Pods::Remove(all) }, None);
        }
        let parallelism = self.job.spec.parallelism.unwrap_or(1);
        let wanted = match self.job.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => completions.saturating_sub(self.succeeded).clamp(0, parallelism),
        };
        let mut surplus = self.surplus(usize::try_from(active - wanted).unwrap_or_default());
        if !surplus.is_empty() {
            surplus.truncate(LIMIT);
            return (Pods::Remove(surplus), None);
        }
        let waits = if replaces_only_failed(self.job) { self.terminating } else { 0 };
        let count = usize::try_from(wanted - waits - active).unwrap_or_default().min(LIMIT);
        if count == 0 {
            return (Pods::Leave, None);
        }
        let per_index = self.job.spec.backoff_limit_per_index.is_some();
        if !per_index && let Some(delay) = self.backoff.remaining(self.now) {
            return (Pods::Leave, Some(delay));
        }
        let Some((_, succeeded)) = &self.indexes else {
            return (Pods::Create(vec![NewPod { index: None, failures: Vec::new() }; count]), None);
        };
        let mut taken = succeeded.with(self.active.iter().filter_map(|pod| index_of(pod)));
        if replaces_only_failed(self.job) {
            let terminating = self.pods.iter().filter(|pod| pod.meta.is_deleting() && !pod.is_terminal());
            taken = taken.with(terminating.filter_map(|pod| index_of(pod)));
        }
        if let Some(failed) = &self.failed_indexes {
            taken = taken.and(failed);
        }
        let (mut create, mut again) = (Vec::new(), None::<Duration>);
        for index in taken.missing(count, self.completions()) {
            let before = self.delayed.get(&index);
            match before.filter(|_| per_index).and_then(|pod| self.index_delay(pod)) {
                Some(delay) => again = Some(again.map_or(delay, |again| again.min(delay))),
                None => create.push(NewPod { index: Some(index), failures: self.failures_after(per_index, before) }),
            }
        }
        if create.is_empty() { (Pods::Leave, again) } else { (Pods::Create(create), again) }
    }

    fn index_delay(&self, last: &Pod) -> Option<Duration> {
        let failures = count_of(last, FAILURES) + count_of(last, IGNORED_FAILURES) + 1;
        let backoff = Backoff { failures: failures.unsigned_abs(), last: Some(finished(last)) };
        backoff.remaining(self.now)
    }

    fn failures_after(&self, per_index: bool, before: Option<&Arc<Pod>>) -> Vec<(&'static str, String)> {
        if !per_index {
            return Vec::new();
        }
        let (mut failures, mut ignored) =
            before.map_or((0, 0), |pod| (count_of(pod, FAILURES), count_of(pod, IGNORED_FAILURES)));
        if let Some(pod) = before {
            let counter = if policy::failure(self.job, pod) == Failure::Ignored { &mut ignored } else { &mut failures };
            *counter += 1;
        }
        let mut annotations = vec![(FAILURES, failures.to_string())];
        if ignored > 0 {
            annotations.push((IGNORED_FAILURES, ignored.to_string()));
        }
        annotations
    }

    /// Those to go: of an index more than one, without a valid index, and `count` at least.
    fn surplus(&self, count: usize) -> Vec<Arc<Pod>> {
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        if self.job.is_indexed() {
            let mut places: BTreeMap<Option<i32>, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in &self.active {
                places.entry(self.valid_index(pod)).or_default().push(pod.clone());
            }
            for (index, mut pods) in places {
                order_by_age(&mut pods);
                let kept = if index.is_some() { pods.pop() } else { None };
                left.extend(kept);
                gone.extend(pods);
            }
        } else {
            left.clone_from(&self.active);
        }
        if gone.len() < count {
            order_by_age(&mut left);
            let more = count - gone.len();
            gone.extend(left.into_iter().take(more));
        }
        gone
    }
}
