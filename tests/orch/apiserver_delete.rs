//! Deletion: finalizers, grace, propagation, preconditions, collections, namespaces.

use crate::apiserver::{Api, CONFIG_MAPS};
use axum::body::Body;
use http::Method;
use orch::api::GroupVersionKind;
use orch::schema;
use serde_json::{Value, json};

const X: &str = "/api/v1/namespaces/a/configmaps/x";

async fn with_finalizer(api: &Api) {
    let object = json!({"metadata": {"name": "x", "finalizers": ["example.com/f"]}});
    api.post(CONFIG_MAPS, object).await.ok();
}

#[tokio::test]
async fn an_object_waits_for_its_finalizers() {
    let api = Api::new().await;
    with_finalizer(&api).await;
    let marked = api.delete(X, None).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], json!(0));
    assert_eq!(api.delete(X, None).await.ok(), marked, "again: nothing changes");
    let (code, message) = api.post(CONFIG_MAPS, json!({"metadata": {"name": "x"}})).await.refused();
    assert_eq!((code, message.as_str()), (409, "object is being deleted: configmaps \"x\" already exists"));
    let (code, message) =
        api.merge(X, json!({"metadata": {"finalizers": ["example.com/f", "example.com/g"]}})).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("no new finalizers can be added if the object is being deleted"), "{message}");
    let last = api.merge(X, json!({"metadata": {"finalizers": []}})).await.ok();
    assert!(last["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.get(X).await.refused().0, 404);
}

#[tokio::test]
async fn propagation_is_a_finalizer() {
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let api = Api::new().await;
        api.config_map("x", json!({})).await;
        let marked = api.delete(X, Some(json!({"propagationPolicy": policy}))).await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        api.merge(X, json!({"metadata": {"finalizers": null}})).await.ok();
        assert_eq!(api.get(X).await.refused().0, 404);
    }
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let (code, _) = api.delete(X, Some(json!({"propagationPolicy": "Bogus"}))).await.refused();
    assert_eq!(code, 422);
    api.delete(&format!("{X}?propagationPolicy=Background"), None).await.ok();
    assert_eq!(api.get(X).await.refused().0, 404);
}

/// Options belong to every group version, and say the one of the client that sends them.
#[tokio::test]
async fn options_come_in_protobuf_and_of_any_group() {
    let api = Api::new().await;
    for (group, path) in [
        ("", "/api/v1/namespaces/a/configmaps"),
        ("coordination.k8s.io", "/apis/coordination.k8s.io/v1/namespaces/a/leases"),
        ("storage.k8s.io", "/apis/storage.k8s.io/v1/csidrivers"),
    ] {
        let kind = GroupVersionKind::new(group, "v1", "DeleteOptions");
        let options =
            json!({ "kind": "DeleteOptions", "apiVersion": kind.api_version(), "propagationPolicy": "Foreground" });
        let schema = schema::builtin_schema(&kind).expect("a kind");
        let bytes = schema::protobuf::encode(&schema, &options).expect("a message");
        for (media, body) in
            [("application/vnd.kubernetes.protobuf", bytes), ("application/json", options.to_string().into())]
        {
            api.post(path, json!({ "metadata": { "name": "x" }, "spec": {} })).await.ok();
            let request = api.request(Method::DELETE, &format!("{path}/x")).header("Content-Type", media);
            let marked = api.answer(request.body(Body::from(body)).expect("a request")).await.ok();
            assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{group} {media}");
            api.merge(&format!("{path}/x"), json!({ "metadata": { "finalizers": null } })).await.ok();
        }
    }
}

#[tokio::test]
async fn preconditions_and_dry_runs() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let uid = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let (code, message) = api.delete(X, Some(uid)).await.refused();
    assert_eq!(code, 409);
    assert!(
        message.starts_with("Operation cannot be fulfilled on ConfigMap \"x\": the UID in the precondition"),
        "{message}"
    );
    let version = json!({"preconditions": {"resourceVersion": "1"}});
    assert_eq!(api.delete(X, Some(version)).await.refused().0, 409);
    assert_eq!(api.delete(&format!("{X}?dryRun=All"), None).await.ok()["status"], "Success");
    api.get(X).await.ok();
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let api = Api::new().await;
    for (name, label) in [("x", "1"), ("y", "1"), ("z", "2")] {
        api.config_map(name, json!({"dc": label})).await;
    }
    let path = format!("{CONFIG_MAPS}?labelSelector=dc%3D1");
    let shown = |list: &Value| list["items"].as_array().map(Vec::len);
    assert_eq!(shown(&api.delete(&format!("{path}&dryRun=All"), None).await.ok()), Some(2));
    assert_eq!(shown(&api.delete(&path, None).await.ok()), Some(2));
    let left = api.get(CONFIG_MAPS).await.ok();
    assert_eq!((shown(&left), &left["items"][0]["metadata"]["name"]), (Some(1), &json!("z")));
}

