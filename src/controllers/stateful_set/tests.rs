//! Rounds played through by hand: plan, apply to the model, let pods become ready, plan again.

use super::claims::{Claims, Need, claim, give_owners, is_contested, is_of, needs};
use super::identity::{is_member, ordinal, pod};
use super::plan::{Plan, Revisions, Step, plan};
use super::{History, NAME, Objects, Recorder, StatefulSets, history, kinds, status_of};
use crate::runtime::views::{PersistentVolumeClaim, Pod, StatefulSet};
use crate::runtime::{Meta, Projection};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

impl Claims for BTreeMap<String, Value> {
    fn find(&self, _: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let claim = serde_json::from_value(self.get(name)?.clone()).expect("a claim");
        Some(Arc::new(PersistentVolumeClaim::project(claim)))
    }
}

/// The cluster, as far as a StatefulSet sees it.
struct Model {
    set: Value,
    pods: BTreeMap<String, Value>,
    claims: BTreeMap<String, Value>,
    update: &'static str,
    made: usize,
}

impl Model {
    fn new(spec: Value) -> Self {
        let mut set = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "set", "generation": 1 },
            "spec": {
                "replicas": 3, "serviceName": "web", "selector": { "matchLabels": { "app": "web" } },
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
                "template": { "metadata": { "labels": { "app": "web" } },
                              "spec": { "containers": [{ "name": "a", "image": "v1" }] } },
            },
        });
        for (field, value) in spec.as_object().expect("fields") {
            set["spec"][field] = value.clone();
        }
        Self { set, pods: BTreeMap::new(), claims: BTreeMap::new(), update: "web-1", made: 0 }
    }

    fn set(&self) -> StatefulSet {
        serde_json::from_value(self.set.clone()).expect("a set")
    }

    fn plan(&self) -> Plan {
        let set = self.set();
        let pods: Vec<Arc<Pod>> = self
            .pods
            .values()
            .map(|pod| Arc::new(Pod::project(serde_json::from_value(pod.clone()).expect("a pod"))))
            .collect();
        let current = if set.status.current_revision.is_empty() { self.update } else { &*set.status.current_revision };
        plan(&set, &pods, Revisions { current, update: self.update }, &self.claims, now())
    }

    /// One round; what it did, in words.
    fn sync(&mut self) -> String {
        let Plan { phases, status } = self.plan();
        let set = self.set();
        let current = set.status.current_revision.clone();
        self.set["status"] = status_of(&status);
        let mut said = Vec::new();
        for step in phases.into_iter().flatten() {
            match step {
                Step::Create { ordinal, updated } => {
                    let revision = if updated || current.is_empty() { self.update } else { &*current };
                    let mut pod = pod(&set, &set.spec.template, revision, ordinal);
                    self.made += 1;
                    pod["metadata"]["uid"] = format!("uid-{}", self.made).into();
                    pod["status"] = json!({ "phase": "Pending" });
                    for template in &set.spec.volume_claim_templates {
                        let claim = claim(&set, template, ordinal);
                        self.claims.entry(claim["metadata"]["name"].as_str().expect("a name").into()).or_insert(claim);
                    }
                    said.push(format!("+{ordinal}@{revision}"));
                    self.pods.insert(pod["metadata"]["name"].as_str().expect("a name").into(), pod);
                }
                Step::Delete(pod) => {
                    said.push(format!("-{}", ordinal(&pod.meta.name).expect("an ordinal")));
                    self.pods.get_mut(&*pod.meta.name).expect("it is there")["metadata"]["deletionTimestamp"] =
                        "2026-01-01T00:59:00Z".into();
                }
                Step::Claims(pod) => said.push(format!("claims of {}", pod.meta.name)),
                Step::Mend(pod) => said.push(format!("mend {}", pod.meta.name)),
            }
        }
        said.join(" ")
    }

    fn ready(&mut self, name: &str, since: &str) {
        self.pods.get_mut(name).expect("it is there")["status"] = json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": since }],
        });
    }

    /// New pods become ready, and deleted ones go.
    fn settle(&mut self) {
        self.pods.retain(|_, pod| pod["metadata"]["deletionTimestamp"].is_null());
        for name in self.pods.keys().cloned().collect::<Vec<_>>() {
            if self.pods[&name]["status"]["phase"] == "Pending" {
                self.ready(&name, "2026-01-01T00:00:00Z");
            }
        }
    }

    /// Rounds until nothing is done any more.
    fn run(&mut self) -> Vec<String> {
        let mut rounds = Vec::new();
        loop {
            let said = self.sync();
            if said.is_empty() {
                return rounds;
            }
            rounds.push(said);
            self.settle();
        }
    }
}

