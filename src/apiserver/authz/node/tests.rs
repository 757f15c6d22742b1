//! Tests of the Node authorizer, over a store in memory.

use super::*;
use crate::storage::{Body, Durability, SqliteStorage};
use serde_json::{Value, json};

fn node_user(name: &str) -> UserInfo {
    UserInfo::new(&format!("system:node:{name}"), &[SYSTEM_NODES])
}

async fn put(storage: &SqliteStorage, group: &str, resource: &str, namespace: &str, mut object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    object["metadata"]["uid"] = "u".into();
    let key = Key::new(&GroupResource::new(group, resource), namespace, &name);
    let body = Body::from_value(&object, 0, None);
    match storage.get(&key) {
        Some(entry) => storage.update(key, entry.revision, body, Durability::Lazy).await,
        None => storage.create(key, body, Durability::Lazy).await,
    }
    .unwrap();
}

async fn decide(authorizer: &NodeAuthorizer, user: &UserInfo, request: &str) -> Decision {
    // `get secrets a/s`, `create pods/eviction a/x`, `list pods / spec.nodeName=n1`
    let mut parts = request.split(' ');
    let verb = parts.next().unwrap();
    let (resource, subresource) = parts.next().map(|part| part.split_once('/').unwrap_or((part, ""))).unwrap();
    let (namespace, name) = parts.next().unwrap_or("/").split_once('/').unwrap();
    let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
    let field_selector = parts.next().unwrap_or_default();
    let resource = ResourceAttributes { group, version: "v1", resource, subresource, namespace, name, field_selector };
    authorizer.authorize(&Attributes { user, verb, resource: Some(resource), path: "" }).await
}

fn pod(node: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = node.into();
    json!({"metadata": {"name": "web"}, "spec": spec})
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name() {
    let storage = SqliteStorage::in_memory().await;
    let spec = json!({
        "serviceAccountName": "builder",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "env-s"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "env-c"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]}],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "from-s"}}, {"configMapRef": {"name": "from-c"}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "vol-s"}},
            {"name": "b", "configMap": {"name": "vol-c"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "pro-s"}}, {"configMap": {"name": "pro-c"}}]}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "e", "ephemeral": {}},
            {"name": "f", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "csi-s"}}},
            {"name": "g", "emptyDir": {}},
        ],
    });
    put(&storage, "", "pods", "a", pod("n1", spec)).await;
    put(
        &storage,
        "",
        "persistentvolumes",
        "",
        json!({
            "metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "a", "name": "claim"}}
        }),
    )
    .await;
    let authorizer = NodeAuthorizer::new(storage.clone());
    let (own, other) = (node_user("n1"), node_user("n2"));
    for request in [
        "get secrets a/pull",
        "get secrets a/env-s",
        "get secrets a/from-s",
        "list secrets a/vol-s",
        "watch secrets a/pro-s",
        "get secrets a/csi-s",
        "get configmaps a/env-c",
        "get configmaps a/from-c",
        "get configmaps a/vol-c",
        "get configmaps a/pro-c",
        "get persistentvolumeclaims a/claim",
        "get persistentvolumeclaims a/web-e",
        "update persistentvolumeclaims/status a/claim",
        "get persistentvolumes /pv",
        "create serviceaccounts/token a/builder",
        "get serviceaccounts a/builder",
        "get pods a/web",
    ] {
        assert_eq!(decide(&authorizer, &own, request).await, allow(), "{request}");
        assert_eq!(
            decide(&authorizer, &other, request).await,
            no("no relationship found between node 'n2' and this object"),
            "{request}"
        );
    }
    for (request, reason) in [
        ("get secrets a/unknown", "no relationship found between node 'n1' and this object"),
        ("get secrets b/pull", "no relationship found between node 'n1' and this object"),
        ("list secrets a/", "No Object name found"),
        ("list secrets /", "can only read namespaced object of this type"),
        ("delete secrets a/pull", "can only read resources of this type"),
        ("list persistentvolumes /", "can only get individual resources of this type"),
        ("create serviceaccounts/token a/", "can only create tokens for individual service accounts"),
        ("list serviceaccounts a/", "can only create tokens for individual service accounts"),
        ("create serviceaccounts a/builder", "can only create token subresource of serviceaccount"),
        ("list pods /", "can only list/watch pods with spec.nodeName field selector"),
        ("list pods / spec.nodeName=n2", "can only list/watch pods with spec.nodeName field selector"),
    ] {
        assert_eq!(decide(&authorizer, &own, request).await, no(reason), "{request}");
    }
    assert_eq!(decide(&authorizer, &own, "list pods / spec.nodeName=n1").await, allow());
    assert_eq!(decide(&authorizer, &own, "watch pods / status.phase!=Failed,spec.nodeName==n1").await, allow());
}

