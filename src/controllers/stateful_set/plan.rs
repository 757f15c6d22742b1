//! Which pods to make, mend and delete, and what the status says: pure.
//!
//! In order (`OrderedReady`) a round ends at the first pod that the others wait for; in parallel
//! all are seen to at once. Updates go from the highest ordinal down, one pod at a time.
//! Source: `pkg/controller/statefulset`.

use super::claims::{self, Claims, Need};
use super::identity::{in_range, is_itself, ordinal};
use crate::controllers::history::HASH_LABEL;
use crate::runtime::views::{Pod, StatefulSet, StatefulSetStatus};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

/// The two versions between which an update goes; names of revisions.
#[derive(Clone, Copy, Debug)]
pub struct Revisions<'a> {
    pub current: &'a str,
    pub update: &'a str,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A pod of the current or the new version, with its claims.
    Create {
        ordinal: i32,
        updated: bool,
    },
    /// See to the claims of a pod that waits for them, or that goes.
    Claims(Arc<Pod>),
    /// Its labels, its volumes or the owners of its claims are not those of its place.
    Mend(Arc<Pod>),
    Delete(Arc<Pod>),
}

/// A phase begins when all steps of the one before are done: pods are made before others go. `status` is as the
/// cluster is now, without what the steps change.
#[derive(Debug)]
pub struct Plan {
    pub phases: Vec<Vec<Step>>,
    pub status: StatefulSetStatus,
}

pub fn plan(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: Revisions<'_>,
    claims: &impl Claims,
    now: Timestamp,
) -> Plan {
    let mut status = status(set, pods, revisions, now);
    let (current, phases) = (status.current_replicas, vec![Vec::new()]);
    let mut round = Round { set, revisions, current, claims, now, phases, ordered: is_ordered(set) };
    if !set.meta.is_deleting() {
        let taken = round.run(pods);
        status.current_replicas -= taken;
    }
    if &*set.spec.update_strategy.kind == "RollingUpdate" {
        complete(set, &mut status);
    }
    Plan { phases: round.phases, status }
}

pub fn is_ordered(set: &StatefulSet) -> bool {
    &*set.spec.pod_management_policy != "Parallel"
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    &*pod.phase == "Running" && pod.is_ready()
}

/// The round of one reconcile; a phase that returns false ends it.
struct Round<'a, C> {
    set: &'a StatefulSet,
    revisions: Revisions<'a>,
    /// So many pods are of the current version.
    current: i32,
    claims: &'a C,
    now: Timestamp,
    phases: Vec<Vec<Step>>,
    ordered: bool,
}

