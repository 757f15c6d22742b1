//! Admission plugins that change more than the object that is written, through the whole API server.

use crate::apiserver::Api;
use crate::cluster::{Composed, control_plane_with};
use crate::custom_resources::api;
use orch::api::UserInfo;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn with_account(api: Api) -> Api {
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "default" } })).await.ok();
    api
}

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = json!({ "containers": [{ "name": "c", "image": "i" }] });
    whole.as_object_mut().expect("fields").extend(spec.as_object().expect("fields").clone());
    json!({ "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": "elsewhere" } }, "spec": whole })
}

#[tokio::test]
async fn a_pod_carries_the_topology_of_its_node() {
    let api = with_account(api().await).await;
    let labels = json!({ "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x" });
    api.post("/api/v1/nodes", json!({ "metadata": { "name": "n1", "labels": labels } })).await.ok();
    let expected = json!({ "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1" });

    let made = api.post(PODS, pod("placed", json!({ "nodeName": "n1" }))).await.ok();
    assert_eq!(made["metadata"]["labels"], expected);
    let made = api.post(PODS, pod("waiting", json!({}))).await.ok();
    assert_eq!(made["metadata"]["labels"], json!({ "topology.kubernetes.io/zone": "elsewhere" }));
    let binding = json!({ "metadata": { "name": "waiting" }, "target": { "kind": "Node", "name": "n1" } });
    api.post(&format!("{PODS}/waiting/binding"), binding).await.ok();
    let bound = api.get(&format!("{PODS}/waiting")).await.ok();
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["labels"]), (&json!("n1"), &expected));
}

#[tokio::test]
async fn a_plugin_that_is_off_is_switched_on() {
    let plugins = &["AlwaysPullImages", "OwnerReferencesPermissionEnforcement"];
    let server = control_plane_with(Composed { plugins, ..Composed::default() }).await;
    let api = with_account(Api { server, user: UserInfo::new("admin", &["system:masters"]) }).await;
    let made = api.post(PODS, pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await.ok();
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    // The administrator may set any owner.
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"], "blockOwnerDeletion": true });
    let map = json!({ "metadata": { "name": "m", "ownerReferences": [owner] } });
    api.post("/api/v1/namespaces/default/configmaps", map).await.ok();
}
