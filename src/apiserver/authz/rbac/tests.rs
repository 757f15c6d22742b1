//! Tests of RBAC, over a store in memory.

use super::*;
use crate::apiserver::authz::ResourceAttributes;
use crate::storage::{Body, Durability, Key, SqliteStorage};
use serde_json::{Value, json};

async fn put(storage: &SqliteStorage, resource: &str, namespace: &str, name: &str, mut object: Value) {
    object["metadata"] = json!({"name": name, "uid": "u"});
    let key = Key::new(&GroupResource::new(GROUP, resource), namespace, name);
    let body = Body::from_value(&object, 0, None);
    match storage.get(&key) {
        Some(entry) => storage.update(key, entry.revision, body, Durability::Lazy).await,
        None => storage.create(key, body, Durability::Lazy).await,
    }
    .unwrap();
}

fn role(rules: Value) -> Value {
    json!({"rules": rules})
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo::new(name, groups)
}

async fn ask(rbac: &Rbac, user: &UserInfo, verb: &str, resource: &str, namespace: &str, name: &str) -> Decision {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let resource = ResourceAttributes { resource, subresource, namespace, name, version: "v1", ..Default::default() };
    rbac.authorize(&Attributes { user, verb, resource: Some(resource), path: "" }).await
}

/// The index follows the store on a task of its own.
async fn until(mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if check().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the index did not follow");
}

#[tokio::test]
async fn bindings_give_the_rights_of_their_roles() {
    let storage = SqliteStorage::in_memory().await;
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["own"]},
        {"verbs": ["*"], "apiGroups": [""], "resources": ["*/status"]},
    ]);
    put(&storage, "clusterroles", "", "reader", role(rules)).await;
    put(
        &storage,
        "rolebindings",
        "a",
        "b1",
        binding("ClusterRole", "reader", json!([{"kind": "User", "name": "jane"}])),
    )
    .await;
    let rbac = Rbac::new(storage.clone());
    let jane = user("jane", &[]);
    let allowed =
        Decision::Allow("RBAC: allowed by RoleBinding \"b1/a\" of ClusterRole \"reader\" to User \"jane\"".into());
    let denied = Decision::NoOpinion(String::new());
    for (verb, resource, namespace, name, wanted) in [
        ("get", "pods", "a", "x", &allowed),
        ("list", "pods/log", "a", "", &allowed),
        ("get", "secrets", "a", "own", &allowed),
        ("patch", "nodes/status", "a", "x", &allowed),
        ("get", "secrets", "a", "other", &denied),
        ("list", "secrets", "a", "", &denied),
        ("create", "pods", "a", "", &denied),
        ("get", "pods/exec", "a", "x", &denied),
        ("get", "pods", "b", "x", &denied),
        ("get", "pods", "", "x", &denied),
    ] {
        assert_eq!(
            &ask(&rbac, &jane, verb, resource, namespace, name).await,
            wanted,
            "{verb} {resource} {namespace}/{name}"
        );
    }
    assert_eq!(ask(&rbac, &user("john", &[]), "get", "pods", "a", "x").await, denied);
}

#[tokio::test]
async fn subjects_are_users_groups_and_service_accounts() {
    let storage = SqliteStorage::in_memory().await;
    put(&storage, "clusterroles", "", "all", role(json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])))
        .await;
    let subjects = json!([
        {"kind": "Group", "name": "devs"},
        {"kind": "ServiceAccount", "name": "builder", "namespace": "ci"},
        {"kind": "ServiceAccount", "name": "nowhere"},
    ]);
    put(&storage, "clusterrolebindings", "", "c", binding("ClusterRole", "all", subjects)).await;
    let here = json!([{"kind": "ServiceAccount", "name": "builder"}]);
    put(&storage, "rolebindings", "b", "local", binding("ClusterRole", "all", here)).await;
    let rbac = Rbac::new(storage.clone());
    let reason = async |user: &UserInfo, namespace| match ask(&rbac, user, "get", "pods", namespace, "x").await {
        Decision::Allow(reason) => reason,
        other => format!("{other:?}"),
    };
    assert_eq!(
        reason(&user("x", &["devs"]), "").await,
        "RBAC: allowed by ClusterRoleBinding \"c\" of ClusterRole \"all\" to Group \"devs\""
    );
    assert_eq!(
        reason(&user("system:serviceaccount:ci:builder", &[]), "").await,
        "RBAC: allowed by ClusterRoleBinding \"c\" of ClusterRole \"all\" to ServiceAccount \"builder/ci\""
    );
    assert_eq!(
        reason(&user("system:serviceaccount:b:builder", &[]), "b").await,
        "RBAC: allowed by RoleBinding \"local/b\" of ClusterRole \"all\" to ServiceAccount \"builder/b\""
    );
    for nobody in ["devs", "system:serviceaccount::nowhere", "system:serviceaccount:a:builder", "builder"] {
        assert_eq!(reason(&user(nobody, &[]), "").await, "NoOpinion(\"\")", "{nobody}");
    }
}

