//! StatefulSets: places, order, versions.

use crate::cluster::{TestCluster, deployment};
use orch::client::{DeleteOptions, kinds};
use serde_json::{Value, json};

fn stateful_set(name: &str, replicas: i32) -> Value {
    let template = deployment(name, 0)["spec"]["template"].clone();
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas, "serviceName": name, "selector": { "matchLabels": { "app": name } },
            "template": template,
        },
    })
}

async fn until(cluster: &TestCluster, name: &str, replicas: i64) -> Value {
    let what = format!("has {replicas} pods of the newest version, all ready");
    cluster
        .until_object(&kinds::STATEFUL_SETS, "default", name, &what, |live| {
            let status = &live["status"];
            let count = |field: &str| status[field].as_i64().unwrap_or_default() == replicas;
            status["observedGeneration"] == live["metadata"]["generation"]
                && ["replicas", "readyReplicas", "updatedReplicas", "currentReplicas"].into_iter().all(count)
                && status["currentRevision"] == status["updateRevision"]
        })
        .await
}

/// Names and images, by name.
async fn pods(cluster: &TestCluster) -> Vec<(String, String)> {
    let pods = cluster.list(&kinds::PODS, "default", "app=db").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> =
        pods.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["image"]))).collect();
    all.sort();
    all
}

fn version(names: &[&str], version: u32) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), format!("registry.example/app:{version}"))).collect()
}