#[test]
fn in_order_each_waits_for_the_one_before() {
    let mut model = Model::new(json!({}));
    assert_eq!(model.sync(), "+0@web-1");
    assert_eq!(model.sync(), "", "it is not ready yet");
    model.settle();
    assert_eq!(model.run(), ["+1@web-1", "+2@web-1"]);
    assert_eq!(
        model.set["status"],
        json!({
            "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3,
            "updatedReplicas": 3, "currentRevision": "web-1", "updateRevision": "web-1", "collisionCount": 0,
        })
    );
    let pod = &model.pods["web-1"];
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-1"), &json!("web")));
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "web", "controller-revision-hash": "web-1",
            "apps.kubernetes.io/pod-index": "1", "statefulset.kubernetes.io/pod-name": "web-1",
        })
    );
    // Down again, the highest first; one that is unready waits for those below it to be well.
    model.set["spec"]["replicas"] = 0.into();
    for name in ["web-1", "web-2"] {
        model.pods.get_mut(name).expect("it is there")["status"]["conditions"][0]["status"] = "False".into();
    }
    assert_eq!(model.sync(), "", "web-2 stays until web-1 is healthy");
    model.ready("web-2", "2026-01-01T00:00:00Z");
    assert_eq!(model.run(), ["-2", "-1", "-0"]);
}

#[test]
fn in_parallel_none_waits() {
    let mut model = Model::new(json!({ "podManagementPolicy": "Parallel", "ordinals": { "start": 5 } }));
    assert_eq!(model.run(), ["+5@web-1 +6@web-1 +7@web-1"]);
    model.set["spec"]["replicas"] = 1.into();
    assert_eq!(model.run(), ["-7 -6"]);
}

#[test]
fn pods_are_made_before_others_go() {
    let mut model = Model::new(json!({ "podManagementPolicy": "Parallel" }));
    model.run();
    model.pods.remove("web-0");
    model.set["spec"]["replicas"] = 2.into();
    model.update = "web-2";
    let phases = model.plan().phases;
    let begun = phases.iter().filter(|phase| !phase.is_empty()).map(|phase| match phase.as_slice() {
        [Step::Create { ordinal, .. }] => format!("+{ordinal}"),
        [Step::Delete(pod)] => format!("-{}", ordinal(&pod.meta.name).expect("an ordinal")),
        other => panic!("one step each: {other:?}"),
    });
    assert_eq!(begun.collect::<Vec<_>>(), ["+0", "-2", "-1"], "a creation that fails ends the round before them");
}

#[test]
fn an_update_goes_down_from_the_highest() {
    let mut model = Model::new(json!({}));
    model.run();
    model.update = "web-2";
    assert_eq!(model.sync(), "-2");
    assert_eq!(model.set["status"]["currentReplicas"], 2, "the deleted one is counted off at once");
    model.settle();
    assert_eq!(model.run(), ["+2@web-2", "-1", "+1@web-2", "-0", "+0@web-2"]);
    let status = &model.set["status"];
    assert_eq!((&status["currentRevision"], &status["currentReplicas"]), (&json!("web-2"), &json!(3)));
}

