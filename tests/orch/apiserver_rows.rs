//! A new kind is a row: every verb works on it, and it goes again.

use crate::apiserver::Api;
use axum::body::Body;
use http::Method;
use orch::api::{GroupResource, GroupVersionKind, Status};
use orch::apiserver::subresources::Handler;
use orch::apiserver::verbs::Call;
use orch::apiserver::{Reply, respond};
use orch::resources::{Column, Resource, Subresource};
use orch::schema::{Schema, builtin_schema};
use serde_json::{Value, json};
use std::sync::Arc;

const GADGETS: &str = "/apis/example.com/v1/namespaces/a/gadgets";

/// Gadgets look like ReplicaSets.
fn register(api: &Api) {
    let shape = builtin_schema(&GroupVersionKind::new("apps", "v1", "ReplicaSet")).expect("built in");
    let schema = Schema { gvk: GroupVersionKind::new("example.com", "v1", "Gadget"), ..shape };
    let resource = Resource {
        short_names: vec!["gd".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status(), Subresource::scale(".spec.selector")],
        columns: Vec::<Column>::new(),
        ..Resource::new("example.com", "v1", "Gadget", "gadgets")
    };
    api.server.state().registry.register(&GroupResource::new("example.com", "gadgets"), vec![(resource, schema)]);
}

/// Not even a path is known, which is told in plain text.
async fn is_no_page(api: &Api, path: &str) {
    let answer = api.get(path).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, "404 page not found\n"), "{path}");
}

fn gadget() -> Value {
    json!({"metadata": {"name": "g", "labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}})
}

#[tokio::test]
async fn every_verb_works_on_a_new_row() {
    let api = Api::new().await;
    is_no_page(&api, GADGETS).await;
    register(&api);
    let made = api.post(GADGETS, gadget()).await.ok();
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Gadget"), &json!("example.com/v1")));
    assert_eq!(made["metadata"]["generation"], json!(1));
    let path = format!("{GADGETS}/g");
    assert_eq!(api.get(&path).await.ok(), made);
    let list = api.get(&format!("{GADGETS}?labelSelector=a%3Db")).await.ok();
    assert_eq!(
        (&list["kind"], &list["items"][0]),
        (&json!("GadgetList"), &made),
        "items of custom lists say their kind"
    );

    let patched = api.merge(&path, json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!(patched["metadata"]["generation"], json!(2));
    let applied =
        json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g", "labels": {"c": "d"}}});
    let applied = api
        .write_as(
            Method::PATCH,
            &format!("{path}?fieldManager=test"),
            "application/apply-patch+yaml",
            applied.to_string(),
        )
        .await
        .ok();
    assert_eq!(applied["metadata"]["labels"], json!({"a": "b", "c": "d"}));
    let strategic = "application/strategic-merge-patch+json";
    assert_eq!(api.write_as(Method::PATCH, &path, strategic, "{}".to_owned()).await.refused().0, 415);

    // The status and the rest are written apart.
    let status =
        api.merge(&format!("{path}/status"), json!({"status": {"replicas": 2}, "spec": {"replicas": 9}})).await.ok();
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(2), &json!(2)));
    assert_eq!(status["metadata"]["generation"], json!(2));
    let kept = api.merge(&path, json!({"status": {"replicas": 7}})).await.ok();
    assert_eq!(kept["status"]["replicas"], json!(2));

    let scale = api.get(&format!("{path}/scale")).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=b"}));
    api.merge(&format!("{path}/scale"), json!({"spec": {"replicas": 5}})).await.ok();
    assert_eq!(api.get(&path).await.ok()["spec"]["replicas"], json!(5));
    let (code, message) = api.merge(&format!("{path}/scale"), json!({"spec": {"replicas": -1}})).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "Scale.autoscaling \"g\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        )
    );

    let table = api.get_as(GADGETS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Created At");
    let discovered = api.get("/apis/example.com/v1").await.ok();
    let names: Vec<&str> =
        discovered["resources"].as_array().expect("resources").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["gadgets", "gadgets/scale", "gadgets/status"]);
    assert_eq!(api.delete(&path, None).await.ok()["status"], "Success");

    api.server.state().registry.unregister(&GroupResource::new("example.com", "gadgets"));
    is_no_page(&api, GADGETS).await;
    is_no_page(&api, "/apis/example.com/v1").await;
}

#[tokio::test]
async fn who_set_which_field_is_kept() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/a/configmaps";
    let object = json!({"metadata": {"name": "x"}, "data": {"a": "1"}});
    let made = api.post(&format!("{path}?fieldManager=one"), object).await.ok();
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "one");
    let apply =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": value}});
    let send = |manager: &'static str, value: &'static str, force: bool| {
        let api = api.clone();
        async move {
            let path = format!("{path}/x?fieldManager={manager}&force={force}");
            api.write_as(Method::PATCH, &path, "application/apply-patch+yaml", apply(value).to_string()).await
        }
    };
    let (code, message) = send("two", "2", false).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.a")
    );
    assert_eq!(send("two", "2", true).await.ok()["data"]["a"], "2");
}

/// What is posted to be answered has no columns.
#[tokio::test]
async fn a_review_is_no_table() {
    let api = crate::custom_resources::api().await;
    let review = json!({ "spec": { "nonResourceAttributes": { "path": "/", "verb": "get" } } });
    let request = |accept: &str| {
        api.request(http::Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header("Content-Type", "application/json")
            .header("Accept", accept)
            .body(axum::body::Body::from(review.to_string()))
            .expect("a request")
    };
    api.answer(request("application/json;as=Table;v=v1;g=meta.k8s.io")).await.is(406);
    let either = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    assert_eq!(api.answer(request(either)).await.ok()["kind"], "SelfSubjectAccessReview");
}

/// What the decoder warned of is said of a refused review, too.
#[tokio::test]
async fn a_refused_review_tells_of_unknown_fields() {
    let api = crate::custom_resources::api().await;
    for (path, code) in [
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", 422),
        ("authorization.k8s.io/v1/subjectaccessreviews", 422),
        ("authorization.k8s.io/v1/selfsubjectrulesreviews", 400),
        ("authentication.k8s.io/v1/tokenreviews", 400),
    ] {
        let answer = api.post(&format!("/apis/{path}"), json!({ "spec": { "bogus": 1 } })).await;
        assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"spec.bogus\\\"\"", "{path}");
        answer.is(code);
    }
}

/// Tells which method reached it.
struct Echo {
    passes_on: bool,
}

#[async_trait::async_trait]
impl Handler for Echo {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        Ok(respond::json(http::StatusCode::OK, &json!({ "method": call.request.method().as_str() })))
    }

    fn passes_on(&self) -> bool {
        self.passes_on
    }
}

#[tokio::test]
async fn what_is_passed_on_takes_any_method() {
    let api = Api::with(|config| {
        config.handlers.push(("pods/proxy", Arc::new(Echo { passes_on: true })));
        config.handlers.push(("pods/exec", Arc::new(Echo { passes_on: false })));
    })
    .await;
    let call = |method: &str, subresource: &str| {
        let path = format!("/api/v1/namespaces/a/pods/web/{subresource}");
        let request = api.request(method.parse().expect("a method"), &path).body(Body::empty()).expect("a request");
        api.answer(request)
    };
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(call(method, "proxy/some/path").await.ok()["method"], method);
    }
    call("OPTIONS", "exec").await.is(405);
    call("OPTIONS", "status").await.is(405);
}
