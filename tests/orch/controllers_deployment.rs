//! Deployments from kubectl's point of view: roll out, scale, undo, delete.

use crate::cluster::{TestCluster, deployment, is_rolled_out};
use orch::client::{DeleteOptions, Propagation, kinds};
use serde_json::{Value, json};

async fn rolled_out(cluster: &TestCluster, name: &str) -> Value {
    cluster.until_object(&kinds::DEPLOYMENTS, "default", name, "is rolled out", is_rolled_out).await
}

#[tokio::test]
async fn it_rolls_out_scales_updates_and_undoes() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 3)).await;
    let first = rolled_out(&cluster, "web").await;
    assert_eq!(first["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(first["metadata"]["generation"], 1, "its own annotation is no change of what is wanted");
    let message = cluster.event("default", "web", "ScalingReplicaSet").await;
    assert!(message.starts_with("Scaled up replica set web-") && message.ends_with(" from 0 to 3"), "{message}");

    cluster.patch(&kinds::DEPLOYMENTS, "default", "web", json!({ "spec": { "replicas": 5 } })).await;
    rolled_out(&cluster, "web").await;
    assert_eq!(cluster.list(&kinds::PODS, "default", "app=web").await.len(), 5);

    let image = |image: &str| json!({ "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": image }] } } } });
    cluster.patch(&kinds::DEPLOYMENTS, "default", "web", image("registry.example/app:2")).await;
    rolled_out(&cluster, "web").await;
    cluster
        .until("the old pods are gone", || async {
            let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
            let new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "registry.example/app:2";
            (pods.len() == 5 && pods.iter().all(new)).then_some(())
        })
        .await;
    let sets = cluster.list(&kinds::REPLICA_SETS, "default", "app=web").await;
    assert_eq!(sets.len(), 2, "the old one stays for an undo");

    cluster.patch(&kinds::DEPLOYMENTS, "default", "web", first_template(&first)).await;
    let undone = rolled_out(&cluster, "web").await;
    let undone = cluster
        .until_object(&kinds::DEPLOYMENTS, "default", "web", "has its third revision", |live| {
            live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        })
        .await["metadata"]["uid"]
        .clone()
        == undone["metadata"]["uid"];
    assert!(undone);
    assert_eq!(cluster.list(&kinds::REPLICA_SETS, "default", "app=web").await.len(), 2);
}

fn first_template(first: &Value) -> Value {
    json!({ "spec": { "template": first["spec"]["template"] } })
}

#[tokio::test]
async fn its_pods_go_with_it() {
    let cluster = TestCluster::with_node("n1").await;
    for (name, propagation) in [("one", Propagation::Background), ("two", Propagation::Foreground)] {
        cluster.create(&kinds::DEPLOYMENTS, "default", deployment(name, 2)).await;
        rolled_out(&cluster, name).await;
        let options = DeleteOptions::default().propagation(propagation);
        cluster.delete(&kinds::DEPLOYMENTS, "default", name, options).await;
        cluster
            .until("nothing is left", || async {
                let selector = format!("app={name}");
                let sets = cluster.list(&kinds::REPLICA_SETS, "default", &selector).await;
                let pods = cluster.list(&kinds::PODS, "default", &selector).await;
                let gone = cluster.find(&kinds::DEPLOYMENTS, "default", name).await.is_none();
                (gone && sets.is_empty() && pods.is_empty()).then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn orphans_stay_and_are_adopted_again() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 1)).await;
    rolled_out(&cluster, "web").await;
    let pod = cluster.list(&kinds::PODS, "default", "app=web").await.remove(0);
    let options = DeleteOptions::default().propagation(Propagation::Orphan);
    cluster.delete(&kinds::DEPLOYMENTS, "default", "web", options).await;
    cluster.until_gone(&kinds::DEPLOYMENTS, "default", "web").await;
    let set = cluster
        .until("the ReplicaSet has no owner", || async {
            let set = cluster.list(&kinds::REPLICA_SETS, "default", "app=web").await.pop()?;
            set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty).then_some(set)
        })
        .await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 1)).await;
    rolled_out(&cluster, "web").await;
    let name = set["metadata"]["name"].as_str().expect("a name");
    cluster
        .until_object(&kinds::REPLICA_SETS, "default", name, "is adopted", |set| {
            set["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
        })
        .await;
    let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["metadata"]["uid"], pod["metadata"]["uid"], "the pod ran on");
}

#[tokio::test]
async fn a_pod_that_matches_no_more_is_released_and_replaced() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 1)).await;
    rolled_out(&cluster, "web").await;
    let pod = cluster.list(&kinds::PODS, "default", "app=web").await.remove(0);
    let name = pod["metadata"]["name"].as_str().expect("a name");
    cluster.patch(&kinds::PODS, "default", name, json!({ "metadata": { "labels": { "app": "debug" } } })).await;
    cluster
        .until_object(&kinds::PODS, "default", name, "has no owner", |pod| {
            pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
    cluster
        .until("another takes its place", || async {
            (cluster.list(&kinds::PODS, "default", "app=web").await.len() == 1).then_some(())
        })
        .await;
}
