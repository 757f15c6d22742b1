//! Custom resources: from a definition to objects that are served like those of built-in kinds.

use crate::apiserver::Api;
use crate::cluster;
use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;
use orch::api::{Fields, UserInfo};
use serde_json::{Value, json};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// An API server with its default objects.
pub async fn api() -> Api {
    Api { server: cluster::control_plane().await, user: UserInfo::new("admin", &["system:masters"]) }
}

pub fn version(name: &str, schema: Value) -> Value {
    json!({ "name": name, "served": true, "storage": name == "v1", "schema": { "openAPIV3Schema": schema } })
}

pub fn definition(plural: &str, kind: &str, versions: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.example.com") },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind },
            "versions": versions,
        },
    })
}

pub fn widgets(schema: Value) -> Value {
    definition("widgets", "Widget", json!([version("v1", schema)]))
}

/// A schema whose objects have a spec of these properties.
pub fn spec(properties: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": properties } } })
}

pub fn widget(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

async fn define(api: &Api, definition: Value) {
    api.post(DEFINITIONS, definition).await.ok();
}

async fn patch(api: &Api, path: &str, media: &str, body: &Value) -> crate::apiserver::Answer {
    let request = api.request(Method::PATCH, path).header("content-type", media);
    api.answer(request.body(Body::from(body.to_string())).expect("a request")).await
}

const MERGE: &str = "application/merge-patch+json";

#[tokio::test]
async fn a_definition_is_served_at_once_and_withdrawn_at_once() {
    let api = api().await;
    api.get(WIDGETS).await.is(404);
    define(&api, widgets(spec(json!({ "size": { "type": "integer" } })))).await;
    let made = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    let told: Vec<_> =
        made.at("status").list_at("conditions").iter().map(|one| (one.str_at("type"), one.str_at("status"))).collect();
    assert_eq!(told, [("NamesAccepted", "True"), ("Established", "True")]);
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let groups = api.get("/apis").await.ok();
    assert!(groups.list_at("groups").iter().any(|group| group.str_at("name") == "example.com"));
    let resources = api.get("/apis/example.com/v1").await.ok();
    assert_eq!(resources["resources"][0]["name"], "widgets");
    assert_eq!(resources["resources"][0]["singularName"], "widget");

    let none = api.get(WIDGETS).await.ok();
    assert_eq!(none["metadata"]["continue"], "", "said even where the list is whole");
    api.post(WIDGETS, widget("a", json!({ "size": 1 }))).await.ok();
    let held = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    patch(&api, &format!("{WIDGETS}/a"), MERGE, &held).await.ok();
    // The watch tells of the deletion, then ends.
    let mut watch = api
        .send(api.request(Method::GET, &format!("{WIDGETS}?watch=1")).body(Body::empty()).expect("a request"))
        .await
        .into_body();
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"), None).await.ok();
    let terminating = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    assert_eq!(terminating["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let told = api.get("/apis/example.com/v1").await.ok()["resources"][0].clone();
    assert_eq!(told["verbs"], json!(["delete", "deletecollection", "get", "list", "watch"]));
    let refused = api.post(WIDGETS, widget("b", json!({}))).await;
    assert_eq!(
        refused.refused(),
        (403, "widgets.example.com \"b\" is forbidden: create not allowed while custom resource definition is terminating".to_owned())
    );
    patch(&api, &format!("{WIDGETS}/a"), MERGE, &json!({ "metadata": { "finalizers": null } })).await.ok();
    let mut events = String::new();
    while let Some(frame) = watch.frame().await {
        events.push_str(&String::from_utf8_lossy(&frame.expect("a frame").into_data().unwrap_or_default()));
    }
    assert!(events.contains("\"type\":\"DELETED\""), "{events}");
    api.get(WIDGETS).await.is(404);
    api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.is(404);
    api.get("/apis/example.com/v1").await.is(404);
}

#[tokio::test]
async fn names_of_others_are_not_served() {
    let api = api().await;
    define(&api, widgets(spec(json!({})))).await;
    let mut second = definition("wheels", "Widget", json!([version("v1", spec(json!({})))]));
    second["spec"]["names"]["listKind"] = "WheelList".into();
    define(&api, second).await;
    let wheels = format!("{DEFINITIONS}/wheels.example.com");
    let conditions = api.get(&wheels).await.ok()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["reason"], "KindConflict");
    assert_eq!(conditions[0]["message"], "\"Widget\" is already in use");
    assert_eq!(conditions[1]["reason"], "NotAccepted");
    api.get("/apis/example.com/v1/wheels").await.is(404);
    // When the first is gone, its name is free.
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"), None).await.ok();
    for _ in 0..1000 {
        if api.get("/apis/example.com/v1/wheels").await.status == 200 {
            return;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("wheels are not served: {}", api.get(&wheels).await.json());
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_told() {
    let api = api().await;
    let schema = spec(json!({
        "known": { "type": "string" },
        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "strict": { "type": "object", "properties": { "a": { "type": "string" } } } } },
        "map": { "type": "object", "additionalProperties": { "type": "object", "properties": { "a": { "type": "integer" } } } },
    }));
    define(&api, widgets(schema)).await;
    let body = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","bogus":1},"top":1,
        "spec":{"known":"1","known":"2","extra":{"x":1},"free":{"any":{"x":1},"strict":{"a":"1","b":2}},
        "map":{"k":{"a":1,"b":2}},"lost":null}}"#;
    let send = |query: &str| {
        let request =
            api.request(Method::POST, &format!("{WIDGETS}?{query}")).header("content-type", "application/json");
        api.answer(request.body(Body::from(body)).expect("a request"))
    };
    let refused = send("fieldValidation=Strict").await.refused();
    let unknown = [
        "duplicate field \"spec.known\"",
        "unknown field \"metadata.bogus\"",
        "unknown field \"spec.extra\"",
        "unknown field \"spec.free.strict.b\"",
        "unknown field \"spec.lost\"",
        "unknown field \"spec.map.k.b\"",
        "unknown field \"top\"",
    ];
    let wanted = format!(
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: {}",
        unknown.join(", ")
    );
    assert_eq!(refused, (400, wanted));
    let warned = send("fieldValidation=Warn").await;
    let warnings: Vec<_> =
        warned.headers.get_all("warning").iter().map(|text| text.to_str().expect("text").to_owned()).collect();
    assert_eq!(warnings.len(), unknown.len(), "{warnings:?}");
    assert_eq!(
        warned.ok()["spec"],
        json!({ "known": "2", "free": { "any": { "x": 1 }, "strict": { "a": "1" } }, "map": { "k": { "a": 1 } } })
    );
    let ignored = api.delete(&format!("{WIDGETS}/a"), None).await;
    ignored.ok();
    assert!(send("fieldValidation=Ignore").await.headers.get("warning").is_none());
}

#[tokio::test]
async fn defaults_are_set_on_writes_and_on_what_was_stored_before() {
    let api = api().await;
    let a = json!({ "type": "string", "default": "A" });
    define(&api, widgets(spec(json!({ "a": a, "n": { "type": "string", "nullable": true, "default": "N" } })))).await;
    let made = api.post(WIDGETS, widget("x", json!({ "n": null }))).await.ok();
    assert_eq!(made["spec"], json!({ "a": "A", "n": null }));
    let made = api.post(WIDGETS, widget("y", json!({ "a": null }))).await.ok();
    assert_eq!(made["spec"], json!({ "a": "A", "n": "N" }));
    // A new field comes with its default to objects that were stored before it; an old one goes.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let next = spec(
        json!({ "a": a, "b": { "type": "object", "default": {}, "properties": { "c": { "type": "integer", "default": 7 } } } }),
    );
    let change = json!({ "spec": { "versions": [version("v1", next)] } });
    patch(&api, &path, MERGE, &change).await.ok();
    assert_eq!(api.get(&format!("{WIDGETS}/x")).await.ok()["spec"], json!({ "a": "A", "b": { "c": 7 } }));
    let list = api.get(WIDGETS).await.ok();
    assert_eq!(list["items"][1]["spec"], json!({ "a": "A", "b": { "c": 7 } }));
    assert_eq!(list["kind"], "WidgetList");
    assert_eq!(list["items"][0]["kind"], "Widget");
}

#[tokio::test]
async fn values_are_checked_in_kubernetes_words() {
    let api = api().await;
    let schema = spec(json!({
        "count": { "type": "integer", "minimum": 1, "exclusiveMaximum": true, "maximum": 10, "multipleOf": 3.0 },
        "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "minLength": 2 },
        "color": { "type": "string", "enum": ["red", "blue"] },
        "when": { "type": "string", "format": "date-time" },
        "tags": { "type": "array", "maxItems": 2, "minItems": 1, "items": { "type": "string" } },
        "map": { "type": "object", "maxProperties": 1, "minProperties": 1, "additionalProperties": { "type": "string" } },
        "either": { "x-kubernetes-int-or-string": true },
        "one": { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
            "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
        "some": { "type": "integer", "anyOf": [{ "minimum": 10 }, { "maximum": 2 }] },
        "all": { "type": "integer", "allOf": [{ "minimum": 2 }, { "maximum": 4 }] },
        "not": { "type": "string", "not": { "enum": ["no"] } },
    }));
    define(&api, widgets(schema)).await;
    for (given, wanted) in [
        (
            json!({ "count": 0 }),
            "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1",
        ),
        (json!({ "count": 12 }), "spec.count: Invalid value: 12: spec.count in body should be less than 10"),
        (json!({ "count": 4 }), "spec.count: Invalid value: 4: spec.count in body should be a multiple of 3"),
        (
            json!({ "count": "x" }),
            "spec.count: Invalid value: \"string\": spec.count in body must be of type integer: \"string\"",
        ),
        (json!({ "name": "a1" }), "spec.name: Invalid value: \"a1\": spec.name in body should match '^[a-z]+$'"),
        (json!({ "name": "abcde" }), "spec.name: Too long: may not be more than 4 bytes"),
        (json!({ "name": "a" }), "spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars long"),
        (json!({ "color": "green" }), "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\""),
        (
            json!({ "when": "now" }),
            "spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\"",
        ),
        (json!({ "tags": [] }), "spec.tags: Invalid value: 0: spec.tags in body should have at least 1 items"),
        (json!({ "tags": ["a", "b", "c"] }), "spec.tags: Too many: 3: must have at most 2 items"),
        (
            json!({ "map": { "a": 1 } }),
            "spec.map.a: Invalid value: \"integer\": spec.map.a in body must be of type string: \"integer\"",
        ),
        (json!({ "map": {} }), "spec.map: Invalid value: 0: spec.map in body should have at least 1 properties"),
        (
            json!({ "either": true }),
            "spec.either: Invalid value: \"boolean\": spec.either in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({ "one": {} }),
            "[<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found none valid, spec.one.a: Required value]",
        ),
        (
            json!({ "one": { "a": "", "b": "" } }),
            "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({ "some": 5 }),
            "[<nil>: Invalid value: \"\": \"spec.some\" must validate at least one schema (anyOf), spec.some: Invalid value: 5: spec.some in body should be greater than or equal to 10]",
        ),
        (
            json!({ "all": 5 }),
            "[spec.all: Invalid value: 5: spec.all in body should be less than or equal to 4, <nil>: Invalid value: \"\": \"spec.all\" must validate all the schemas (allOf)]",
        ),
        (json!({ "not": "no" }), "<nil>: Invalid value: \"\": \"spec.not\" must not validate the schema (not)"),
    ] {
        let (code, message) = api.post(WIDGETS, widget("w", given.clone())).await.refused();
        let wanted = format!("Widget.example.com \"w\" is invalid: {wanted}");
        assert_eq!((code, message), (422, wanted), "{given}");
    }
    let good = json!({ "count": 3, "name": "ab", "color": "red", "when": "2020-01-02T03:04:05Z", "tags": ["a"], "map": { "a": "b" },
        "either": "1", "one": { "a": "" }, "some": 1, "all": 3, "not": "yes" });
    api.post(WIDGETS, widget("w", good)).await.ok();
}

#[tokio::test]
async fn what_an_update_leaves_alone_may_stay_wrong() {
    let api = api().await;
    define(&api, widgets(spec(json!({ "a": { "type": "string" }, "b": { "type": "string" } })))).await;
    api.post(WIDGETS, widget("w", json!({ "a": "long", "b": "x" }))).await.ok();
    let tight = spec(json!({ "a": { "type": "string", "maxLength": 2 }, "b": { "type": "string" } }));
    patch(
        &api,
        &format!("{DEFINITIONS}/widgets.example.com"),
        MERGE,
        &json!({ "spec": { "versions": [version("v1", tight)] } }),
    )
    .await
    .ok();
    let path = format!("{WIDGETS}/w");
    patch(&api, &path, MERGE, &json!({ "spec": { "b": "y" } })).await.ok();
    let (code, message) = patch(&api, &path, MERGE, &json!({ "spec": { "a": "longer" } })).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (422, "Widget.example.com \"w\" is invalid: spec.a: Too long: may not be more than 2 bytes")
    );
}

#[tokio::test]
async fn embedded_objects_are_checked_as_objects() {
    let api = api().await;
    let template = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true });
    define(&api, widgets(spec(json!({ "template": template })))).await;
    let (code, message) = api
        .post(WIDGETS, widget("w", json!({ "template": { "metadata": { "labels": { "a b": "c" } } } })))
        .await
        .refused();
    assert_eq!(code, 422);
    for part in [
        "spec.template.apiVersion: Required value",
        "spec.template.kind: Required value",
        "spec.template.metadata.labels: Invalid value: \"a b\"",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let good = json!({ "template": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "bogus": 1 }, "spec": { "any": 1 } } });
    let made = api.post(WIDGETS, widget("w", good)).await;
    assert_eq!(made.headers["warning"], "299 - \"unknown field \\\"spec.template.metadata.bogus\\\"\"");
    assert_eq!(made.ok()["spec"]["template"]["metadata"], json!({ "name": "p" }));
}

