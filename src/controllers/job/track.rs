//! The status of a Job, before and after the finalizers of its pods go: pure.
//!
//! A pod is counted once: its UID is in the status before its finalizer goes, and in the counters
//! after. [`Round::track`] is the state before, [`Tracked::counted`] the one after.

use super::plan::{Decision, LIMIT, Outcome, Round, Verdict, has_finalizer, index_of, is_failed, size};
use super::policy::{self, Failure};
use crate::api::time::seconds;
use crate::runtime::views::{JobStatus, Pod, Uncounted};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The state to write, and what it allows.
#[derive(Debug)]
pub struct Tracked {
    pub status: JobStatus,
    /// Their finalizers go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// Written when all is counted.
    pub verdict: Option<Verdict>,
    /// `Suspended` or `Resumed`.
    pub event: Option<&'static str>,
    now: Timestamp,
    complete: bool,
}

impl Round<'_> {
    /// The status with what ended, before the finalizers go.
    pub fn track(&self, decision: &Decision, outcome: Outcome) -> Tracked {
        let mut status = self.job.status.clone();
        if status.start_time.is_none() && !self.job.is_suspended() {
            status.start_time = Some(self.now);
        }
        let active = size(&self.active) + outcome.created - outcome.deleted;
        status.active = active;
        let ready = self.active.iter().filter(|pod| pod.is_ready()).count();
        status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX) - outcome.deleted_ready);
        status.terminating = Some(self.terminating + outcome.deleted);
        let mut verdict = decision.verdict.clone().filter(|_| !outcome.failed);
        let mut event = None;
        if decision.verdict.is_none() {
            let enough = match self.job.spec.completions {
                None => self.succeeded > 0,
                Some(completions) => self.succeeded >= completions,
            };
            if enough && active == 0 {
                let text = "Reached expected number of succeeded pods";
                verdict = Some(Verdict::new(true, "CompletionsReached", text));
            } else if decision.managed {
                event = self.suspend(&mut status);
            }
        }
        let before = self.job.status.uncounted_terminated_pods.clone();
        self.forget_released(&mut status);
        let (release, complete) = self.count(&mut status, &before, verdict.as_ref());
        if let Some((_, indexes)) = &self.indexes {
            status.succeeded = indexes.total();
            status.completed_indexes = indexes.to_string().into();
            status.failed_indexes = self.failed_indexes.as_ref().map(|failed| failed.to_string().into());
        }
        if let Some(verdict) = &verdict {
            let interim = verdict.conditions().0;
            if !status.conditions.iter().any(|condition| condition["type"] == interim && condition["status"] == "True")
            {
                status.conditions.push(condition(interim, "True", &verdict.reason, &verdict.message, self.now));
            }
        }
        Tracked { status, release, verdict, event, now: self.now, complete }
    }

    fn suspend(&self, status: &mut JobStatus) -> Option<&'static str> {
        if self.job.is_suspended() {
            if !ensure(&mut status.conditions, "Suspended", "True", "JobSuspended", "Job suspended", self.now) {
                return None;
            }
            status.start_time = None;
            return Some("Suspended");
        }
        if !ensure(&mut status.conditions, "Suspended", "False", "JobResumed", "Job resumed", self.now) {
            return None;
        }
        // The deadline does not run while it is suspended.
        status.start_time = Some(self.now);
        Some("Resumed")
    }

    /// Pods whose finalizers are gone move from the lists into the counters.
    fn forget_released(&self, status: &mut JobStatus) {
        let there: BTreeSet<&str> =
            self.pods.iter().filter(|pod| has_finalizer(pod)).map(|pod| &*pod.meta.uid).collect();
        move_counted(status, |uid| there.contains(uid));
    }

    /// The pods that ended, into the lists; those whose finalizers may go, and whether that is all of them.
    fn count(&self, status: &mut JobStatus, before: &Uncounted, verdict: Option<&Verdict>) -> (Vec<Arc<Pod>>, bool) {
        let mut release = Vec::new();
        let mut counted = 0;
        let mut pods: Vec<&Arc<Pod>> = self.pods.iter().filter(|pod| has_finalizer(pod)).collect();
        if self.job.is_indexed() {
            pods.sort_by_key(|pod| index_of(pod));
        }
        for pod in pods {
            let failed = is_failed(self.job, pod);
            if !self.may_release(pod, failed, verdict.is_some()) {
                continue;
            }
            release.push(pod.clone());
            let lists = &mut status.uncounted_terminated_pods;
            let uid = &pod.meta.uid;
            let counts = !self.job.is_indexed() || self.valid_index(pod).is_some();
            if &*pod.phase == "Succeeded" && !before.failed.contains(uid) {
                match &self.indexes {
                    Some((earlier, _)) => {
                        counted += usize::from(self.valid_index(pod).is_some_and(|index| !earlier.has(index)));
                    }
                    None if !before.succeeded.contains(uid) => lists.succeeded.push(uid.clone()),
                    None => {}
                }
            } else if (failed || verdict.is_some_and(|verdict| !verdict.success))
                && counts
                && !before.failed.contains(uid)
                && policy::failure(self.job, pod) != Failure::Ignored
            {
                // When the Job is over, every pod that did not end well failed.
                lists.failed.push(uid.clone());
            }
            if counted + lists.succeeded.len() + lists.failed.len() >= LIMIT {
                return (release, false);
            }
        }
        (release, true)
    }

    fn may_release(&self, pod: &Pod, failed: bool, over: bool) -> bool {
        if self.job.meta.is_deleting() || over || &*pod.phase == "Succeeded" {
            return true;
        }
        let waits = index_of(pod).and_then(|index| self.delayed.get(&index));
        failed && waits.is_none_or(|waiting| waiting.meta.uid != pod.meta.uid)
    }
}