#[tokio::test]
async fn its_pods_have_places_and_versions() {
    let cluster = TestCluster::with_node("n1").await;
    let mut set = stateful_set("db", 2);
    let template = json!({ "metadata": { "name": "data" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    set["spec"]["volumeClaimTemplates"] = json!([template]);
    set["spec"]["revisionHistoryLimit"] = 1.into();
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({ "whenScaled": "Delete", "whenDeleted": "Delete" });
    // Nobody provides volumes here: the claims are bound by hand, as far as the pods need it.
    set["spec"]["template"]["spec"]["nodeName"] = "n1".into();
    cluster.create(&kinds::STATEFUL_SETS, "default", set).await;
    let live = until(&cluster, "db", 2).await;
    assert_eq!(pods(&cluster).await, version(&["db-0", "db-1"], 1));
    let pod = cluster.find(&kinds::PODS, "default", "db-1").await.expect("it is there");
    assert_eq!(pod["metadata"]["generateName"], "db-");
    assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], live["status"]["currentRevision"]);
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-db-1");
    let text = "Create Pod db-0 in StatefulSet db successful";
    let said: Vec<Value> = cluster.list(&kinds::EVENTS, "default", "").await;
    assert!(said.iter().any(|event| event["message"] == text), "{said:#?}");
    let claim = cluster.find(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-1").await.expect("a claim");
    assert_eq!(claim["metadata"]["labels"], json!({ "app": "db" }));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");

    // A new version; the old one's revision stays, the one before goes.
    for next in [2, 3] {
        let image = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image",
                             "value": format!("registry.example/app:{next}") }]);
        let json = orch::client::Patch::Json;
        cluster.admin.patch(&kinds::STATEFUL_SETS, "default", "db", "", json, &image).await.expect("patched");
        until(&cluster, "db", 2).await;
        assert_eq!(pods(&cluster).await, version(&["db-0", "db-1"], next));
    }
    cluster.settle().await;
    let revisions = cluster.list(&kinds::CONTROLLER_REVISIONS, "default", "app=db").await;
    let mut numbers: Vec<_> = revisions.iter().filter_map(|one| one["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    assert!(revisions.iter().all(|one| one["metadata"]["labels"]["controller.kubernetes.io/hash"].is_string()));

    // Scaled down: the claim is its pod's, and goes with it.
    cluster.patch(&kinds::STATEFUL_SETS, "default", "db", json!({ "spec": { "replicas": 1 } })).await;
    cluster.until_gone(&kinds::PODS, "default", "db-1").await;
    cluster.until_gone(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-1").await;
    until(&cluster, "db", 1).await;
    // A pod that is deleted is made again, in its place.
    cluster.delete(&kinds::PODS, "default", "db-0", DeleteOptions::default()).await;
    until(&cluster, "db", 1).await;
    assert_eq!(pods(&cluster).await, version(&["db-0"], 3));
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    cluster.delete(&kinds::STATEFUL_SETS, "default", "db", DeleteOptions::default()).await;
    cluster.until_gone(&kinds::STATEFUL_SETS, "default", "db").await;
    cluster.until_gone(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0").await;
}

#[tokio::test]
async fn a_pod_that_ended_is_made_again() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::STATEFUL_SETS, "default", stateful_set("db", 1)).await;
    until(&cluster, "db", 1).await;
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let first = uid(&cluster.find(&kinds::PODS, "default", "db-0").await.expect("it is there"));
    cluster.patch_status(&kinds::PODS, "default", "db-0", json!({ "phase": "Failed" })).await;
    cluster
        .until_object(&kinds::PODS, "default", "db-0", "is another", |pod| {
            uid(pod) != first && pod["status"]["phase"] == "Running"
        })
        .await;
    until(&cluster, "db", 1).await;
}

/// With a claim for each pod.
fn with_claims(name: &str, policy: Value) -> Value {
    let mut set = stateful_set(name, 1);
    let template = json!({ "metadata": { "name": "data" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    set["spec"]["volumeClaimTemplates"] = json!([template]);
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = policy;
    // Nobody provides volumes here.
    set["spec"]["template"]["spec"]["nodeName"] = "n1".into();
    set
}

#[tokio::test]
async fn what_keeps_a_pod_from_being_made_is_told() {
    let cluster = TestCluster::with_node("n1").await;
    let claim = json!({ "metadata": { "name": "data-db-0", "finalizers": ["example.com/kept"] }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    cluster.create(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", claim).await;
    cluster.delete(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0", DeleteOptions::default()).await;
    cluster.settle().await;
    cluster.create(&kinds::STATEFUL_SETS, "default", with_claims("db", json!({}))).await;
    let text = "Create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted";
    assert_eq!(cluster.event("default", "db", "FailedCreate").await, text);
    assert_eq!(cluster.find(&kinds::PODS, "default", "db-0").await, None);
    let free = json!({ "metadata": { "finalizers": null } });
    cluster.patch(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0", free).await;
    until(&cluster, "db", 1).await;
}

#[tokio::test]
async fn a_new_policy_is_an_update_of_the_pod() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::STATEFUL_SETS, "default", with_claims("db", json!({ "whenDeleted": "Retain" }))).await;
    until(&cluster, "db", 1).await;
    let policy = json!({ "spec": { "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } } });
    cluster.patch(&kinds::STATEFUL_SETS, "default", "db", policy).await;
    let text = "Update Pod db-0 in StatefulSet db successful";
    assert_eq!(cluster.event("default", "db", "SuccessfulUpdate").await, text);
    let claim = cluster.find(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "data-db-0").await.expect("a claim");
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
}

#[tokio::test]
async fn a_pod_of_another_name_is_let_go() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::STATEFUL_SETS, "default", stateful_set("db", 1)).await;
    let live = until(&cluster, "db", 1).await;
    let mut stray = stateful_set("db", 1)["spec"]["template"].clone();
    stray["metadata"]["name"] = "stray-0".into();
    stray["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db",
        "uid": live["metadata"]["uid"], "controller": true }]);
    cluster.create(&kinds::PODS, "default", stray).await;
    cluster
        .until_object(&kinds::PODS, "default", "stray-0", "is nobody's", |pod| {
            pod["metadata"].get("ownerReferences").is_none()
        })
        .await;
    cluster.settle().await;
    let live = cluster.find(&kinds::STATEFUL_SETS, "default", "db").await.expect("it is there");
    assert_eq!(live["status"]["replicas"], 1);
    assert!(cluster.find(&kinds::PODS, "default", "db-0").await.is_some());
}
