//! WATCH: what a client sees, in which order, and how a watch ends.

use crate::apiserver::{Answer, Api, CONFIG_MAPS};
use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;
use orch::api::GroupVersionKind;
use orch::schema::protobuf;
use serde_json::{Value, json};
use std::time::Duration;

struct Events {
    body: Body,
    buffer: Vec<u8>,
}

async fn watch(api: &Api, query: &str) -> Events {
    watch_as(api, query, "application/json").await
}

async fn watch_as(api: &Api, query: &str, accept: &str) -> Events {
    let request = api.request(Method::GET, &format!("{CONFIG_MAPS}?watch=true&{query}")).header("accept", accept);
    let reply = api.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(reply.status(), 200);
    Events { body: reply.into_body(), buffer: Vec::new() }
}

impl Events {
    /// The next event; None: the watch ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event in time");
            self.buffer.extend_from_slice(&frame?.expect("a frame").into_data().expect("data"));
        }
    }

    /// The object of the next frame in protobuf, in its envelope.
    async fn protobuf(&mut self) -> Vec<u8> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event in time");
        let frame = frame.expect("a frame").expect("a frame").into_data().expect("data");
        let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
        assert_eq!(frame.len(), length + 4, "one event");
        let at = frame.windows(4).position(|four| four == b"k8s\0").expect("an envelope");
        frame[at..].to_vec()
    }

    /// `ADDED x`
    async fn short(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().expect("a type")).trim_end().to_owned()
    }
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a version")
}

#[tokio::test]
async fn changes_come_once_and_in_order() {
    let api = Api::new().await;
    let first = api.config_map("x", json!({})).await;
    let mut from_start = watch(&api, "").await;
    let mut from_version = watch(&api, &format!("resourceVersion={}", version(&first))).await;
    assert_eq!(from_start.short().await, "ADDED x");
    api.config_map("y", json!({})).await;
    let changed = api.merge(&format!("{CONFIG_MAPS}/x"), json!({"data": {"k": "w"}})).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/y"), None).await.ok();
    for events in [&mut from_start, &mut from_version] {
        assert_eq!(events.short().await, "ADDED y");
        let modified = events.next().await.expect("an event");
        assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &changed));
        let deleted = events.next().await.expect("an event");
        assert_eq!(deleted["type"], "DELETED");
        let at = |object: &Value| version(object).parse::<u64>().expect("a number");
        assert!(at(&deleted["object"]) > at(&changed), "a deletion has a revision of its own");
    }
}

#[tokio::test]
async fn a_selector_turns_changes_into_coming_and_going() {
    let api = Api::new().await;
    api.config_map("x", json!({"on": "no"})).await;
    let mut events = watch(&api, "labelSelector=on%3Dyes").await;
    let path = format!("{CONFIG_MAPS}/x");
    let label = |value: &str| json!({"metadata": {"labels": {"on": value}}});
    api.merge(&path, label("yes")).await.ok();
    api.merge(&path, json!({"data": {"k": "2"}})).await.ok();
    api.merge(&path, label("no")).await.ok();
    api.merge(&path, json!({"data": {"k": "3"}})).await.ok();
    api.merge(&path, label("yes")).await.ok();
    api.delete(&path, None).await.ok();
    for expected in ["ADDED x", "MODIFIED x", "DELETED x", "ADDED x", "DELETED x"] {
        assert_eq!(events.short().await, expected);
    }
}

#[tokio::test]
async fn one_name_by_field_selector() {
    let api = Api::new().await;
    let mut events = watch(&api, "fieldSelector=metadata.name%3Dy").await;
    for name in ["x", "y", "z"] {
        api.config_map(name, json!({})).await;
    }
    api.delete(&format!("{CONFIG_MAPS}/x"), None).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/y"), None).await.ok();
    assert_eq!(events.short().await, "ADDED y");
    assert_eq!(events.short().await, "DELETED y");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = watch(&api, query).await;
    assert_eq!(events.short().await, "ADDED x");
    let bookmark = events.next().await.expect("an event");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    api.config_map("y", json!({})).await;
    assert_eq!(events.short().await, "ADDED y");
}

