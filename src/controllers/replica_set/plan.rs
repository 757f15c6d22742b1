//! How many pods to make, which to delete, and what the status says: pure.

use crate::controllers::deletion_order::order_for_deletion;
use crate::runtime::Condition;
use crate::runtime::views::{Pod, ReplicaSet};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// At most so many creations or deletions at a time.
const BURST: usize = 500;

#[derive(Debug)]
pub enum Change {
    None,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// `pods`: those the set owns. `related`: those of its siblings too.
pub fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Change {
    let mut active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = usize::try_from(set.replicas()).unwrap_or_default();
    if active.len() < wanted {
        return Change::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Change::None;
    }
    if surplus < active.len() {
        order_for_deletion(&mut active, related, now);
    }
    active.truncate(surplus);
    Change::Delete(active)
}

/// Why pods could not be made or deleted: the condition ReplicaFailure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    reason: &'static str,
    message: String,
}

impl Failure {
    pub fn create(message: String) -> Self {
        Self { reason: "FailedCreate", message }
    }

    pub fn delete(message: String) -> Self {
        Self { reason: "FailedDelete", message }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// None: this kind does not say.
    pub terminating: Option<i32>,
    pub conditions: Vec<Condition>,
}

pub fn status(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<&Failure>, now: Timestamp) -> Status {
    let mut status = Status {
        replicas: 0,
        fully_labeled: 0,
        ready: 0,
        available: 0,
        terminating: None,
        conditions: set.status.conditions.clone(),
    };
    let labels = set.spec.template["metadata"]["labels"].as_object();
    let mut terminating = 0;
    for pod in pods {
        if pod.meta.is_deleting() && !pod.is_terminal() {
            terminating += 1;
        }
        if !pod.is_active() {
            continue;
        }
        status.replicas += 1;
        let labeled =
            labels.is_none_or(|labels| labels.iter().all(|(key, value)| pod.meta.label(key) == value.as_str()));
        status.fully_labeled += i32::from(labeled);
        status.ready += i32::from(pod.is_ready());
        status.available += i32::from(pod.is_available(set.spec.min_ready_seconds, now));
    }
    status.terminating = Some(terminating);
    let before = Condition::find(&set.status.conditions, "ReplicaFailure").is_some();
    match failure {
        Some(failure) if !before => status.conditions.push(Condition {
            kind: "ReplicaFailure".into(),
            status: "True".into(),
            reason: failure.reason.into(),
            message: failure.message.as_str().into(),
            last_transition_time: Some(now),
            ..Condition::default()
        }),
        None if before => status.conditions.retain(|condition| &*condition.kind != "ReplicaFailure"),
        _ => {}
    }
    status
}

impl Status {
    /// The status to write; None: it is there already.
    pub fn changes(&self, set: &ReplicaSet) -> Option<Value> {
        let old = &set.status;
        let same = self.replicas == old.replicas
            && self.fully_labeled == old.fully_labeled_replicas
            && self.ready == old.ready_replicas
            && self.available == old.available_replicas
            && self.terminating == old.terminating_replicas
            && self.conditions == old.conditions
            && set.meta.generation == old.observed_generation;
        if same {
            return None;
        }
        let mut status = json!({
            "replicas": self.replicas,
            "observedGeneration": set.meta.generation,
        });
        if let Some(terminating) = self.terminating {
            status["terminatingReplicas"] = terminating.into();
        }
        for (field, value) in [
            ("fullyLabeledReplicas", self.fully_labeled),
            ("readyReplicas", self.ready),
            ("availableReplicas", self.available),
        ] {
            if value != 0 {
                status[field] = value.into();
            }
        }
        if !self.conditions.is_empty() {
            status["conditions"] = self.conditions.iter().map(Condition::wire).collect();
        }
        Some(status)
    }
}

/// When the next ready pod becomes available by the passing of time alone.
pub fn next_look(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    pods.iter().filter_map(|pod| pod.available_in(set.spec.min_ready_seconds, now)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "rs", "generation": 2 },
            "spec": { "replicas": replicas, "template": { "metadata": { "labels": { "app": "web" } } } },
        }))
        .expect("a ReplicaSet")
    }

    fn pod(name: &str, phase: &str, ready: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": { "name": name, "uid": name, "labels": { "app": "web" }, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "nodeName": "n1" },
            "status": { "phase": phase, "conditions": [
                { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:10Z" }] },
        });
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    }

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    #[test]
    fn finished_pods_are_replaced() {
        let pods = [pod("a", "Running", "True"), pod("b", "Failed", "False")];
        assert!(matches!(plan(&set(2), &pods, &pods, now()), Change::Create(1)));
        assert!(matches!(plan(&set(1), &pods, &pods, now()), Change::None));
    }

    #[test]
    fn the_surplus_goes_and_the_unready_first() {
        let pods = [pod("a", "Running", "True"), pod("b", "Running", "False"), pod("c", "Running", "True")];
        let Change::Delete(victims) = plan(&set(2), &pods, &pods, now()) else { panic!("deletes") };
        let names: Vec<&str> = victims.iter().map(|pod| &*pod.meta.name).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn a_burst_is_bounded() {
        assert!(matches!(plan(&set(2000), &[], &[], now()), Change::Create(500)));
    }

    #[test]
    fn a_written_status_is_not_written_again() {
        let pods = [pod("a", "Running", "True"), pod("b", "Pending", "False")];
        let mut set = set(2);
        let next = status(&set, &pods, None, now()).changes(&set).expect("differs");
        assert_eq!(
            next,
            json!({ "replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1, "availableReplicas": 1,
                    "terminatingReplicas": 0, "observedGeneration": 2 })
        );
        set.status = serde_json::from_value(next).expect("a status");
        assert_eq!(status(&set, &pods, None, now()).changes(&set), None);
    }

    #[test]
    fn a_failure_becomes_a_condition_and_leaves() {
        let mut set = set(1);
        let failure = Failure::create("exceeded quota".into());
        let next = status(&set, &[], Some(&failure), now()).changes(&set).expect("differs");
        assert_eq!(next["conditions"][0]["reason"], "FailedCreate");
        set.status = serde_json::from_value(next).expect("a status");
        assert_eq!(status(&set, &[], Some(&failure), now()).changes(&set), None);
        let next = status(&set, &[], None, now()).changes(&set).expect("differs");
        assert_eq!(next.get("conditions"), None);
    }

    #[test]
    fn looks_again_when_a_pod_becomes_available() {
        let mut set = set(1);
        set.spec.min_ready_seconds = 60;
        let pods = [pod("a", "Running", "True")];
        assert_eq!(next_look(&set, &pods, now()), Some(Duration::from_secs(10)));
    }
}