#[tokio::test]
async fn versions_differ_by_name_where_nobody_converts() {
    let api = api().await;
    let old = json!({ "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
        "schema": { "openAPIV3Schema": spec(json!({ "size": { "type": "integer" }, "old": { "type": "string", "default": "o" } })) } });
    let both = json!([version("v1", spec(json!({ "size": { "type": "integer" } }))), old]);
    define(&api, definition("widgets", "Widget", both)).await;
    let beta = "/apis/example.com/v1beta1/namespaces/default/widgets";
    let mut object = widget("w", json!({ "size": 1 }));
    object["apiVersion"] = "example.com/v1beta1".into();
    let made = api.post(beta, object).await;
    assert_eq!(
        made.headers["warning"],
        "299 - \"example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget\""
    );
    let made = made.ok();
    assert_eq!(
        (&made["apiVersion"], &made["spec"]),
        (&json!("example.com/v1beta1"), &json!({ "size": 1, "old": "o" }))
    );
    assert_eq!(api.get(&format!("{WIDGETS}/w")).await.ok()["spec"], json!({ "size": 1 }));
    assert_eq!(api.get(beta).await.ok()["items"][0]["spec"]["old"], "o");
    let group = api.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    // A version that is served no more is not there, and its objects are.
    let mut left = version("v1", spec(json!({ "size": { "type": "integer" } })));
    left["served"] = true.into();
    let change = json!({ "spec": { "versions": [left] } });
    patch(&api, &format!("{DEFINITIONS}/widgets.example.com"), MERGE, &change).await.ok();
    api.get(beta).await.is(404);
    api.get(&format!("{WIDGETS}/w")).await.ok();
}

