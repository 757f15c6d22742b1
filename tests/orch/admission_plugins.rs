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

/// What the authorizer of nodes cannot see NodeRestriction looks at.
#[tokio::test]
async fn a_node_writes_of_itself_and_of_its_pods_only() {
    let admin = with_account(api().await).await;
    let node = Api { user: UserInfo::new("system:node:n1", &["system:nodes"]), ..admin.clone() };
    admin.post("/api/v1/nodes", json!({ "metadata": { "name": "n1" } })).await.ok();
    let slice = |name: &str, place: Value| {
        let mut spec = json!({ "driver": "d.io", "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 } });
        spec.as_object_mut().expect("fields").extend(place.as_object().expect("fields").clone());
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";
    const REFUSED: &str = "can only create ResourceSlice with the same NodeName as the requesting node";
    for place in [json!({ "nodeName": "n2" }), json!({ "allNodes": true })] {
        let (code, message) = node.post(SLICES, slice("s", place)).await.refused();
        assert!(code == 403 && message.ends_with(REFUSED), "{message}");
    }
    node.post(SLICES, slice("s", json!({ "nodeName": "n1" }))).await.ok();

    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" });
    let (_, message) =
        node.merge("/api/v1/nodes/n1", json!({ "metadata": { "ownerReferences": [owner] } })).await.refused();
    assert!(message.ends_with("node \"n1\" is not allowed to modify ownerReferences"), "{message}");

    // Tokens are for the audiences that volumes of the pod name, its CSI drivers' included, and for granted ones.
    let driver = json!({ "metadata": { "name": "d.io" }, "spec": { "tokenRequests": [{ "audience": "driver" }] } });
    admin.post("/apis/storage.k8s.io/v1/csidrivers", driver).await.ok();
    let token = |audience: &str| json!({ "serviceAccountToken": { "path": "t", "audience": audience } });
    let volumes = json!([
        { "name": "a", "projected": { "sources": [token("vault")] } },
        { "name": "b", "csi": { "driver": "d.io" } },
    ]);
    let spec = json!({ "nodeName": "n1", "automountServiceAccountToken": false, "volumes": volumes });
    let made = admin.post(PODS, pod("p", spec)).await.ok();
    let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"] });
    let ask = async |audiences: Value| {
        let spec = json!({ "audiences": audiences, "boundObjectRef": bound });
        node.post("/api/v1/namespaces/default/serviceaccounts/default/token", json!({ "spec": spec })).await
    };
    // The authorizer follows the pods.
    let related = async {
        while ask(json!(["vault"])).await.text.contains("no relationship found") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), related).await.expect("the pod is known");
    for audience in ["vault", "driver"] {
        ask(json!([audience])).await.is(201);
    }
    for (audiences, text) in [
        (
            json!([]),
            "audience \"\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience",
        ),
        (
            json!(["other"]),
            "audience \"other\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience",
        ),
        (json!(["vault", "driver"]), "node may only request 0 or 1 audiences"),
    ] {
        let (code, message) = ask(audiences).await.refused();
        assert!(code == 403 && message.ends_with(text), "{message}");
    }
}
