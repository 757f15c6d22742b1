//! What Kubernetes v1.36 answers to whole life cycles of the served kinds, request by request:
//! validation of every field, updates, patches, server-side apply, subresources, deletion.
//!
//! `corpus.jsonl.zst` holds a request a line, with the reply where it is compared: those without
//! one are sent for what they change. What differs from run to run is taken out of both sides.

use crate::apiserver::Api;
use crate::cluster;
use axum::body::Body;
use orch::api::{Fields, FieldsMut};
use regex::Regex;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::LazyLock;

const CASES: &[u8] = include_bytes!("../data/corpus.jsonl.zst");
/// The kinds outside the core groups: fields made invalid, and updates that are refused.
const GROUPS: &[u8] = include_bytes!("../data/groups.jsonl.zst");
/// Fields made wrong and changed, of the core, apps, batch, autoscaling and policy kinds.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rules.jsonl.zst");
/// Metadata changed wrongly, objects without their type, deletions and writes of subresources, of all kinds.
const UPDATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/updates.jsonl.zst");
/// Values of the wrong type, nulls in merges, versions of one kind beside each other.
const EDGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/edges.jsonl.zst");

/// Fields that are another at every run.
const VOLATILE: &[&str] = &[
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "selfLink",
    "deletionTimestamp",
    "time",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "healthCheckNodePort",
    "continue",
    "remainingItemCount",
    "lastTransitionTime",
    "lastUpdateTime",
    "observedGeneration",
    "startTime",
    "token",
    "expirationTimestamp",
];
/// The field managers that the requests name.
const MANAGERS: &[&str] = &["creator", "putter", "mp", "smp", "dry", "ssa-a", "ssa-b", "ssa-full"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// Parts of texts that are others at every run, and dumps of whole objects.
static PARTS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        ("kube-api-access-[a-z0-9]{5}", "kube-api-access-X"),
        ("gen-[a-z0-9]{5}", "gen-X"),
        (r"10\.(96|43)\.\d+\.\d+", "IP"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"resource version: \d+, current: \d+", "resource version: N"),
        ("Bad_[a-z0-9]{5}", "Bad_X"),
        (r"in record \(\d+\)", "in record (N)"),
        (r#"(?s)Invalid value: \\*"?\{.*"#, "Invalid value: {..."),
        (r"(?s)(may not change fields other than [^\n]*)\n.*", "$1"),
    ]
    .map(|(text, instead)| (pattern(text), instead))
    .into()
});
static KEEPS_STATUS: LazyLock<Regex> = LazyLock::new(|| pattern("review|/status$|/scale$"));

fn without_parts(text: &str) -> String {
    PARTS
        .iter()
        .fold(Cow::Borrowed(text), |text, (part, instead)| part.replace_all(&text, *instead).into_owned().into())
        .into_owned()
}

/// A reply to a request of `path` without what differs from run to run.
fn comparable(value: &Value, path: &str) -> Value {
    match value {
        Value::String(text) => without_parts(text).into(),
        Value::Array(items) => items.iter().map(|item| comparable(item, path)).collect(),
        Value::Object(fields) => {
            let mut out = json!({});
            for (name, value) in fields {
                let value = match name.as_str() {
                    "uid" if value == "" => value.clone(),
                    name if VOLATILE.contains(&name) => continue,
                    "status" if value.is_object() && !KEEPS_STATUS.is_match(path) => continue,
                    "managedFields" => managed(value, path),
                    "projected" => projected(value, path),
                    "columnDefinitions" => value.items().iter().map(|column| without(column, "description")).collect(),
                    // Cells have their own tests; ages and what controllers count differ.
                    "rows" => value.items().iter().map(|row| comparable(row.at("object"), path)).collect(),
                    _ => comparable(value, path),
                };
                if name != "managedFields" || value.items() != [] as [Value; 0] {
                    out.set(name, value);
                }
            }
            out
        }
        value => value.clone(),
    }
}

fn without(object: &Value, field: &str) -> Value {
    let mut object = object.clone();
    object.clear(field);
    object
}

fn managed(entries: &Value, path: &str) -> Value {
    let named = entries.items().iter().filter(|entry| MANAGERS.contains(&entry.str_at("manager")));
    let mut entries: Vec<Value> = named.map(|entry| comparable(entry, path)).collect();
    entries.sort_by_key(Value::to_string);
    entries.into()
}