#[tokio::test]
async fn a_node_is_itself_and_no_other() {
    let storage = SqliteStorage::in_memory().await;
    let authorizer = NodeAuthorizer::new(storage);
    let own = node_user("n1");
    for request in [
        "get nodes /n1",
        "create nodes /",
        "patch nodes/status /n1",
        "get coordination.k8s.io:leases kube-node-lease/n1",
        "create coordination.k8s.io:leases kube-node-lease/",
        "update storage.k8s.io:csinodes /n1",
        "create pods a/",
        "create pods/eviction a/x",
        "patch pods/status a/x",
        "list services /",
        "create events a/",
        "create certificates.k8s.io:certificatesigningrequests /",
    ] {
        assert_eq!(decide(&authorizer, &own, request).await, allow(), "{request}");
    }
    for (request, reason) in [
        ("get nodes /n2", "node 'n1' cannot read 'n2', only its own Node object"),
        ("list nodes /", "node 'n1' cannot read all nodes, only its own Node object"),
        ("delete nodes /n1", ""),
        (
            "get coordination.k8s.io:leases kube-node-lease/n2",
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "get coordination.k8s.io:leases kube-system/n1",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        ("list apps:deployments /", ""),
    ] {
        assert_eq!(decide(&authorizer, &own, request).await, no(reason), "{request}");
    }
    // Without the group the name means nothing.
    let stranger = UserInfo::new("system:node:n1", &[]);
    assert_eq!(decide(&authorizer, &stranger, "get nodes /n1").await, no(""));
}

#[tokio::test]
async fn rights_end_with_the_pod_and_mirror_pods_give_none() {
    let storage = SqliteStorage::in_memory().await;
    let authorizer = NodeAuthorizer::new(storage.clone());
    let own = node_user("n1");
    let get = async || decide(&authorizer, &own, "get secrets a/s").await == allow();
    let spec = || json!({"volumes": [{"name": "a", "secret": {"secretName": "s"}}]});
    let until = async |wanted: bool| {
        for _ in 0..1000 {
            if get().await == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("not {wanted}");
    };
    let mut unbound = pod("", spec());
    put(&storage, "", "pods", "a", unbound.clone()).await;
    assert!(!get().await);
    unbound["spec"]["nodeName"] = "n1".into();
    put(&storage, "", "pods", "a", unbound).await;
    until(true).await;
    // A second user of the secret keeps the right when the first goes.
    let mut second = pod("n1", spec());
    second["metadata"]["name"] = "second".into();
    put(&storage, "", "pods", "a", second).await;
    let key = |name| Key::new(&GroupResource::new("", "pods"), "a", name);
    let remove = async |name| {
        let revision = storage.get(&key(name)).unwrap().revision;
        storage.delete(key(name), revision).await.unwrap();
    };
    remove("web").await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(get().await);
    remove("second").await;
    until(false).await;
    let mut mirror = pod("n1", spec());
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    put(&storage, "", "pods", "a", mirror).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!get().await);
    assert_eq!(decide(&authorizer, &own, "get pods a/web").await, allow());
}
