//! Rollouts played through by hand: plan, apply to the model, let pods become ready, plan again.

use super::plan::{Change, plan};
use super::status_changes;
use super::working::{REVISION, Working};
use crate::runtime::views::{Deployment, DeploymentStatus, ReplicaSet};
use crate::runtime::{Condition, Meta};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "d", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": strategy,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "a", "image": "v1" }] } },
        },
    }))
    .expect("a Deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

/// The cluster, as far as a Deployment sees it.
struct Model {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    old_pods: bool,
    clock: i64,
}

impl Model {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), old_pods: false, clock: 0 }
    }

    /// Plan and apply; how many writes that took.
    fn sync(&mut self) -> usize {
        let plan = plan(&self.deployment, &self.sets, self.old_pods, now());
        let mut writes = plan.changes.len();
        for change in plan.changes {
            match change {
                Change::Create(working) => {
                    self.clock += 1;
                    let mut set = self.stored(&working);
                    set.meta.uid = format!("rs-{}", self.clock).into();
                    set.meta.creation_timestamp = Some(Timestamp::from_second(self.clock).expect("a time"));
                    self.sets.push(Arc::new(set));
                }
                Change::Update(working) => {
                    let set = Arc::new(self.stored(&working));
                    let place = self.sets.iter_mut().find(|other| other.meta.uid == set.meta.uid).expect("is there");
                    *place = set;
                }
                Change::Delete(set) => self.sets.retain(|other| other.meta.uid != set.meta.uid),
                Change::Revision(revision) => {
                    self.deployment.meta.annotations.insert(REVISION.into(), revision);
                }
            }
        }
        if status_changes(&self.deployment, &plan.status).is_some() {
            writes += 1;
            self.deployment.status = plan.status;
        }
        writes
    }

    fn stored(&self, working: &Working) -> ReplicaSet {
        let mut set = (*working.set).clone();
        set.meta.annotations = working.annotations.clone();
        set.spec.replicas = Some(working.replicas);
        set.spec.min_ready_seconds = working.min_ready_seconds;
        set
    }

    /// The ReplicaSet controller and the kubelet: all pods are made and ready.
    fn settle(&mut self) {
        for set in &mut self.sets {
            let mut next = (**set).clone();
            let replicas = next.replicas();
            next.status.replicas = replicas;
            next.status.ready_replicas = replicas;
            next.status.available_replicas = replicas;
            next.status.terminating_replicas = Some(0);
            *set = Arc::new(next);
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.replicas()).collect()
    }

    fn image(&mut self, image: &str) {
        let mut template = (*self.deployment.spec.template).clone();
        template["spec"]["containers"][0]["image"] = image.into();
        self.deployment.spec.template = Arc::new(template);
        self.deployment.meta.generation += 1;
    }

    /// Until nothing changes; the sizes seen on the way.
    fn run(&mut self) -> Vec<Vec<i32>> {
        let mut seen = Vec::new();
        for _ in 0..50 {
            let writes = self.sync();
            if seen.last() != Some(&self.sizes()) {
                seen.push(self.sizes());
            }
            self.settle();
            if writes == 0 {
                return seen;
            }
        }
        panic!("does not come to rest: {seen:?}");
    }

    fn progressing(&self) -> &str {
        Condition::find(&self.deployment.status.conditions, "Progressing").map_or("", |condition| &condition.reason)
    }
}

#[test]
fn a_new_deployment_gets_its_replica_set_and_rests() {
    let mut model = Model::new(deployment(3, rolling(json!("25%"), json!("25%"))));
    assert_eq!(model.run(), [[3]]);
    let set: &Meta = &model.sets[0].meta;
    assert!(set.name.starts_with("web-"));
    assert_eq!(set.label("pod-template-hash"), Some(&set.name["web-".len()..]));
    assert_eq!(set.annotation(REVISION), Some("1"));
    assert_eq!(set.annotation("deployment.kubernetes.io/desired-replicas"), Some("3"));
    assert_eq!(set.annotation("deployment.kubernetes.io/max-replicas"), Some("4"));
    assert_eq!(model.deployment.meta.annotation(REVISION), Some("1"));
    assert_eq!(model.progressing(), "NewReplicaSetAvailable");
    assert!(Condition::is_true(&model.deployment.status.conditions, "Available"));
    assert_eq!(model.sync(), 0, "a second reconcile changes nothing");
}

