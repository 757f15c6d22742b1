//! Rights through the whole API server: nobody gives what he does not have; who stands in for whom; and
//! how others come to know the cluster's tokens.

use crate::admission_webhooks::until;
use crate::apiserver::Api;
use crate::cluster::TestCluster;
use crate::custom_resources::api;
use axum::body::Body;
use base64::Engine;
use http::Method;
use orch::api::UserInfo;
use orch::client::kinds;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn role(name: &str, rules: Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

/// Gives a user rights everywhere, and waits until they hold.
async fn give(api: &Api, user: &str, name: &str, rules: Value, allows: (&str, &str, &str)) {
    api.post(&format!("{RBAC}/clusterroles"), role(name, rules)).await.ok();
    api.post(&format!("{RBAC}/clusterrolebindings"), binding(name, "ClusterRole", name, user)).await.ok();
    let (verb, group, resource) = allows;
    let attributes = json!({ "verb": verb, "group": group, "resource": resource, "name": "x", "namespace": "default" });
    let review = json!({ "spec": { "user": user, "resourceAttributes": attributes } });
    until(|| async {
        let made = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review.clone()).await.ok();
        (made["status"]["allowed"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_gives_rights_that_he_does_not_have() {
    let admin = api().await;
    let ann = Api { user: UserInfo::new("ann", &[]), ..admin.clone() };
    let group = "rbac.authorization.k8s.io";
    let writes = json!([
        { "apiGroups": [group], "resources": ["roles", "rolebindings", "clusterroles"], "verbs": ["create", "update", "patch", "get"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
    ]);
    give(&admin, "ann", "writer", writes, ("create", group, "roles")).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");

    ann.post(&roles, role("pods", json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]))).await.ok();
    let secrets = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"] }]);
    let (code, message) = ann.post(&roles, role("secrets", secrets.clone())).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "roles.rbac.authorization.k8s.io \"secrets\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) \
             is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
        )
    );
    // Not by an update, either; and not by aggregation.
    let (code, _) = ann.merge(&format!("{roles}/pods"), json!({ "rules": secrets })).await.refused();
    assert_eq!(code, 403);
    let mut aggregating = role("all", Value::Null);
    aggregating["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { "a": "b" } }] });
    let (_, message) = ann.post(&format!("{RBAC}/clusterroles"), aggregating).await.refused();
    assert!(message.ends_with("must have cluster-admin privileges to use the aggregationRule"), "{message}");

    // Bindings: of what he has, and of what he may bind.
    ann.post(&bindings, binding("own", "Role", "pods", "bob")).await.ok();
    let (code, message) =
        ann.post(&bindings, binding("view", "ClusterRole", "system:node-proxier", "bob")).await.refused();
    assert!(code == 403 && message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
    let (code, message) = ann.post(&bindings, binding("none", "ClusterRole", "nothing", "bob")).await.refused();
    assert_eq!((code, message.as_str()), (404, "rolebindings.rbac.authorization.k8s.io \"nothing\" not found"));
    // Whoever changes a role has what it gives, whatever is changed; what garbage collection does is let be.
    admin.post(&roles, role("wide", secrets.clone())).await.ok();
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let (code, _) = ann.merge(&format!("{roles}/wide"), labels).await.refused();
    assert_eq!(code, 403);
    ann.merge(&format!("{roles}/wide"), json!({ "metadata": { "finalizers": ["example.com/a"] } })).await.ok();
    let binds = json!([{ "apiGroups": [group], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["x", "system:node-proxier"] }]);
    give(&admin, "ann", "binder", binds, ("bind", group, "clusterroles")).await;
    ann.post(&bindings, binding("view", "ClusterRole", "system:node-proxier", "bob")).await.ok();
    let (code, _) = ann.post(&bindings, binding("edit", "ClusterRole", "cluster-admin", "bob")).await.refused();
    assert_eq!(code, 403);
    let escalates = json!([{ "apiGroups": [group], "resources": ["roles"], "verbs": ["escalate"] }]);
    give(&admin, "ann", "escalator", escalates, ("escalate", group, "roles")).await;
    ann.post(&roles, role("secrets", secrets)).await.ok();
}

#[tokio::test]
async fn who_may_stands_in_for_another() {
    let admin = api().await;
    let whoami = async |api: &Api, headers: &[(&str, &str)]| {
        let mut request = api.request(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews");
        for (name, value) in headers.iter().chain(&[("content-type", "application/json")]) {
            request = request.header(*name, *value);
        }
        api.answer(request.body(Body::from("{}")).expect("a request")).await
    };
    let all = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Extra-Scopes", "view"),
        ("Impersonate-Extra-example.com%2Fteam", "blue"),
    ];
    // The default roles take hold a moment after they are stored.
    let jane = until(|| async {
        let answer = whoami(&admin, &all).await;
        answer.status.is_success().then(|| answer.ok())
    })
    .await;
    assert_eq!(
        jane["status"]["userInfo"],
        json!({
            "username": "jane",
            "uid": "u-1",
            "groups": ["devs", "ops", "system:authenticated"],
            "extra": { "example.com/team": ["blue"], "scopes": ["view"] },
        })
    );
    let (code, message) = whoami(&admin, &[("Impersonate-Uid", "u-1")]).await.refused();
    assert!(code >= 400 && message.contains("without impersonating a user"), "{code} {message}");

    let ann = Api { user: UserInfo::new("ann", &[]), ..admin.clone() };
    let rules = json!([
        { "apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["x", "jane"] },
        { "apiGroups": ["authentication.k8s.io"], "resources": ["uids"], "verbs": ["impersonate"], "resourceNames": ["u-1"] },
        { "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "verbs": ["impersonate"], "resourceNames": ["view"] },
    ]);
    give(&admin, "ann", "stand-in", rules, ("impersonate", "", "users")).await;
    let jane = ("Impersonate-User", "jane");
    for allowed in [&[jane][..], &[jane, ("Impersonate-Uid", "u-1")], &[jane, ("Impersonate-Extra-Scopes", "view")]] {
        assert_eq!(whoami(&ann, allowed).await.ok()["status"]["userInfo"]["username"], "jane");
    }
    for refused in [
        &[("Impersonate-User", "root")][..],
        &[jane, ("Impersonate-Group", "system:masters")],
        &[jane, ("Impersonate-Uid", "u-2")],
        &[jane, ("Impersonate-Extra-Scopes", "edit")],
        &[jane, ("Impersonate-Extra-Other", "view")],
    ] {
        whoami(&ann, refused).await.is(403);
    }
}

#[tokio::test]
async fn the_issuer_of_tokens_is_discovered() {
    let admin = api().await;
    let account = UserInfo::new(
        "system:serviceaccount:default:reader",
        &["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
    );
    let pod = Api { user: account, ..admin.clone() };
    let found = until(|| async {
        let answer = pod.get("/.well-known/openid-configuration").await;
        answer.status.is_success().then(|| answer.ok())
    })
    .await;
    assert_eq!(found["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(found["response_types_supported"], json!(["id_token"]));
    assert_eq!(found["subject_types_supported"], json!(["public"]));
    let algorithm = found["id_token_signing_alg_values_supported"][0].clone();
    let keys = pod.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let keys = keys.ok();

    admin.post("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "reader" } })).await.ok();
    let path = "/api/v1/namespaces/default/serviceaccounts/reader/token";
    let made = admin.post(path, json!({ "spec": {} })).await.ok();
    let token = made["status"]["token"].as_str().expect("a token");
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a head"));
    let head: Value = serde_json::from_slice(&head.expect("base64")).expect("JSON");
    assert_eq!(head["alg"], algorithm);
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == head["kid"]).expect("its key");
    assert_eq!((&key["use"], &key["alg"]), (&json!("sig"), &algorithm));
    assert!(key.get("d").is_none(), "the private part stays here");

    // As a real server answers.
    let account = &made["metadata"]["uid"];
    assert!(account.is_string(), "{made}");
    let of = |kind: &str, name: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}});
    for (metadata, spec, code, text) in [
        (
            json!({"name": "x"}),
            json!({}),
            422,
            "metadata.name: Invalid value: \"x\": must match the service account name if specified",
        ),
        (
            json!({"namespace": "x"}),
            json!({}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"uid": "x"}),
            json!({}),
            409,
            "the UID in the token request (x) does not match the UID of the service account",
        ),
        (json!({"uid": account}), json!({}), 201, ""),
        (json!({}), of("Pod", ""), 400, "Name parameter required."),
        (json!({}), of("Foo", "x"), 400, "cannot bind token to object of type /v1, Kind=Foo"),
        (
            json!({}),
            json!({"boundObjectRef": {"apiVersion": "v2", "kind": "Secret", "name": "x"}}),
            404,
            "secrets \"x\" not found",
        ),
    ] {
        let answer = admin.post(path, json!({"metadata": metadata, "spec": spec})).await;
        assert_eq!(answer.status, code, "{metadata} {spec}: {}", answer.text);
        assert!(answer.text.replace("\\\"", "\"").contains(text), "{text}: {}", answer.text);
    }
    // Only tokens of pods live on behind what was asked for.
    let made = admin.post(path, json!({"spec": {"expirationSeconds": 3607}})).await.ok();
    let claims = made["status"]["token"].as_str().and_then(|token| token.split('.').nth(1)).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(end, start)| end - start), Some(3607));
    assert_eq!(claims["kubernetes.io"].get("warnafter"), None);
    admin.get_as("/openid/v1/jwks", "application/json").await.is(406);
    let head = admin.request(http::Method::HEAD, "/openid/v1/jwks").body(axum::body::Body::empty());
    admin.answer(head.expect("a request")).await.is(405);

    let nobody = Api { user: UserInfo::new("system:anonymous", &["system:unauthenticated"]), ..admin };
    nobody.get("/openid/v1/jwks").await.is(403);
}

#[tokio::test]
async fn a_role_aggregates_others() {
    let cluster = TestCluster::start().await;
    let labels = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    let rules = json!([{ "apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"] }]);
    let added = json!({ "metadata": { "name": "widgets-view", "labels": labels }, "rules": rules });
    cluster.create(&kinds::CLUSTER_ROLES, "", added).await;
    let has = |role: &Value| role["rules"].as_array().is_some_and(|all| all.contains(&rules[0]));
    for name in ["view", "edit", "admin"] {
        cluster.until_object(&kinds::CLUSTER_ROLES, "", name, "has the rule", has).await;
    }
    cluster.delete(&kinds::CLUSTER_ROLES, "", "widgets-view", Default::default()).await;
    cluster.until_object(&kinds::CLUSTER_ROLES, "", "admin", "has it no more", |role| !has(role)).await;
}