/// The recorder's cluster gave pods one source more than Kubernetes does.
fn projected(volume: &Value, path: &str) -> Value {
    let mut volume = comparable(volume, path);
    let own = |source: &&Value| source.at("configMap").str_at("name") != "openshift-service-ca.crt";
    let sources: Vec<Value> = volume.list_at("sources").iter().filter(own).cloned().collect();
    volume.set("sources", sources);
    volume
}

/// A PUT carries the version, uid and addresses that the object has here.
async fn made_current(api: &Api, path: &str, body: &mut Value) {
    let version = body.at("metadata").str_at("resourceVersion").to_owned();
    if version.is_empty() {
        return;
    }
    let live = path.split('?').next().unwrap_or_default();
    let current = api.get(live).await;
    if current.status != 200 {
        return;
    }
    let current = current.json();
    let uid = body.at("metadata").str_at("uid").to_owned();
    if !uid.is_empty() && !uid.starts_with("00000000") {
        let text = body.to_string().replace(&uid, current.at("metadata").str_at("uid"));
        *body = serde_json::from_str(&text).expect("still JSON");
    }
    if version != "1" {
        body.object_mut("metadata").copy("resourceVersion", current.at("metadata"));
    }
    for field in ["clusterIP", "clusterIPs"] {
        let given = body.at("spec").at(field);
        let none = given.is_null() || *given == "None" || *given == json!(["None"]);
        if !none && current.at("spec").has(field) {
            body.object_mut("spec").copy(field, current.at("spec"));
        }
    }
}

#[tokio::test]
async fn replies_are_those_of_kubernetes() {
    replay(CASES, 6000).await;
}

#[tokio::test]
async fn replies_of_the_groups_are_those_of_kubernetes() {
    replay(GROUPS, 510).await;
}

#[tokio::test]
async fn rules_are_those_of_kubernetes() {
    replay(&std::fs::read(RULES).expect("the rules are there"), 950).await;
}

#[tokio::test]
async fn updates_are_those_of_kubernetes() {
    replay(&std::fs::read(UPDATES).expect("the updates are there"), 430).await;
}

#[tokio::test]
async fn edges_are_those_of_kubernetes() {
    replay(&std::fs::read(EDGES).expect("the edges are there"), 60).await;
}

/// Send the cases in their order and compare at least so many replies.
async fn replay(cases: &[u8], at_least: usize) {
    let api =
        Api { server: cluster::control_plane().await, user: orch::api::UserInfo::new("admin", &["system:masters"]) };
    for (collection, name) in [
        ("namespaces", "corpus"),
        ("namespaces/corpus/serviceaccounts", "default"),
        ("namespaces/corpus/configmaps", "kube-root-ca.crt"),
    ] {
        api.post(&format!("/api/v1/{collection}"), json!({"metadata": {"name": name}})).await.ok();
    }
    let text = zstd::decode_all(cases).expect("the cases are zstd");
    let (mut count, mut wrong) = (0, Vec::new());
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut case: Value = serde_json::from_slice(line).expect("a case is JSON");
        let (method, path) = (case.str_at("method").to_owned(), case.str_at("path").to_owned());
        let mut body = case["body"].take();
        if method == "PUT" && body.is_object() {
            made_current(&api, &path, &mut body).await;
        }
        let mut request = api.request(method.parse().expect("a method"), &path).header("accept", "application/json");
        let headers = request.headers_mut().expect("a request without a fault");
        if !body.is_null() {
            headers.insert("content-type", "application/json".parse().expect("a value"));
        }
        for (name, value) in case.map_at("headers") {
            let name: http::HeaderName = name.parse().expect("a header");
            headers.insert(name, value.as_str().unwrap_or_default().parse().expect("a value"));
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(text) => Body::from(text),
            body => Body::from(body.to_string()),
        };
        let answer = api.answer(request.body(body).expect("a request")).await;
        let Some(wanted) = case.get_set("reply") else { continue };
        count += 1;
        let warnings: Vec<String> = answer
            .headers
            .get_all("warning")
            .iter()
            .map(|value| without_parts(value.to_str().expect("text")))
            .collect();
        let got = json!({
            "code": answer.status.as_u16(),
            "warnings": warnings,
            "body": comparable(&answer.json(), path.split('?').next().unwrap_or_default()),
        });
        let wanted = json!({
            "code": wanted.at("code"),
            "warnings": wanted.list_at("warnings"),
            "body": comparable(wanted.at("body"), path.split('?').next().unwrap_or_default()),
        });
        if got != wanted {
            wrong.push(format!("#{} {method} {path}\n  want {wanted}\n  got  {got}", case.at("id")));
        }
    }
    assert!(count > at_least, "{count} cases");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
