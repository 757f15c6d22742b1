//! DaemonSets and their revisions.

use crate::cluster::{TestCluster, deployment};
use orch::client::{DeleteOptions, Propagation, kinds};
use serde_json::{Value, json};

fn daemon_set(name: &str) -> Value {
    let template = deployment(name, 0)["spec"]["template"].clone();
    json!({
        "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": name } }, "template": template },
    })
}

/// So many nodes have a pod of the newest version that is ready.
fn serves(count: i64) -> impl Fn(&Value) -> bool {
    move |live| {
        let status = &live["status"];
        let counts = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled"];
        status["observedGeneration"] == live["metadata"]["generation"]
            && counts.iter().all(|field| status[field].as_i64().unwrap_or_default() == count)
    }
}

async fn until(cluster: &TestCluster, name: &str, count: i64) -> Value {
    let what = format!("serves {count} nodes");
    cluster.until_object(&kinds::DAEMON_SETS, "default", name, &what, serves(count)).await
}

async fn images(cluster: &TestCluster) -> Vec<(String, String)> {
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut images: Vec<_> =
        pods.iter().map(|pod| (text(&pod["spec"]["nodeName"]), text(&pod["spec"]["containers"][0]["image"]))).collect();
    images.sort();
    images
}

fn image(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": image }] } } } })
}

/// Revision numbers and hashes, oldest first.
async fn revisions(cluster: &TestCluster) -> Vec<(i64, String)> {
    let all = cluster.list(&kinds::CONTROLLER_REVISIONS, "default", "app=agent").await;
    let mut all: Vec<_> = all
        .iter()
        .map(|one| {
            let hash = one["metadata"]["labels"]["controller-revision-hash"].as_str().expect("a hash");
            assert_eq!(one["metadata"]["name"], format!("agent-{hash}"));
            assert_eq!(one["metadata"]["ownerReferences"][0]["kind"], "DaemonSet");
            assert_eq!(one["data"]["spec"]["template"]["$patch"], "replace");
            (one["revision"].as_i64().expect("a number"), hash.to_owned())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn it_runs_where_nodes_fit() {
    let mut cluster = TestCluster::with_node("n1").await;
    cluster.add_node("n2").await;
    let cordoned = json!({ "spec": { "unschedulable": true } });
    cluster.patch(&kinds::NODES, "", "n2", cordoned).await;
    cluster.create(&kinds::DAEMON_SETS, "default", daemon_set("agent")).await;
    until(&cluster, "agent", 2).await;
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    let hash = revisions(&cluster).await[0].1.clone();
    for pod in &pods {
        assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], hash.as_str());
        assert_eq!(pod["metadata"]["labels"]["pod-template-generation"], "1");
        let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let field = &required["nodeSelectorTerms"][0]["matchFields"][0];
        assert_eq!((&field["key"], &field["values"][0]), (&json!("metadata.name"), &pod["spec"]["nodeName"]));
    }
    // A new node gets one, a deleted pod is made again, a node that fits no more loses its own.
    cluster.add_node("n3").await;
    until(&cluster, "agent", 3).await;
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    cluster.delete(&kinds::PODS, "default", name, DeleteOptions::default()).await;
    cluster.until_gone(&kinds::PODS, "default", name).await;
    until(&cluster, "agent", 3).await;
    let taint = json!([{ "key": "dedicated", "value": "db", "effect": "NoExecute" }]);
    cluster.patch(&kinds::NODES, "", "n3", json!({ "spec": { "taints": taint } })).await;
    until(&cluster, "agent", 2).await;
    cluster
        .until("its pod on n3 is gone", || async {
            let on: Vec<String> = images(&cluster).await.into_iter().map(|(node, _)| node).collect();
            (on == ["n1", "n2"]).then_some(())
        })
        .await;
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_failed_pod_is_replaced() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DAEMON_SETS, "default", daemon_set("agent")).await;
    until(&cluster, "agent", 1).await;
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    cluster.patch_status(&kinds::PODS, "default", name, json!({ "phase": "Failed" })).await;
    cluster.until_gone(&kinds::PODS, "default", name).await;
    until(&cluster, "agent", 1).await;
    let text = format!("Found failed daemon pod default/{name} on node n1, will try to kill it");
    assert_eq!(cluster.event("default", "agent", "FailedDaemonPod").await, text);
}

#[tokio::test]
async fn it_rolls_to_new_versions_and_back() {
    let mut cluster = TestCluster::start().await;
    for name in ["n1", "n2", "n3"] {
        cluster.add_node(name).await;
    }
    let mut set = daemon_set("agent");
    set["spec"]["revisionHistoryLimit"] = 1.into();
    cluster.create(&kinds::DAEMON_SETS, "default", set).await;
    until(&cluster, "agent", 3).await;
    let first = revisions(&cluster).await;
    assert_eq!(first.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1]);
    cluster.patch(&kinds::DAEMON_SETS, "default", "agent", image("registry.example/app:2")).await;
    until(&cluster, "agent", 3).await;
    let version = |version: u32| -> Vec<(String, String)> {
        ["n1", "n2", "n3"].map(|node| (node.to_owned(), format!("registry.example/app:{version}"))).to_vec()
    };
    assert_eq!(images(&cluster).await, version(2));
    let second = revisions(&cluster).await;
    assert_eq!((second[0].clone(), second[1].0), (first[0].clone(), 2));
    // Back to the first template: its revision becomes the newest.
    let back = cluster.list(&kinds::CONTROLLER_REVISIONS, "default", "app=agent").await;
    let data = back.iter().find(|one| one["revision"] == 1).expect("the first")["data"].clone();
    cluster
        .admin
        .patch(&kinds::DAEMON_SETS, "default", "agent", "", orch::client::Patch::Strategic, &data)
        .await
        .expect("rolled back");
    until(&cluster, "agent", 3).await;
    assert_eq!(images(&cluster).await, version(1));
    cluster.settle().await;
    assert_eq!(revisions(&cluster).await, [(2, second[1].1.clone()), (3, first[0].1.clone())]);
    // One old revision is kept.
    cluster.patch(&kinds::DAEMON_SETS, "default", "agent", image("registry.example/app:3")).await;
    until(&cluster, "agent", 3).await;
    cluster.settle().await;
    let numbers: Vec<i64> = revisions(&cluster).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [3, 4]);
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
}