#[test]
fn a_partition_stays_as_it_is() {
    let mut model = Model::new(json!({}));
    model.run();
    model.update = "web-2";
    model.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 2.into();
    assert_eq!(model.run(), ["-2", "+2@web-2"]);
    assert_eq!(model.set["status"]["currentRevision"], "web-1");
    // One below it that is lost comes back as it was.
    model.pods.remove("web-0");
    assert_eq!(model.run(), ["+0@web-1"]);
    // And by hand only:
    model.set["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    assert_eq!(model.run(), Vec::<String>::new());
    model.pods.remove("web-1");
    assert_eq!(model.run(), ["+1@web-2"]);
}

#[test]
fn amid_an_update_a_lost_pod_comes_back_as_it_was() {
    let mut model = Model::new(json!({ "updateStrategy": { "type": "RollingUpdate" } }));
    model.run();
    model.update = "web-2";
    assert_eq!(model.sync(), "-2");
    model.settle();
    assert_eq!(model.sync(), "+2@web-2");
    model.pods.remove("web-0");
    assert_eq!(model.sync(), "+0@web-1");
    model.settle();
    assert_eq!(model.run(), ["-1", "+1@web-2", "-0", "+0@web-2"]);
}

#[test]
fn a_pod_that_ended_is_made_again() {
    for phase in ["Failed", "Succeeded"] {
        let mut model = Model::new(json!({ "replicas": 2 }));
        model.run();
        model.pods.get_mut("web-0").expect("it is there")["status"] = json!({ "phase": phase });
        assert_eq!(model.run(), ["-0", "+0@web-1"], "{phase}");
    }
}

#[test]
fn available_is_ready_for_long_enough() {
    let mut model = Model::new(json!({ "minReadySeconds": 10 }));
    model.sync();
    model.ready("web-0", "2026-01-01T00:59:55Z");
    assert_eq!(model.sync(), "", "five seconds are not ten");
    let status = &model.set["status"];
    assert_eq!((&status["readyReplicas"], &status["availableReplicas"]), (&json!(1), &json!(0)));
    model.ready("web-0", "2026-01-01T00:59:50Z");
    assert_eq!(model.sync(), "+1@web-1");
}

#[test]
fn a_set_that_goes_only_counts() {
    let mut model = Model::new(json!({}));
    model.run();
    model.set["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    model.pods.remove("web-2");
    assert_eq!(model.sync(), "");
    assert_eq!(model.set["status"]["replicas"], 2);
}

fn with_claims(policy: Value) -> Model {
    Model::new(json!({
        "replicas": 1,
        "volumeClaimTemplates": [{ "metadata": { "name": "data", "labels": { "tier": "db" } }, "status": { "phase": "Pending" } }],
        "persistentVolumeClaimRetentionPolicy": policy,
    }))
}

#[test]
fn claims_are_of_a_place() {
    let mut model = with_claims(json!({}));
    model.run();
    let volume = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data-web-0" } }]);
    assert_eq!(model.pods["web-0"]["spec"]["volumes"], volume);
    let claim = &model.claims["data-web-0"];
    assert_eq!(claim["metadata"]["labels"], json!({ "tier": "db", "app": "web" }));
    assert!(claim.get("status").is_none(), "{claim}");
    assert!(is_of(&model.set(), "data-web-0") && !is_of(&model.set(), "data-web-x") && !is_of(&model.set(), "web-0"));
    // One that lost its labels gets them again; one that waits gets its claim again.
    model.pods.get_mut("web-0").expect("it is there")["metadata"]["labels"] = json!({ "app": "web" });
    assert_eq!(model.sync(), "mend web-0 -0", "without its label it is of no version, too");
    let mut model = with_claims(json!({}));
    model.sync();
    model.claims.clear();
    assert_eq!(model.sync(), "claims of web-0");
    // The owners of a claim are its pod's affair while that stays.
    let mut model = with_claims(json!({}));
    model.run();
    model.set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({ "whenDeleted": "Delete" });
    assert_eq!(model.sync(), "mend web-0");
    model.set["spec"]["replicas"] = 0.into();
    assert_eq!(model.sync(), "claims of web-0 -0");
}

#[test]
fn who_owns_a_claim_is_the_policy_s() {
    let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "set",
                      "controller": true, "blockOwnerDeletion": true });
    let pod = |ordinal: i32| {
        json!({ "apiVersion": "v1", "kind": "Pod", "name": format!("web-{ordinal}"), "uid": "pod",
                "controller": true, "blockOwnerDeletion": true })
    };
    let keep = |owners: Vec<Value>| Some(Need::Owners { references: owners, conflict: false });
    let check = |deleted: &str, scaled: &str, ordinal: i32, owners: Value| {
        let mut model = with_claims(json!({ "whenDeleted": deleted, "whenScaled": scaled }));
        let name = format!("data-web-{ordinal}");
        model.claims.insert(name.clone(), json!({ "metadata": { "name": name, "ownerReferences": owners } }));
        let set = model.set();
        let meta = Meta { uid: "pod".into(), ..Meta::default() };
        needs(&set, ordinal, Some(&meta), &model.claims).pop().map(|(_, need)| need)
    };
    // 0 is in the range of the set, 1 was scaled away.
    for (deleted, scaled, ordinal, owners) in [
        ("Retain", "Retain", 0, vec![]),
        ("Retain", "Retain", 1, vec![]),
        ("Delete", "Retain", 0, vec![set.clone()]),
        ("Delete", "Retain", 1, vec![set.clone()]),
        ("Retain", "Delete", 0, vec![]),
        ("Retain", "Delete", 1, vec![pod(1)]),
        ("Delete", "Delete", 0, vec![set.clone()]),
        ("Delete", "Delete", 1, vec![pod(1)]),
    ] {
        let said = format!("{deleted} {scaled} {ordinal}");
        assert_eq!(check(deleted, scaled, ordinal, json!(owners)), None, "{said}: it is right");
        let before = if owners.is_empty() { vec![set.clone()] } else { vec![] };
        assert_eq!(check(deleted, scaled, ordinal, json!(before)), keep(owners), "{said}");
    }
    // An owner that does not control it does, afterwards.
    let mut bare = set.clone();
    bare.as_object_mut().expect("an object").retain(|field, _| field != "controller");
    assert_eq!(check("Delete", "Retain", 0, json!([bare])), keep(vec![set.clone()]));
    // Of an earlier set of this name: not ours to touch.
    let mut earlier = set.clone();
    earlier["uid"] = "earlier".into();
    assert_eq!(check("Delete", "Retain", 0, json!([earlier])), None);
    // Somebody else controls it: our references go, and none comes.
    let other = json!({ "apiVersion": "v1", "kind": "Widget", "name": "w", "uid": "w", "controller": true });
    assert_eq!(check("Delete", "Retain", 0, json!([other])), None);
    let expected = Need::Owners { references: vec![other.clone()], conflict: true };
    assert_eq!(check("Delete", "Retain", 0, json!([other, set])), Some(expected));
    // Who has come to own it since the cache saw it stays.
    let mut live = json!({ "metadata": { "name": "data-web-0", "ownerReferences": [{ "apiVersion": "v1",
        "kind": "Widget", "name": "w", "uid": "w" }] } });
    let wants = with_claims(json!({ "whenDeleted": "Delete" })).set();
    assert!(give_owners(&wants, 0, None, &mut live));
    let owners = live["metadata"]["ownerReferences"].as_array().expect("a list");
    assert_eq!(owners.iter().map(|owner| owner["uid"].as_str().expect("a uid")).collect::<Vec<_>>(), ["w", "set"]);
    assert!(!give_owners(&wants, 0, None, &mut live), "nothing is left to do");
    // Which is told of, as is an earlier set; not where the policy wants nothing.
    let contested = |deleted: &str, owners: Value| {
        let claim = serde_json::from_value(json!({ "ownerReferences": owners })).expect("metadata");
        is_contested(&with_claims(json!({ "whenDeleted": deleted })).set(), 0, None, &claim)
    };
    for (deleted, owner, expected) in [
        ("Delete", &other, true),
        ("Delete", &earlier, true),
        ("Delete", &set, false),
        ("Delete", &pod(0), true),
        ("Retain", &other, false),
    ] {
        assert_eq!(contested(deleted, json!([owner])), expected, "{deleted} {owner}");
    }
}