fn full() -> Value {
    let mut only = version(
        "v1",
        json!({ "type": "object", "properties": {
            "spec": { "type": "object", "properties": { "replicas": { "type": "integer" }, "color": { "type": "string" } } },
            "status": { "type": "object", "properties": { "replicas": { "type": "integer" }, "selector": { "type": "string" } } },
        }}),
    );
    only["subresources"] = json!({ "status": {}, "scale": { "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector" } });
    only["additionalPrinterColumns"] = json!([
        { "name": "Color", "type": "string", "jsonPath": ".spec.color" },
        { "name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1 },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    only["selectableFields"] = json!([{ "jsonPath": ".spec.color" }, { "jsonPath": ".spec.replicas" }]);
    definition("widgets", "Widget", json!([only]))
}

#[tokio::test]
async fn status_and_scale_have_ends_of_their_own() {
    let api = api().await;
    define(&api, full()).await;
    let mut object = widget("w", json!({ "replicas": 2 }));
    object["status"] = json!({ "replicas": 9 });
    let made = api.post(WIDGETS, object).await.ok();
    assert_eq!((made.get("status"), &made["metadata"]["generation"]), (None, &json!(1)));
    let path = format!("{WIDGETS}/w");
    let status = json!({ "status": { "replicas": 1, "selector": "a=b" }, "spec": { "replicas": 5 }, "metadata": { "labels": { "x": "y" } } });
    let changed = patch(&api, &format!("{path}/status"), MERGE, &status).await.ok();
    assert_eq!((&changed["spec"]["replicas"], &changed["status"]["replicas"]), (&json!(2), &json!(1)));
    assert_eq!((changed["metadata"].get("labels"), &changed["metadata"]["generation"]), (None, &json!(1)));
    let scale = api.get(&format!("{path}/scale")).await.ok();
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({ "replicas": 2 }), &json!({ "replicas": 1, "selector": "a=b" }))
    );
    let scale = patch(&api, &format!("{path}/scale"), MERGE, &json!({ "spec": { "replicas": 7 } })).await.ok();
    assert_eq!(scale["spec"]["replicas"], 7);
    let now = api.get(&path).await.ok();
    assert_eq!(
        (&now["spec"]["replicas"], &now["metadata"]["generation"], &now["status"]["replicas"]),
        (&json!(7), &json!(2), &json!(1))
    );
    let (code, message) = patch(&api, &path, MERGE, &json!({ "spec": { "replicas": -1 } })).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "Widget.example.com \"w\" is invalid: .spec.replicas: Invalid value: -1: should be a non-negative integer"
        )
    );
    patch(&api, &path, MERGE, &json!({ "spec": { "replicas": null } })).await.ok();
    let (code, message) = api.get(&format!("{path}/scale")).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (500, "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist")
    );
}