#[tokio::test]
async fn a_large_state_is_told_whole_before_what_follows() {
    let api = Api::new().await;
    let names: Vec<String> = (0..600).map(|index| format!("x{index:03}")).collect();
    for (index, name) in names.iter().enumerate() {
        let labels = if index % 2 == 0 { json!({"half": "even"}) } else { json!({}) };
        api.config_map(name, labels).await;
    }
    let mut all = watch(&api, "").await;
    let mut half = watch(&api, "labelSelector=half%3Deven").await;
    // While it is still being told, the state goes on.
    api.merge(&format!("{CONFIG_MAPS}/x599"), json!({"data": {"k": "w"}})).await.ok();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(all.short().await, format!("ADDED {name}"));
        if index % 2 == 0 {
            assert_eq!(half.short().await, format!("ADDED {name}"));
        }
    }
    assert_eq!(all.short().await, "MODIFIED x599");
}

#[tokio::test]
async fn lists_and_watches_in_protobuf_show_the_same_objects() {
    let api = Api::new().await;
    let made = api.config_map("x", json!({"label": "value"})).await;
    let accept = "application/vnd.kubernetes.protobuf";
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    let schema = orch::schema::builtin_schema(&gvk).expect("a kind");
    // Twice: the second comes from what is kept of the first.
    for _ in 0..2 {
        let request = api.request(Method::GET, CONFIG_MAPS).header("accept", accept);
        let reply = api.send(request.body(Body::empty()).expect("a request")).await;
        let bytes = reply.into_body().collect().await.expect("a body").to_bytes();
        let (version, kind, list) = protobuf::open(&bytes).expect("an envelope");
        assert_eq!((version.as_str(), kind.as_str()), ("v1", "ConfigMapList"));
        let list_schema = orch::schema::builtin_schema(&GroupVersionKind::new("", "v1", &kind)).expect("a list");
        let list = protobuf::decode_message(&list_schema, list).expect("a list");
        assert_eq!(list["items"][0]["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
        assert_eq!(list["items"][0]["data"], made["data"]);
    }
    let mut events = watch_as(&api, "", accept).await;
    let frame = events.protobuf().await;
    let object = protobuf::open(&frame).expect("an envelope").2;
    assert_eq!(protobuf::decode_message(&schema, object).expect("an object"), made);
    // The last state of what is gone has the revision of its removal.
    api.delete(&format!("{CONFIG_MAPS}/x"), None).await.ok();
    let frame = events.protobuf().await;
    let last = protobuf::decode_message(&schema, protobuf::open(&frame).expect("an envelope").2).expect("an object");
    assert_eq!(last["data"], made["data"]);
    assert!(version(&last).parse::<u64>().ok() > version(&made).parse::<u64>().ok());
}

#[tokio::test]
async fn an_old_version_is_told_in_the_stream() {
    let api = Api::new().await;
    for index in 0..3 {
        api.config_map(&format!("x{index}"), json!({})).await;
    }
    let current = version(&api.get(CONFIG_MAPS).await.ok()).parse::<u64>().expect("a number");
    let answer = api.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", current + 1000)).await;
    assert_eq!(answer.refused().0, 504);
}

#[tokio::test]
async fn a_watch_ends_in_time_and_at_shutdown() {
    let api = Api::new().await;
    let started = std::time::Instant::now();
    let mut short = watch(&api, "timeoutSeconds=1").await;
    assert_eq!(short.next().await, None);
    assert!(started.elapsed() >= Duration::from_millis(900));
    let mut long = watch(&api, "").await;
    api.server.shut_down();
    assert_eq!(long.next().await, None);
    let ready: Answer = api.get("/readyz").await;
    assert_eq!(ready.status, 500, "a server that ends is not ready");
}

#[tokio::test]
async fn tables_and_metadata_come_as_events() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let mut tables = watch_as(&api, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let event = tables.next().await.expect("an event");
    assert_eq!((&event["object"]["kind"], &event["object"]["rows"][0]["cells"][0]), (&json!("Table"), &json!("x")));
    let mut metadata = watch_as(&api, "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    let event = metadata.next().await.expect("an event");
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"].get("data"), None);
}