#[tokio::test]
async fn the_index_follows_the_store() {
    let storage = SqliteStorage::in_memory().await;
    let rbac = Rbac::new(storage.clone());
    let jane = user("jane", &[]);
    let get = async |wanted: &Decision| ask(&rbac, &jane, "get", "pods", "a", "x").await == *wanted;
    assert!(get(&Decision::NoOpinion(String::new())).await);
    put(&storage, "rolebindings", "a", "b", binding("Role", "r", json!([{"kind": "User", "name": "jane"}]))).await;
    let missing = "RBAC: role.rbac.authorization.k8s.io \"r\" not found";
    until(async || get(&Decision::NoOpinion(missing.into())).await).await;
    put(&storage, "roles", "a", "r", role(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]))).await;
    let allowed = "RBAC: allowed by RoleBinding \"b/a\" of Role \"r\" to User \"jane\"";
    until(async || get(&Decision::Allow(allowed.into())).await).await;
    put(&storage, "roles", "a", "r", role(Value::Null)).await;
    until(async || get(&Decision::NoOpinion(String::new())).await).await;
    put(&storage, "roles", "a", "r", role(json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}]))).await;
    until(async || get(&Decision::Allow(allowed.into())).await).await;
    // The subject leaves, then the binding comes back and goes.
    put(&storage, "rolebindings", "a", "b", binding("Role", "r", json!([{"kind": "User", "name": "john"}]))).await;
    until(async || get(&Decision::NoOpinion(String::new())).await).await;
    put(&storage, "rolebindings", "a", "b", binding("Role", "r", json!([{"kind": "User", "name": "jane"}]))).await;
    until(async || get(&Decision::Allow(allowed.into())).await).await;
    let key = Key::new(&GroupResource::new(GROUP, "rolebindings"), "a", "b");
    let revision = storage.get(&key).unwrap().revision;
    storage.delete(key, revision).await.unwrap();
    until(async || get(&Decision::NoOpinion(String::new())).await).await;
}

#[tokio::test]
async fn paths_are_matched_with_a_star_at_the_end() {
    let storage = SqliteStorage::in_memory().await;
    let rules = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}]);
    put(&storage, "clusterroles", "", "paths", role(rules)).await;
    let all = json!([{"kind": "Group", "name": "system:authenticated"}]);
    put(&storage, "clusterrolebindings", "", "paths", binding("ClusterRole", "paths", all)).await;
    let rbac = Rbac::new(storage.clone());
    let jane = user("jane", &[]);
    for (verb, path, wanted) in [
        ("get", "/healthz", true),
        ("get", "/healthz/ping", false),
        ("get", "/api/v1", true),
        ("get", "/api", false),
        ("post", "/healthz", false),
    ] {
        let decision = rbac.authorize(&Attributes { user: &jane, verb, resource: None, path }).await;
        assert_eq!(matches!(decision, Decision::Allow(_)), wanted, "{verb} {path}");
    }
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Rule {
    let list = |items: &[&str]| items.iter().map(|item| Box::from(*item)).collect();
    Rule {
        verbs: list(verbs),
        api_groups: list(&[group]),
        resources: list(resources),
        resource_names: list(names),
        ..Rule::default()
    }
}

#[test]
fn rights_cover_rights() {
    let admin = rule(&["*"], "*", &["*"], &[]);
    let pods = rule(&["get", "list"], "", &["pods"], &[]);
    let one = rule(&["get"], "", &["pods"], &["web"]);
    let logs = rule(&["get"], "", &["pods/log"], &[]);
    let any_log = rule(&["get"], "", &["*/log"], &[]);
    for (owned, wanted, covered) in [
        (&admin, &pods, true),
        (&admin, &logs, true),
        (&pods, &one, true),
        (&one, &pods, false),
        (&pods, &logs, false),
        (&any_log, &logs, true),
        (&logs, &any_log, false),
        (&pods, &admin, false),
        (&admin, &admin, true),
    ] {
        let missing = covers(std::slice::from_ref(owned), std::slice::from_ref(wanted));
        assert_eq!(missing.is_empty(), covered, "{} covers {}", owned.compact(), wanted.compact());
    }
    // Two owners together.
    let gets = rule(&["get"], "", &["pods"], &[]);
    let lists = rule(&["list"], "", &["pods"], &[]);
    assert!(covers(&[gets.clone(), lists], std::slice::from_ref(&pods)).is_empty());
    assert_eq!(covers(&[gets], &[pods]), [rule(&["list"], "", &["pods"], &[])]);
}

#[tokio::test]
async fn what_is_missing_is_listed_as_kubernetes_does() {
    let storage = SqliteStorage::in_memory().await;
    let rbac = Rbac::new(storage);
    let wanted =
        [rule(&["get", "list"], "", &["pods", "secrets"], &[]), rule(&["get"], "apps", &["deployments"], &["x"])];
    let error = confirm_no_escalation(&rbac, &user("jane", &[]), "a", &wanted).unwrap_err();
    assert_eq!(
        error,
        "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}\n\
         {APIGroups:[\"apps\"], Resources:[\"deployments\"], ResourceNames:[\"x\"], Verbs:[\"get\"]}"
    );
    assert!(confirm_no_escalation(&rbac, &user("jane", &[]), "a", &[]).is_ok());
}