/// UIDs that are not `kept` in the lists are counted.
fn move_counted(status: &mut JobStatus, kept: impl Fn(&str) -> bool) {
    let lists = &mut status.uncounted_terminated_pods;
    for (list, counter) in [(&mut lists.succeeded, &mut status.succeeded), (&mut lists.failed, &mut status.failed)] {
        let before = list.len();
        list.retain(|uid| kept(uid));
        *counter = counter.saturating_add(i32::try_from(before - list.len()).unwrap_or(i32::MAX));
    }
}

impl Tracked {
    /// The status once the finalizers of `released` are gone; true: it is the last one.
    pub fn counted(&self, released: &[Arc<Pod>]) -> (JobStatus, bool) {
        let mut status = self.status.clone();
        let gone: BTreeSet<&str> = released.iter().map(|pod| &*pod.meta.uid).collect();
        move_counted(&mut status, |uid| !gone.contains(uid));
        let lists = &status.uncounted_terminated_pods;
        let all = lists.succeeded.is_empty() && lists.failed.is_empty() && status.terminating.unwrap_or_default() == 0;
        let Some(verdict) = self.verdict.as_ref().filter(|_| self.complete && all) else { return (status, false) };
        let last = verdict.conditions().1;
        ensure(&mut status.conditions, last, "True", &verdict.reason, &verdict.message, self.now);
        if verdict.success {
            status.completion_time = Some(self.now);
        }
        (status, true)
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let now = seconds(now);
    let mut condition = json!({ "type": kind, "status": status, "lastProbeTime": now, "lastTransitionTime": now });
    for (field, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            condition[field] = text.into();
        }
    }
    condition
}

/// Whether it was changed. What never was is not said to be false.
fn ensure(conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(found) if found["status"] == status && found["reason"] == reason && found["message"] == message => false,
        Some(found) => {
            *found = condition(kind, status, reason, message, now);
            true
        }
        None if status == "False" => false,
        None => {
            conditions.push(condition(kind, status, reason, message, now));
            true
        }
    }
}