#[test]
fn a_rolling_update_stays_within_its_bounds() {
    let mut model = Model::new(deployment(4, rolling(json!(1), json!(1))));
    model.run();
    model.image("v2");
    let seen = model.run();
    assert_eq!(seen.last(), Some(&vec![0, 4]));
    for sizes in &seen {
        let total: i32 = sizes.iter().sum();
        assert!((3..=5).contains(&total), "{seen:?}");
    }
    assert_eq!(model.deployment.meta.annotation(REVISION), Some("2"));
}

#[test]
fn nothing_old_goes_before_the_new_is_available() {
    let mut model = Model::new(deployment(2, rolling(json!(1), json!(0))));
    model.run();
    model.image("v2");
    model.sync();
    assert_eq!(model.sizes(), [2, 1]);
    for _ in 0..3 {
        model.sync();
        assert_eq!(model.sizes(), [2, 1], "the new pod is not ready");
    }
    model.settle();
    model.sync();
    assert_eq!(model.sizes(), [1, 1]);
}

#[test]
fn a_rollback_takes_the_old_set_with_the_next_revision() {
    let mut model = Model::new(deployment(2, rolling(json!(1), json!(0))));
    model.run();
    model.image("v2");
    model.run();
    model.image("v1");
    model.run();
    assert_eq!(model.sizes(), [2, 0]);
    assert_eq!(model.sets[0].meta.annotation(REVISION), Some("3"));
    assert_eq!(model.sets[0].meta.annotation("deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(model.deployment.meta.annotation(REVISION), Some("3"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut model = Model::new(deployment(2, json!({ "type": "Recreate" })));
    model.run();
    model.image("v2");
    model.old_pods = true;
    model.sync();
    assert_eq!(model.sizes(), [0]);
    model.settle();
    model.sync();
    assert_eq!(model.sizes(), [0], "an old pod is still there");
    model.old_pods = false;
    model.run();
    assert_eq!(model.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = Model::new(deployment(2, rolling(json!(1), json!(0))));
    model.run();
    model.deployment.spec.paused = true;
    model.image("v2");
    model.deployment.spec.replicas = Some(5);
    model.run();
    assert_eq!(model.sizes(), [5]);
    assert_eq!(model.progressing(), "DeploymentPaused");
    model.deployment.spec.paused = false;
    model.run();
    assert_eq!(model.sizes(), [0, 5]);
}

#[test]
fn a_new_size_amid_a_rollout_is_shared_in_proportion() {
    let mut model = Model::new(deployment(10, rolling(json!(3), json!(2))));
    model.run();
    model.image("v2");
    model.sync();
    // 10 + 3 at most: the new one gets 3, the old one gives what is allowed to be unavailable, and
    // the new one takes that.
    model.sync();
    assert_eq!(model.sizes(), [8, 3]);
    model.sync();
    assert_eq!(model.sizes(), [8, 5]);
    model.deployment.spec.replicas = Some(20);
    model.deployment.meta.generation += 1;
    model.sync();
    assert_eq!(model.sizes().iter().sum::<i32>(), 23);
    assert_eq!(model.sizes(), [14, 9]);
}

#[test]
fn old_history_is_deleted() {
    let mut model = Model::new(deployment(1, rolling(json!(1), json!(0))));
    model.deployment.spec.revision_history_limit = Some(1);
    for version in ["v1", "v2", "v3", "v4"] {
        model.image(version);
        model.run();
    }
    let revisions: Vec<_> = model.sets.iter().filter_map(|set| set.meta.annotation(REVISION)).collect();
    assert_eq!(revisions, ["3", "4"]);
}

#[test]
fn a_rollout_that_stands_still_times_out() {
    let mut model = Model::new(deployment(1, rolling(json!(1), json!(0))));
    model.sync();
    model.sync();
    let later = now() + jiff::SignedDuration::from_secs(601);
    let plan = plan(&model.deployment, &model.sets, false, later);
    let condition = Condition::find(&plan.status.conditions, "Progressing").expect("is there");
    assert_eq!((&*condition.status, &*condition.reason), ("False", "ProgressDeadlineExceeded"));
    assert!(condition.message.ends_with("has timed out progressing."));
    let soon = super::status::next_look(&model.deployment, &model.deployment.status, now());
    assert_eq!(soon, Some(std::time::Duration::from_secs(601)));
}

#[test]
fn status_of_an_empty_deployment_round_trips() {
    let mut model = Model::new(deployment(0, rolling(json!("25%"), json!("25%"))));
    model.run();
    let next = DeploymentStatus { observed_generation: 9, ..model.deployment.status.clone() };
    let written = status_changes(&model.deployment, &next).expect("differs");
    assert_eq!(serde_json::from_value::<DeploymentStatus>(written).expect("a status"), next);
}
