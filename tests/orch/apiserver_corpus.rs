//! What Kubernetes v1.36 answers to requests that are wrong, case by case: code, reason, message,
//! details and warnings.

use crate::apiserver::Api;
use axum::body::Body;
use serde_json::{Value, json};

const REFUSALS: &str = include_str!("corpus/refusals.jsonl");

/// Revisions differ from server to server.
fn without_revisions(mut status: Value) -> Value {
    if let Some(message) = status["message"].as_str()
        && let Some(end) = message.find(", current: ")
    {
        status["message"] = json!(message[..end]);
    }
    status
}

#[tokio::test]
async fn refusals_are_those_of_kubernetes() {
    let api = Api::new().await;
    let root_ca = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}});
    api.post("/api/v1/namespaces/corpus/configmaps", root_ca).await.ok();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in REFUSALS.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let (method, path) = (case["method"].as_str().expect("a method"), case["path"].as_str().expect("a path"));
        let mut request = api.request(method.parse().expect("a method"), path);
        if let Some(accept) = case["accept"].as_str() {
            request = request.header("accept", accept);
        }
        if let Some(content_type) = case["contentType"].as_str() {
            request = request.header("content-type", content_type);
        }
        let body = case["body"].as_str().map_or_else(Body::empty, |body| Body::from(body.to_owned()));
        let answer = api.answer(request.body(body).expect("a request")).await;
        let warnings: Vec<&str> =
            answer.headers.get_all("warning").iter().map(|value| value.to_str().expect("text")).collect();
        let wanted: Vec<&str> = case["warning"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (got, reply) = (without_revisions(answer.json()), without_revisions(case["reply"].clone()));
        count += 1;
        if got != reply || warnings != wanted {
            wrong.push(format!("{method} {path}\n  want {reply} {wanted:?}\n  got  {got} {warnings:?}"));
        }
    }
    assert!(count > 50, "the cases are there");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