impl<C: Claims> Round<'_, C> {
    /// How many pods of the current version are deleted for the update.
    fn run(&mut self, pods: &[Arc<Pod>]) -> i32 {
        let set = self.set;
        let start = set.spec.ordinals.start;
        let mut places: Vec<Option<&Arc<Pod>>> = vec![None; usize::try_from(replicas(set)).unwrap_or_default()];
        let mut condemned = Vec::new();
        for pod in pods {
            let Some(ordinal) = ordinal(&pod.meta.name) else { continue };
            if in_range(set, ordinal) {
                places[usize::try_from(ordinal - start).unwrap_or_default()] = Some(pod);
            } else {
                condemned.push(pod);
            }
        }
        condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(&pod.meta.name)));
        // The first that holds up the others; one that is not there holds up every condemned one.
        let first = places.iter().copied().find(|place| place.is_none_or(|pod| self.is_unavailable(pod)));
        let lowest = || condemned.iter().rev().copied().find(|pod| self.is_unavailable(pod));
        let first = first.unwrap_or_else(lowest);
        let living = (start..).zip(&places).all(|(ordinal, place)| self.replica(ordinal, *place));
        if !living {
            return 0;
        }
        self.phases.push(Vec::new());
        for pod in &condemned {
            if self.owners_are_wrong(pod) {
                self.add(Step::Claims((*pod).clone()));
            }
        }
        self.phases.push(Vec::new());
        if !condemned.iter().all(|pod| self.condemn(pod, first)) {
            return 0;
        }
        self.phases.push(Vec::new());
        self.update(&places)
    }

    /// To the phase that was begun last.
    fn add(&mut self, step: Step) {
        self.phases.last_mut().expect("one was begun").push(step);
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.meta.is_deleting() || !self.is_available(pod)
    }

    /// One that is to be there. False: what comes after it waits.
    fn replica(&mut self, ordinal: i32, place: Option<&Arc<Pod>>) -> bool {
        let Some(pod) = place else {
            if claims::is_stale(self.set, ordinal, self.claims) {
                return !self.ordered;
            }
            let updated = self.is_made_new(ordinal);
            self.add(Step::Create { ordinal, updated });
            return !self.ordered;
        };
        if pod.is_terminal() {
            // Whatever its end: it is to run again.
            if !pod.meta.is_deleting() {
                self.add(Step::Delete(pod.clone()));
            }
            return !self.ordered;
        }
        let waits = &*pod.phase == "Pending";
        if waits && !self.needs(pod).is_empty() {
            self.add(Step::Claims(pod.clone()));
        }
        if self.ordered && (pod.meta.is_deleting() || !is_running_and_ready(pod) || !self.is_available(pod)) {
            return false;
        }
        if !is_itself(self.set, pod) || (!waits && self.owners_are_wrong(pod)) {
            self.add(Step::Mend(pod.clone()));
        }
        true
    }

    /// Whether a new pod of this place is of the new version: those below the partition are not. Where there is no
    /// `rollingUpdate` it lies behind as many places as there are pods of the current version.
    fn is_made_new(&self, ordinal: i32) -> bool {
        let strategy = &self.set.spec.update_strategy;
        let partition = match strategy.rolling_update.partition {
            Some(partition) => partition,
            None if &*strategy.kind == "RollingUpdate" => self.current,
            None => 0,
        };
        ordinal >= self.set.spec.ordinals.start.saturating_add(partition)
    }

    fn needs(&self, pod: &Pod) -> Vec<(&Value, Need)> {
        ordinal(&pod.meta.name)
            .map_or_else(Vec::new, |ordinal| claims::needs(self.set, ordinal, Some(&pod.meta), self.claims))
    }

    fn owners_are_wrong(&self, pod: &Pod) -> bool {
        self.needs(pod).iter().any(|(_, need)| matches!(need, Need::Owners { .. }))
    }

    /// One that is to go. False: what comes after it waits.
    fn condemn(&mut self, pod: &Arc<Pod>, first: Option<&Arc<Pod>>) -> bool {
        if pod.meta.is_deleting() {
            return !self.ordered;
        }
        let is_first = first.is_some_and(|first| first.meta.uid == pod.meta.uid);
        let healthy = is_running_and_ready(pod) && self.is_available(pod);
        if !self.ordered || healthy || is_first {
            self.add(Step::Delete(pod.clone()));
        }
        !self.ordered
    }

    /// Delete the highest pod of the old version, once all above it are of the new one and available.
    fn update(&mut self, places: &[Option<&Arc<Pod>>]) -> i32 {
        let strategy = &self.set.spec.update_strategy;
        if &*strategy.kind == "OnDelete" {
            return 0;
        }
        let lowest = usize::try_from(strategy.rolling_update.partition.unwrap_or_default()).unwrap_or_default();
        for place in places.iter().skip(lowest).rev() {
            // Just made.
            let Some(pod) = place else { return 0 };
            if pod.meta.label(HASH_LABEL) != Some(self.revisions.update) && !pod.meta.is_deleting() {
                self.add(Step::Delete((*pod).clone()));
                return 1;
            }
            if self.is_unavailable(pod) {
                return 0;
            }
        }
        0
    }
}

fn status(set: &StatefulSet, pods: &[Arc<Pod>], revisions: Revisions<'_>, now: Timestamp) -> StatefulSetStatus {
    let mut status = StatefulSetStatus {
        observed_generation: set.meta.generation,
        current_revision: revisions.current.into(),
        update_revision: revisions.update.into(),
        collision_count: Some(set.status.collision_count.unwrap_or_default()),
        ..StatefulSetStatus::default()
    };
    for pod in pods.iter().filter(|pod| ordinal(&pod.meta.name).is_some()) {
        status.replicas += 1;
        if is_running_and_ready(pod) {
            status.ready_replicas += 1;
            status.available_replicas += i32::from(pod.is_available(set.spec.min_ready_seconds, now));
        }
        if !pod.meta.is_deleting() {
            let revision = pod.meta.label(HASH_LABEL).unwrap_or_default();
            status.current_replicas += i32::from(revision == revisions.current);
            status.updated_replicas += i32::from(revision == revisions.update);
        }
    }
    status
}

/// An update is over when all pods are of the new version and ready.
fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let wanted = replicas(set);
    if [status.updated_replicas, status.ready_replicas, status.replicas].iter().all(|count| *count == wanted) {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
}