#[test]
fn a_new_pod_waits_for_the_end_of_the_old_one_s_claim() {
    let mut model = with_claims(json!({ "whenScaled": "Delete" }));
    let old = json!({ "apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "earlier", "controller": true });
    model.claims.insert("data-web-0".into(), json!({ "metadata": { "ownerReferences": [old] } }));
    assert_eq!(model.sync(), "");
    model.claims.clear();
    assert_eq!(model.sync(), "+0@web-1");
    // One that only goes is told of.
    model.claims.insert(
        "data-web-0".into(),
        json!({ "metadata": { "name": "data-web-0", "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
    );
    let set = model.set();
    assert_eq!(needs(&set, 0, None, &model.claims).pop().map(|(_, need)| need), Some(Need::Gone));
}

/// A claim that exists and is not in the cache yet may be on its way out: the pod waits for what the cache will say.
#[tokio::test]
async fn a_claim_that_is_not_yet_seen_stops_its_pod() {
    let answer = |_: http::Request<kube::client::Body>| async {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
            "reason": "AlreadyExists", "message": "persistentvolumeclaims \"data-web-0\" already exists" });
        let body = axum::body::Body::from(status.to_string());
        Ok::<_, std::convert::Infallible>(http::Response::builder().status(409).body(body).expect("an answer"))
    };
    let objects = Objects::new(kube::Client::new(tower::service_fn(answer), "default"), "test");
    let history =
        History { objects: objects.clone(), revisions: Arc::default(), kind: kinds::STATEFUL_SETS, label: "hash" };
    let controller = StatefulSets {
        recorder: Recorder::new(objects.clone(), NAME, ""),
        history,
        objects,
        expectations: Arc::default(),
        sets: Arc::default(),
        pods: Arc::default(),
        claims: Arc::default(),
    };
    let set = with_claims(json!({})).set();
    let error = controller.make_claims(&set, "web-0", 0).await.expect_err("it is not there to be seen");
    let text = "failed to create PVC data-web-0: persistentvolumeclaims \"data-web-0\" already exists";
    assert_eq!(error.to_string(), text);
}

#[test]
fn names_say_set_and_place() {
    assert_eq!(ordinal("web-0"), Some(0));
    assert_eq!(ordinal("web-10"), Some(10));
    assert_eq!(ordinal("web"), None);
    assert_eq!(ordinal("web-x"), None);
    assert_eq!(ordinal("web-99999999999"), None);
    assert!(is_member("my-web", "my-web-3") && !is_member("my", "my-web-3"));
}

#[test]
fn a_revision_brings_its_template_back() {
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } });
    let revision = json!({ "metadata": { "name": "web-1" }, "data": history::data(&template), "revision": 1 });
    let revision = crate::runtime::views::ControllerRevision::project(serde_json::from_value(revision).expect("one"));
    assert_eq!(history::template(&revision), template);
}