#[tokio::test]
async fn a_namespace_waits_for_its_controller() {
    let api = Api::new().await;
    let made = api.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.ok();
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let path = "/api/v1/namespaces/n";
    let marked = api.delete(path, None).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(marked["metadata"].get("deletionGracePeriodSeconds"), None);
    assert_eq!(api.delete(path, None).await.ok()["metadata"]["uid"], made["metadata"]["uid"]);
    // An update of the namespace itself does not take its finalizers.
    api.merge(path, json!({"spec": {"finalizers": []}})).await.ok();
    let mut finalized = api.get(path).await.ok();
    assert_eq!(finalized["spec"]["finalizers"], json!(["kubernetes"]));
    finalized["spec"]["finalizers"] = json!([]);
    api.put(&format!("{path}/finalize"), &finalized).await.ok();
    assert_eq!(api.get(path).await.refused().0, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_gets_its_grace() {
    let api = Api::new().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/a/pods";
    let path = "/api/v1/namespaces/a/pods/p";
    api.post(pods, pod.clone()).await.ok();
    let gone = api.delete(path, None).await.ok();
    assert_eq!((&gone["kind"], &gone["metadata"]["deletionGracePeriodSeconds"]), (&json!("Pod"), &json!(0)));
    assert_eq!(api.get(path).await.refused().0, 404, "without a node it goes at once");

    api.post(pods, pod).await.ok();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = api.post(&format!("{path}/binding"), binding.clone()).await.ok();
    assert_eq!(bound["status"], "Success");
    let (code, message) = api.post(&format!("{path}/binding"), binding).await.refused();
    assert_eq!(code, 409);
    assert!(message.ends_with("pod p is already assigned to node \"n1\""), "{message}");
    let marked = api.delete(path, None).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], json!(30));
    assert_eq!(marked["metadata"]["generation"], json!(2));
    let shorter = api.delete(path, Some(json!({"gracePeriodSeconds": 5}))).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], json!(5));
    api.delete(path, Some(json!({"gracePeriodSeconds": 60}))).await.ok();
    assert_eq!(api.get(path).await.ok()["metadata"]["deletionGracePeriodSeconds"], json!(5), "never longer");
    api.delete(path, Some(json!({"gracePeriodSeconds": 0}))).await.ok();
    assert_eq!(api.get(path).await.refused().0, 404);
}

#[tokio::test]
async fn an_eviction_is_a_deletion() {
    let api = Api::new().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.post("/api/v1/namespaces/a/pods", pod).await.ok();
    let path = "/api/v1/namespaces/a/pods/p/eviction";
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, message) = api.post(path, json!({"metadata": {"name": "other"}})).await.refused();
    assert_eq!((code, message.as_str()), (400, "name in URL does not match name in Eviction object"));
    api.post(&format!("{path}?dryRun=All"), eviction.clone()).await.ok();
    api.get("/api/v1/namespaces/a/pods/p").await.ok();
    assert_eq!(api.post(path, eviction.clone()).await.ok()["status"], "Success");
    assert_eq!(api.post(path, eviction).await.refused().0, 404);
}

#[tokio::test]
async fn what_is_gone_has_the_version_of_its_deletion() {
    let api = Api::new().await;
    let accounts = "/api/v1/namespaces/a/serviceaccounts";
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().expect("a version").parse::<u64>();
    let made = api.post(accounts, json!({"metadata": {"name": "s"}})).await.ok();
    let gone = api.delete(&format!("{accounts}/s"), None).await.ok();
    let next = api.post(accounts, json!({"metadata": {"name": "t"}})).await.ok();
    assert_eq!(version(&gone), version(&made).map(|version| version + 1));
    assert_eq!(version(&next), version(&made).map(|version| version + 2));
}
