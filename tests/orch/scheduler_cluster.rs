//! The scheduler at work: events, conditions, waiting and waking, preemption.

use crate::cluster::TestCluster;
use orch::client::{Kind, kinds};
use serde_json::{Value, json};

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "a", "image": "x", "resources": { "requests": { "cpu": cpu } } }] },
    })
}

fn scheduled(pod: &Value) -> &Value {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == "PodScheduled").unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_pod_waits_for_a_node_and_is_woken_by_it() {
    let mut cluster = TestCluster::start().await;
    cluster.create(&kinds::PODS, "default", pod("a", "1")).await;
    assert_eq!(cluster.event("default", "a", "FailedScheduling").await, "no nodes available to schedule pods");
    let waiting =
        cluster.until_object(&kinds::PODS, "default", "a", "waits", |pod| scheduled(pod)["status"] == "False").await;
    assert_eq!(scheduled(&waiting)["reason"], "Unschedulable");
    cluster.add_node("n1").await;
    cluster.until_object(&kinds::PODS, "default", "a", "runs", |pod| pod["status"]["phase"] == "Running").await;
    assert_eq!(cluster.event("default", "a", "Scheduled").await, "Successfully assigned default/a to n1");
}

#[tokio::test]
async fn a_pod_that_is_too_large_says_why_and_fits_when_another_goes() {
    let mut cluster = TestCluster::start().await;
    cluster.add_node_with("n1", json!({ "cpu": "2", "memory": "1Gi", "pods": "10" })).await;
    cluster.create(&kinds::PODS, "default", pod("first", "1500m")).await;
    cluster.until_object(&kinds::PODS, "default", "first", "runs", |pod| pod["status"]["phase"] == "Running").await;
    cluster.create(&kinds::PODS, "default", pod("second", "1")).await;
    assert_eq!(
        cluster.event("default", "second", "FailedScheduling").await,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    cluster.delete(&kinds::PODS, "default", "first", Default::default()).await;
    cluster.until_object(&kinds::PODS, "default", "second", "runs", |pod| pod["status"]["phase"] == "Running").await;
}

#[tokio::test]
async fn another_schedulers_pods_are_left_alone() {
    let cluster = TestCluster::with_node("n1").await;
    let mut foreign = pod("foreign", "1");
    foreign["spec"]["schedulerName"] = "mine".into();
    cluster.create(&kinds::PODS, "default", foreign).await;
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/wait" }]);
    cluster.create(&kinds::PODS, "default", gated).await;
    cluster.create(&kinds::PODS, "default", pod("own", "1")).await;
    cluster.until_object(&kinds::PODS, "default", "own", "runs", |pod| pod["status"]["phase"] == "Running").await;
    cluster.settle().await;
    for name in ["foreign", "gated"] {
        let pod = cluster.find(&kinds::PODS, "default", name).await.expect("is there");
        assert_eq!(pod["spec"].get("nodeName"), None, "{name}");
    }
    cluster.patch(&kinds::PODS, "default", "gated", json!({ "spec": { "schedulingGates": null } })).await;
    cluster.until_object(&kinds::PODS, "default", "gated", "runs", |pod| pod["status"]["phase"] == "Running").await;
}

#[tokio::test]
async fn an_important_pod_takes_the_place_of_another() {
    let mut cluster = TestCluster::start().await;
    cluster.add_node_with("n1", json!({ "cpu": "2", "memory": "1Gi", "pods": "10" })).await;
    cluster.create(&kinds::PODS, "default", pod("low", "2")).await;
    cluster.until_object(&kinds::PODS, "default", "low", "runs", |pod| pod["status"]["phase"] == "Running").await;
    let classes = Kind::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses");
    cluster.create(&classes, "", json!({ "metadata": { "name": "high" }, "value": 1000 })).await;
    let mut high = pod("high", "2");
    high["spec"]["priorityClassName"] = "high".into();
    // What the Priority admission plugin would set.
    high["spec"]["priority"] = 1000.into();
    cluster.create(&kinds::PODS, "default", high).await;
    cluster.until_object(&kinds::PODS, "default", "high", "runs", |pod| pod["status"]["phase"] == "Running").await;
    assert!(cluster.find(&kinds::PODS, "default", "low").await.is_none());
    let message = cluster.event("default", "low", "Preempted").await;
    assert!(message.ends_with(" on node n1"), "{message}");
}