async fn table(api: &Api, path: &str) -> Value {
    let request = api.request(Method::GET, path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    api.answer(request.body(Body::empty()).expect("a request")).await.ok()
}

#[tokio::test]
async fn cells_are_those_of_the_object_the_version_and_the_definition_of_now() {
    let api = api().await;
    let mut own = full();
    let mut beta = own["spec"]["versions"][0].clone();
    beta["name"] = "v1beta1".into();
    beta["storage"] = false.into();
    beta["additionalPrinterColumns"] = json!([{ "name": "Color", "type": "string", "jsonPath": ".metadata.name" }]);
    own["spec"]["versions"].as_array_mut().expect("a list").push(beta);
    define(&api, own).await;
    api.post(WIDGETS, widget("a", json!({ "color": "red" }))).await.ok();
    let path = format!("{WIDGETS}/a");
    let color = async |path: &str| table(&api, path).await["rows"][0]["cells"][1].clone();
    // Twice: what was shown is kept.
    for _ in 0..2 {
        assert_eq!(color(&path).await, "red");
        assert_eq!(color(WIDGETS).await, "red");
        assert_eq!(color(&path.replace("/v1/", "/v1beta1/")).await, "a");
    }
    patch(&api, &path, MERGE, &json!({ "spec": { "color": "blue" } })).await.ok();
    assert_eq!((color(&path).await, color(WIDGETS).await), (json!("blue"), json!("blue")));
    let definition = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    let mut versions = definition["spec"]["versions"].clone();
    versions[0]["additionalPrinterColumns"][0]["jsonPath"] = ".spec.replicas".into();
    let change = json!({ "spec": { "versions": versions } });
    patch(&api, &format!("{DEFINITIONS}/widgets.example.com"), MERGE, &change).await.ok();
    assert_eq!((color(&path).await, color(WIDGETS).await), (Value::Null, Value::Null));
}

#[tokio::test]
async fn tables_and_selectors_go_by_the_definition() {
    let api = api().await;
    define(&api, full()).await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        api.post(WIDGETS, widget(name, json!({ "color": color, "replicas": 3 }))).await.ok();
    }
    let table = table(&api, WIDGETS).await;
    let columns: Vec<_> =
        table.list_at("columnDefinitions").iter().map(|one| (one.str_at("name"), one.int_at("priority"))).collect();
    assert_eq!(columns, [("Name", 0), ("Color", 0), ("Replicas", 1), ("Age", 0)]);
    assert_eq!(table["rows"][1]["cells"].items()[..3], [json!("b"), json!("blue"), json!(3)]);
    let names = |list: &Value| {
        list.list_at("items").iter().map(|one| one.at("metadata").str_at("name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&api.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await.ok()), ["a", "c"]);
    assert_eq!(
        names(&api.get(&format!("{WIDGETS}?fieldSelector=spec.replicas%3D3,spec.color!%3Dred")).await.ok()),
        ["b"]
    );
    let (code, message) = api.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await.refused();
    assert_eq!((code, message.as_str()), (400, "field label not supported: spec.size"));
    // An object that leaves the selection is deleted to its watcher.
    let path = format!("{WIDGETS}?watch=1&fieldSelector=spec.color%3Dblue");
    let mut watch = api.send(api.request(Method::GET, &path).body(Body::empty()).expect("a request")).await.into_body();
    patch(&api, &format!("{WIDGETS}/b"), MERGE, &json!({ "spec": { "color": "red" } })).await.ok();
    let mut text = String::new();
    while !text.contains("DELETED") {
        let frame = watch.frame().await.expect("the watch goes on").expect("a frame");
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
    }
    assert!(text.contains("\"type\":\"ADDED\""), "{text}");
}

#[tokio::test]
async fn appliers_own_fields_of_custom_resources() {
    let api = api().await;
    let schema = spec(json!({
        "parts": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" }, "n": { "type": "integer" } } } },
        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        "whole": { "type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": { "type": "string" } },
    }));
    define(&api, widgets(schema)).await;
    let apply = |manager: &'static str, spec: Value| {
        let api = &api;
        async move {
            let path = format!("{WIDGETS}/w?fieldManager={manager}");
            patch(api, &path, "application/apply-patch+yaml", &widget("w", spec)).await
        }
    };
    apply("a", json!({ "parts": [{ "name": "x", "n": 1 }], "free": { "p": { "q": 1 } }, "whole": { "k": "v" } }))
        .await
        .ok();
    let both = apply("b", json!({ "parts": [{ "name": "y", "n": 2 }], "free": { "p": { "r": 2 } } })).await.ok();
    assert_eq!(both["spec"]["parts"], json!([{ "name": "x", "n": 1 }, { "name": "y", "n": 2 }]));
    assert_eq!(both["spec"]["free"], json!({ "p": { "q": 1, "r": 2 } }));
    let (code, message) = apply("b", json!({ "whole": { "other": "v" } })).await.refused();
    assert_eq!((code, message.as_str()), (409, "Apply failed with 1 conflict: conflict with \"a\": .spec.whole"));
    let left = apply("a", json!({ "free": { "p": {} } })).await.ok();
    assert_eq!(left["spec"], json!({ "parts": [{ "name": "y", "n": 2 }], "free": { "p": { "r": 2 } } }));
    let (code, message) = apply("a", json!({ "bogus": 1 })).await.refused();
    assert_eq!(
        (code, message.as_str()),
        (
            500,
            "failed to create typed patch object (/w; example.com/v1, Kind=Widget): .spec.bogus: field not declared in schema"
        )
    );
    patch(&api, &format!("{WIDGETS}/w"), "application/strategic-merge-patch+json", &json!({})).await.is(415);
}

#[tokio::test]
async fn openapi_tells_of_custom_resources_while_they_are_defined() {
    let api = api().await;
    let before = api.get("/openapi/v2").await.headers["etag"].clone();
    let mut made = full();
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "A widget for tests.".into();
    define(&api, made).await;
    let v2 = api.get("/openapi/v2").await;
    assert_ne!(v2.headers["etag"], before);
    let v2 = v2.ok();
    let schema = &v2["definitions"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "A widget for tests.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{ "group": "example.com", "kind": "Widget", "version": "v1" }])
    );
    assert_eq!(
        schema["x-kubernetes-selectable-fields"],
        json!([{ "fieldPath": "spec.color" }, { "fieldPath": "spec.replicas" }])
    );
    assert_eq!(
        schema["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let index = api.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().expect("a document").to_owned();
    let v3 = api.get(&url).await.ok();
    assert_eq!(
        v3["components"]["schemas"]["com.example.v1.WidgetList"]["properties"]["items"]["items"]["$ref"],
        "#/components/schemas/com.example.v1.Widget"
    );
    let patch =
        &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]["requestBody"]["content"];
    assert!(
        patch.has("application/merge-patch+json") && !patch.has("application/strategic-merge-patch+json"),
        "{patch}"
    );
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"), None).await.ok();
    for _ in 0..1000 {
        if api.get(&url).await.status == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!api.get("/openapi/v2").await.ok()["definitions"].has("com.example.v1.Widget"));
}

#[tokio::test]
async fn definitions_are_warned_of_and_held_to_their_defaults() {
    let api = api().await;
    let with = |properties: Value| widgets(spec(properties));
    let warnings = |answer: &crate::apiserver::Answer| -> Vec<String> {
        answer.headers.get_all("warning").iter().map(|text| text.to_str().expect("text").to_owned()).collect()
    };
    let known =
        json!({ "a": { "type": "string", "format": "date-time" }, "b": { "type": "integer", "format": "int32" } });
    let made = api.post(&format!("{DEFINITIONS}?dryRun=All"), with(known)).await;
    assert_eq!(warnings(&made), [""; 0]);
    let odd = |format: &str| json!({ "a": { "type": "string", "format": format }, "b": { "type": "integer", "format": "int32" } });
    let made = api.post(DEFINITIONS, with(odd("zip-code"))).await;
    assert_eq!(warnings(&made), ["299 - \"unrecognized format \\\"zip-code\\\"\""]);
    let mut made = made.ok();
    // What was there is not warned of again.
    made["metadata"]["labels"] = json!({ "touched": "yes" });
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let again = api.put(&path, &api.get(&path).await.ok()).await;
    assert_eq!(warnings(&again), [""; 0]);
    let mut next = again.ok();
    next["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = spec(odd("postcode"));
    assert_eq!(warnings(&api.put(&path, &next).await), ["299 - \"unrecognized format \\\"postcode\\\"\""]);
    api.delete(&path, None).await.ok();

    let refused = async |definition: Value| api.post(&format!("{DEFINITIONS}?dryRun=All"), definition).await.refused();
    let mut preserving = definition("gadgets", "Gadget", json!([version("v1", spec(json!({})))]));
    preserving["spec"]["preserveUnknownFields"] = json!(true);
    let (code, message) = refused(preserving).await;
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "CustomResourceDefinition.apiextensions.k8s.io \"gadgets.example.com\" is invalid: spec.preserveUnknownFields: \
             Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead"
        )
    );
    let ruled = json!({ "size": { "type": "integer", "default": 3, "x-kubernetes-validations": [{ "rule": "self > 5", "message": "too small" }] } });
    let (_, message) = refused(definition("gadgets", "Gadget", json!([version("v1", spec(ruled))]))).await;
    assert!(message.ends_with(".properties[spec].properties[size].default: Invalid value: 3: too small"), "{message}");
    let mut at_root = spec(json!({}));
    at_root["not"] = json!({ "required": ["x"] });
    let mut one = version("v1", at_root);
    one["subresources"] = json!({ "status": {} });
    let (_, message) = refused(definition("gadgets", "Gadget", json!([one]))).await;
    assert!(
        message.contains("only [Description Type Format Title Maximum ExclusiveMaximum Minimum")
            && message.contains(
                "XValidations] fields are allowed at the root of the schema if the status subresource is enabled"
            ),
        "{message}"
    );
}
