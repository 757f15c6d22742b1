//! Disruption budgets, and the evictions they allow.

use crate::cluster::{TestCluster, deployment, is_rolled_out};
use orch::client::{kinds, status_code};
use serde_json::{Value, json};

const BUDGET: &orch::client::Kind = &kinds::POD_DISRUPTION_BUDGETS;

fn budget(name: &str, spec: Value) -> Value {
    let mut object = json!({ "metadata": { "name": name }, "spec": spec });
    object["spec"]["selector"] = json!({ "matchLabels": { "app": "web" } });
    object
}

/// Expected, desired, current and allowed.
fn says(counts: [i64; 4]) -> impl Fn(&Value) -> bool {
    move |live| {
        let status = &live["status"];
        let fields = ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"];
        status["observedGeneration"] == live["metadata"]["generation"]
            && fields.iter().zip(counts).all(|(field, count)| status[field].as_i64() == Some(count))
    }
}

async fn pods(cluster: &TestCluster) -> Vec<String> {
    let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
    pods.iter().map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

async fn evict(cluster: &TestCluster, pod: &str) -> Result<Value, kube::Error> {
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
    cluster.admin.create_subresource(&kinds::PODS, "default", pod, "eviction", &eviction).await
}

fn cause(result: Result<Value, kube::Error>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(status_code(&error), Some(429), "{error}");
    let kube::Error::Api(status) = error else { panic!("a Status") };
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let causes = status.details.expect("details").causes;
    assert_eq!(causes[0].reason, "DisruptionBudget");
    causes[0].message.clone()
}

#[tokio::test]
async fn evictions_spend_what_the_budget_allows() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 3)).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "is rolled out", is_rolled_out).await;
    cluster.create(BUDGET, "default", budget("web", json!({ "minAvailable": 3 }))).await;
    let full = cluster.until_object(BUDGET, "default", "web", "allows none", says([3, 3, 3, 0])).await;
    let condition = &full["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("DisruptionAllowed"), &json!("False")));
    assert_eq!((&condition["reason"], &condition["observedGeneration"]), (&json!("InsufficientPods"), &json!(1)));
    let first = pods(&cluster).await[0].clone();
    let text = cause(evict(&cluster, &first).await);
    assert_eq!(text, "The disruption budget web needs 3 healthy pods and has 3 currently");
    cluster.patch(BUDGET, "default", "web", json!({ "spec": { "minAvailable": 2 } })).await;
    let some = cluster.until_object(BUDGET, "default", "web", "allows one", says([3, 2, 3, 1])).await;
    assert_eq!(some["status"]["conditions"][0]["reason"], "SufficientPods");
    assert_eq!(evict(&cluster, &first).await.expect("evicted")["status"], "Success");
    cluster.until_gone(&kinds::PODS, "default", &first).await;
    // Its successor makes the next one possible.
    let again = cluster.until_object(BUDGET, "default", "web", "allows one again", says([3, 2, 3, 1])).await;
    cluster.settle().await;
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    assert!(again["status"]["disruptedPods"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[tokio::test]
async fn shares_are_of_what_owners_ask_for() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 4)).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "is rolled out", is_rolled_out).await;
    cluster.create(BUDGET, "default", budget("web", json!({ "maxUnavailable": "50%" }))).await;
    cluster.until_object(BUDGET, "default", "web", "allows two", says([4, 2, 4, 2])).await;
    cluster.patch(BUDGET, "default", "web", json!({ "spec": { "maxUnavailable": 1 } })).await;
    cluster.until_object(BUDGET, "default", "web", "allows one", says([4, 3, 4, 1])).await;
    // A pod without an owner is told of; one whose owner has no size ends the reckoning.
    let spec = deployment("web", 1)["spec"]["template"]["spec"].clone();
    let alone = json!({ "metadata": { "name": "alone", "labels": { "app": "web", "own": "no" } }, "spec": spec });
    let mut owned = alone.clone();
    owned["metadata"]["name"] = "owned".into();
    let set = cluster.create(&kinds::CONFIG_MAPS, "default", json!({ "metadata": { "name": "owner" } })).await;
    owned["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
                                                    "uid": set["metadata"]["uid"], "controller": true }]);
    let mut other = budget("other", json!({ "maxUnavailable": 1 }));
    other["spec"]["selector"] = json!({ "matchLabels": { "own": "no" } });
    cluster.create(BUDGET, "default", other).await;
    assert_eq!(cluster.event("default", "other", "NoPods").await, "No matching pods found");
    cluster.create(&kinds::PODS, "default", alone).await;
    let text = cluster.event("default", "alone", "MultiplePodDisruptionBudgets").await;
    let chosen = |name: &str| {
        format!("Pod \"default\"/\"alone\" matches multiple PodDisruptionBudgets.  Chose \"{name}\" arbitrarily.")
    };
    assert!(text == chosen("web") || text == chosen("other"), "{text}");
    let text = cluster.event("default", "other", "UnmanagedPods").await;
    let selector = "(selector: &LabelSelector{MatchLabels:map[string]string{own: no,},MatchExpressions:[]LabelSelectorRequirement{},})";
    assert!(text.contains(selector), "{text}");
    cluster.create(&kinds::PODS, "default", owned).await;
    let failed = |live: &Value| live["status"]["conditions"][0]["reason"] == "SyncFailed";
    let live = cluster.until_object(BUDGET, "default", "other", "failed", failed).await;
    let message = "configmaps does not implement the scale subresource";
    assert_eq!(live["status"]["conditions"][0]["message"], message);
    let text = format!("Failed to calculate the number of expected pods: {message}");
    assert_eq!(cluster.event("default", "other", "CalculateExpectedPodCountFailed").await, text);
    assert_eq!(live["status"]["disruptionsAllowed"], 0);
}

#[tokio::test]
async fn unhealthy_pods_go_as_their_budget_says() {
    let cluster = TestCluster::with_node("n1").await;
    let mut unready = deployment("web", 2);
    unready["spec"]["template"]["metadata"]["labels"]["test/unready"] = "yes".into();
    cluster.create(&kinds::DEPLOYMENTS, "default", unready).await;
    cluster.create(BUDGET, "default", budget("web", json!({ "minAvailable": 1 }))).await;
    cluster
        .until("both run", || async {
            let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
            (pods.len() == 2 && pods.iter().all(|pod| pod["status"]["phase"] == "Running")).then_some(())
        })
        .await;
    cluster.until_object(BUDGET, "default", "web", "allows none", says([2, 1, 0, 0])).await;
    let first = pods(&cluster).await[0].clone();
    let text = cause(evict(&cluster, &first).await);
    assert_eq!(text, "The disruption budget web needs 1 healthy pods and has 0 currently");
    let always = json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } });
    cluster.patch(BUDGET, "default", "web", always).await;
    evict(&cluster, &first).await.expect("evicted");
    cluster.until_gone(&kinds::PODS, "default", &first).await;
}