#[tokio::test]
async fn on_delete_waits_for_deletions_and_surge_for_the_new_pod() {
    let mut cluster = TestCluster::with_node("n1").await;
    cluster.add_node("n2").await;
    let mut set = daemon_set("agent");
    set["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    cluster.create(&kinds::DAEMON_SETS, "default", set).await;
    until(&cluster, "agent", 2).await;
    cluster.patch(&kinds::DAEMON_SETS, "default", "agent", image("registry.example/app:2")).await;
    cluster
        .until_object(&kinds::DAEMON_SETS, "default", "agent", "is seen", |live| {
            live["status"]["observedGeneration"] == 2
        })
        .await;
    cluster.settle().await;
    let old = ["n1", "n2"].map(|node| (node.to_owned(), "registry.example/app:1".to_owned())).to_vec();
    assert_eq!(images(&cluster).await, old);
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        cluster.delete(&kinds::PODS, "default", name, DeleteOptions::default()).await;
        cluster.until_gone(&kinds::PODS, "default", name).await;
    }
    until(&cluster, "agent", 2).await;
    // With a surge, a new pod that never becomes ready leaves the old ones alone.
    let unready = json!({ "spec": {
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
        "template": { "metadata": { "labels": { "test/unready": "yes" } } },
    } });
    cluster.patch(&kinds::DAEMON_SETS, "default", "agent", unready).await;
    cluster
        .until("one pod more", || async {
            (cluster.list(&kinds::PODS, "default", "app=agent").await.len() == 3).then_some(())
        })
        .await;
    cluster.settle().await;
    let pods = cluster.list(&kinds::PODS, "default", "app=agent,!test/unready").await;
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()));
}

#[tokio::test]
async fn its_pods_and_revisions_go_with_it_or_stay() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DAEMON_SETS, "default", daemon_set("agent")).await;
    until(&cluster, "agent", 1).await;
    let before = revisions(&cluster).await;
    let orphan = DeleteOptions::default().propagation(Propagation::Orphan);
    cluster.delete(&kinds::DAEMON_SETS, "default", "agent", orphan).await;
    cluster.until_gone(&kinds::DAEMON_SETS, "default", "agent").await;
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["metadata"].get("ownerReferences"), None);
    // The next one of the name takes both over.
    cluster.create(&kinds::DAEMON_SETS, "default", daemon_set("agent")).await;
    until(&cluster, "agent", 1).await;
    cluster.settle().await;
    let adopted = cluster.list(&kinds::PODS, "default", "app=agent").await;
    assert_eq!(adopted[0]["metadata"]["uid"], pods[0]["metadata"]["uid"]);
    assert_eq!(revisions(&cluster).await, before);
    let foreground = DeleteOptions::default().propagation(Propagation::Foreground);
    cluster.delete(&kinds::DAEMON_SETS, "default", "agent", foreground).await;
    cluster.until_gone(&kinds::DAEMON_SETS, "default", "agent").await;
    assert_eq!(cluster.list(&kinds::PODS, "default", "app=agent").await, Vec::<Value>::new());
    cluster.until("the revisions are gone", || async { revisions(&cluster).await.is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn a_second_revision_of_the_template_may_take_the_place_of_the_first() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DAEMON_SETS, "default", daemon_set("agent")).await;
    until(&cluster, "agent", 1).await;
    cluster.settle().await;
    let pods = cluster.list(&kinds::PODS, "default", "app=agent").await;
    let first = cluster.list(&kinds::CONTROLLER_REVISIONS, "default", "app=agent").await.remove(0);
    let mut second = first.clone();
    second["metadata"] = json!({
        "name": "agent-second", "ownerReferences": first["metadata"]["ownerReferences"],
        "labels": { "app": "agent", "controller-revision-hash": "second" },
    });
    second["revision"] = 2.into();
    cluster.create(&kinds::CONTROLLER_REVISIONS, "default", second).await;
    cluster.settle().await;
    assert_eq!(revisions(&cluster).await.len(), 2, "nobody cleans up at once");
    let name = first["metadata"]["name"].as_str().expect("a name");
    cluster.delete(&kinds::CONTROLLER_REVISIONS, "default", name, DeleteOptions::default()).await;
    cluster.settle().await;
    assert_eq!(revisions(&cluster).await, [(2, "second".to_owned())]);
    let after = cluster.list(&kinds::PODS, "default", "app=agent").await;
    assert_eq!(after[0]["metadata"]["uid"], pods[0]["metadata"]["uid"], "its pod goes on");
}
