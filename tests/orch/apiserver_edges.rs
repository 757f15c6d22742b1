//! What the API machinery says at its edges, for every kind alike: paths and methods that nobody
//! serves, forms that nobody gives, patches and configurations that do not fit.

use crate::apiserver::{Api, CONFIG_MAPS};
use axum::body::Body;
use http::{Method, header};
use orch::api::Fields;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";

async fn deployment(api: &Api) {
    let containers = json!([{"name": "c", "image": "i"}, {"name": "e", "image": "j"}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    api.post(DEPLOYMENTS, object).await.ok();
}

async fn ask(api: &Api, method: &str, path: &str) -> (u16, String, String) {
    let method: Method = method.parse().expect("a method");
    let answer = api.answer(api.request(method, path).body(Body::empty()).expect("a request")).await;
    let form = answer.headers.get(header::CONTENT_TYPE).map(|form| form.to_str().expect("text").to_owned());
    let text = serde_json::from_str::<Value>(&answer.text)
        .ok()
        .and_then(|body| body["message"].as_str().map(str::to_owned))
        .unwrap_or(answer.text);
    (answer.status.as_u16(), form.unwrap_or_default(), text)
}

#[tokio::test]
async fn paths_and_methods_that_nobody_serves() {
    let api = Api::new().await;
    api.config_map("c", json!({})).await;
    let (missing, method) = (
        "the server could not find the requested resource",
        "the server does not allow this method on the requested resource",
    );
    let page = "404 page not found\n";
    let (json, text) = ("application/json", "text/plain; charset=utf-8");
    for (verb, path, code, form, told) in [
        ("POST", "/api/v2", 404, json, missing),
        ("POST", "/api/v1/configmaps/x", 404, json, missing),
        ("FOO", "/api/v1/namespaces/a/nope", 404, json, missing),
        ("DELETE", "/api/v1/namespaces/a/pods/p/status/x", 404, json, missing),
        ("FOO", "/api/v1/namespaces/a/configmaps/c", 405, json, method),
        ("GET", "/apis/nope/v1", 404, text, page),
        ("POST", "/apis/nope/v1/things", 404, text, page),
        ("POST", "/healthz/", 404, text, page),
        ("POST", "/healthz/ping", 200, text, "ok"),
        ("GET", "/openapi/v2/", 404, text, page),
        ("GET", "/openapi/v3/nope", 404, "", ""),
    ] {
        let answer = ask(&api, verb, path).await;
        assert_eq!(answer, (code, form.to_owned(), told.to_owned()), "{verb} {path}");
    }
    // Only custom resources and what is no resource is asked for its head.
    assert_eq!(ask(&api, "HEAD", &format!("{CONFIG_MAPS}/c")).await.0, 405);
    assert_eq!(ask(&api, "HEAD", "/api/v1").await.0, 405);
    assert_eq!(ask(&api, "HEAD", "/version").await.0, 200);
    let answer = api.get("/healthz").await;
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn forms_of_requests_and_replies() {
    let api = Api::new().await;
    let none = api.get_as(CONFIG_MAPS, "application/*").await;
    let told = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert_eq!(none.refused(), (406, format!("{told}, {streams}")));
    let none = api.get_as(&format!("{CONFIG_MAPS}/none"), "application/*").await;
    assert_eq!(none.refused(), (406, told.to_owned()));
    let missing = api.get_as(&format!("{CONFIG_MAPS}/none"), "application/yaml").await;
    assert_eq!(
        (missing.status.as_u16(), &missing.headers["content-type"].to_str().expect("text")),
        (404, &"application/yaml")
    );
    assert!(missing.text.contains("message: configmaps \"none\" not found"), "{}", missing.text);
    let missing = api.get_as(&format!("{CONFIG_MAPS}/none"), "application/vnd.kubernetes.protobuf").await;
    assert_eq!(missing.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(missing.text.contains("configmaps \"none\" not found"), "{}", missing.text);
    let body = r#"{"metadata":{"name":"c"}}"#.to_owned();
    api.write_as(Method::POST, CONFIG_MAPS, "application/json;foo", body).await.is(415);
    let other = json!({"Kind": "Secret", "APIVersion": "v1", "metadata": {"name": "c"}});
    let told = "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion";
    assert_eq!(api.post(CONFIG_MAPS, other).await.refused(), (400, told.to_owned()));
    let own = json!({"Kind": "ConfigMap", "metadata": {"name": "c"}});
    api.post(CONFIG_MAPS, own).await.is(201);
}

#[tokio::test]
async fn parameters_of_lists_and_reads() {
    let api = Api::new().await;
    for name in ["a", "b", "c"] {
        api.config_map(name, json!({})).await;
    }
    let count = async |query: &str| api.get(&format!("{CONFIG_MAPS}?{query}")).await.ok().list_at("items").len();
    assert_eq!(count("limit=2").await, 2);
    assert_eq!(count("limit=2&resourceVersion=0").await, 3, "what is at hand is given whole");
    for (query, code, told) in [
        (
            "continue=bad",
            400,
            "invalid continue token: continue key is not valid: invalid character 'm' looking for beginning of value",
        ),
        ("continue=eyJ", 400, "invalid continue token: continue key is not valid: unexpected end of JSON input"),
        (
            "continue=bad&resourceVersion=1",
            400,
            "invalid continue token: continue key is not valid: invalid character 'm' looking for beginning of value",
        ),
        ("fieldSelector=metadata.name%3Da%3Db", 400, "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(api.get(&format!("{CONFIG_MAPS}?{query}")).await.refused(), (code, told.to_owned()), "{query}");
    }
    let future = api.get(&format!("{CONFIG_MAPS}?resourceVersion=99999&resourceVersionMatch=Exact")).await;
    assert!(!future.headers.contains_key("retry-after"));
    assert_eq!(future.status, 504);
    let told = "field label \"spec.foo\" not supported for Job".to_owned();
    assert_eq!(api.get("/apis/batch/v1/jobs?fieldSelector=spec.foo%3Dx").await.refused(), (400, told));
    let told = "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".to_owned();
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a?resourceVersion=x")).await.refused(), (500, told));
    // What is in no cache is looked at by the store.
    let told = "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    let event = api.get("/api/v1/namespaces/default/events/a?resourceVersion=x").await;
    assert_eq!(event.refused(), (400, told.to_owned()));
    let list = api.get(&format!("{CONFIG_MAPS}?resourceVersion=x")).await;
    assert_eq!(list.refused(), (400, told.to_owned()));
    let watch = api.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=x")).await;
    let told = told.strip_prefix("invalid resource version: ").expect("a prefix");
    assert_eq!(watch.refused(), (500, told.to_owned()));
    let told = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
    let watch = api.get(&format!("{CONFIG_MAPS}?watch=true&continue=x&timeoutSeconds=1")).await;
    assert_eq!(watch.refused(), (422, told.to_owned()));
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let told = "Unable to convert to Table as requested: includeObject: Invalid value: \"x\": must be 'Metadata', 'Object', 'None', or empty";
    for path in ["/a?", "?", "?watch=true&timeoutSeconds=1&"] {
        let answer = api.get_as(&format!("{CONFIG_MAPS}{path}includeObject=x"), table).await;
        assert_eq!(answer.refused(), (400, told.to_owned()), "{path}");
    }
    // Only a kind without columns of its own has no rows at all.
    let rows = async |path: &str| api.get_as(path, table).await.ok()["rows"].clone();
    assert_eq!(rows(&format!("{CONFIG_MAPS}?labelSelector=none")).await, json!([]));
    assert_eq!(rows("/api/v1/limitranges").await, Value::Null);
    let (code, told) = api.get_as(CONFIG_MAPS, "text/html").await.refused();
    assert_eq!(code, 406);
    assert!(
        told.ends_with("protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"),
        "{told}"
    );
    let object = json!({"metadata": {"name": "a", "resourceVersion": "x"}});
    let told = "strconv.ParseUint: parsing \"x\": invalid syntax".to_owned();
    assert_eq!(api.put(&format!("{CONFIG_MAPS}/a"), &object).await.refused(), (500, told));
    let manager = api.merge(&format!("{CONFIG_MAPS}/a?fieldManager=a%01"), json!({})).await.refused();
    let told = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\x01\": invalid character U+0001 (at position 1)";
    assert_eq!(manager, (422, told.to_owned()));
    for (body, told) in [
        ("{", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (
            "[]",
            "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
        ),
    ] {
        let answer =
            api.write_as(Method::DELETE, &format!("{CONFIG_MAPS}/a"), "application/json", body.to_owned()).await;
        assert_eq!(answer.refused(), (400, told.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn strategic_patches_that_do_not_fit() {
    let api = Api::new().await;
    deployment(&api).await;
    let path = format!("{DEPLOYMENTS}/d?dryRun=All");
    let spec = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    for (patch, code, told) in [
        (json!({"$patch": 1}), 500, "unknown patch type: %!s(int64=1) in map: map[$patch:1]"),
        (json!({"$patch": null}), 500, "unknown patch type: %!s(<nil>) in map: map[$patch:<nil>]"),
        (spec(json!({"$setElementOrder/containers": "x"})), 500, "expected a []interface {}, but received a string"),
        (spec(json!({"$setElementOrder/containers": [1]})), 500, "value for key 0 is not a map"),
        (spec(json!({"$setElementOrder/containers": [{"name": "e"}, "c"]})), 500, "value for key 1 is not a map"),
        (
            spec(json!({"$setElementOrder/containers": [{"name": "e"}], "containers": [{"name": "c"}]})),
            500,
            "The order in patch list:\n[map[name:c]]\n doesn't match $setElementOrder list:\n[map[name:e]]\n",
        ),
        (
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": []}}}}),
            422,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[strategy:map[rollingUpdate:map[maxSurge:[]]]]]\": json: cannot unmarshal array into Go value of type int32",
        ),
    ] {
        let answer = api.write_as(Method::PATCH, &path, STRATEGIC, patch.to_string()).await;
        assert_eq!(answer.refused(), (code, told.to_owned()), "{patch}");
    }
    let mixed = spec(json!({"containers": ["x"]}));
    let (_, told) = api.write_as(Method::PATCH, &path, STRATEGIC, mixed.to_string()).await.refused();
    assert!(told.starts_with("list element types are not identical: [[map[image:i"), "{told}");
    assert!(told.ends_with(" [x]]"), "{told}");
    // Directives mean nothing in what is taken whole.
    let volume = spec(json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]}));
    let answer = api.write_as(Method::PATCH, &path, STRATEGIC, volume.to_string()).await;
    assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"spec.template.spec.volumes[0].$retainKeys\\\"\"");
}

#[tokio::test]
async fn json_patches_that_do_not_fit() {
    let api = Api::new().await;
    deployment(&api).await;
    let path = format!("{DEPLOYMENTS}/d?dryRun=All");
    let rejected = "the server rejected our request due to an error in our request";
    for (patch, code, told) in [
        ("{}", 400, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        ("[1]", 400, "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (
            r#"[{"op":1}]"#,
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
        ),
        ("[", 400, "error decoding patch: unexpected end of JSON input"),
        (r#"[{"op":"add","path":"","value":{}}]"#, 422, rejected),
        (r#"[{"op":"bogus","path":"/spec"}]"#, 422, rejected),
        (r#"[{"op":"remove","path":"/spec/none"}]"#, 422, rejected),
    ] {
        let answer = api.write_as(Method::PATCH, &path, JSON_PATCH, patch.to_owned()).await;
        assert_eq!(answer.refused(), (code, told.to_owned()), "{patch}");
    }
    api.write_as(Method::PATCH, &path, JSON_PATCH, "null".to_owned()).await.is(200);
    let odd = r#"[{"op":"add","path":"/metadata/labels","value":{},"more":1}]"#;
    let answer = api.write_as(Method::PATCH, &path, JSON_PATCH, odd.to_owned()).await;
    assert_eq!(answer.headers["warning"], "299 - \"json patch unknown field \\\"[0].more\\\"\"");
}

#[tokio::test]
async fn configurations_that_do_not_fit() {
    let api = Api::new().await;
    deployment(&api).await;
    let apply = async |path: &str, body: &str| {
        api.write_as(Method::PATCH, &format!("{DEPLOYMENTS}/d{path}fieldManager=m"), APPLY, body.to_owned()).await
    };
    let object = |spec: &str| {
        format!(r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"d"}},"spec":{spec}}}"#)
    };
    let converted = "failed to convert new object (/d; apps/v1, Kind=Deployment) to proper version: unable to convert unstructured object to apps/v1, Kind=Deployment: ";
    let typed = "failed to create typed patch object (/d; apps/v1, Kind=Deployment): ";
    for (path, body, code, told) in [
        ("?", "{}".to_owned(), 400, "invalid object type: /, Kind=".to_owned()),
        ("?", "null".to_owned(), 400, "invalid object type: /, Kind=".to_owned()),
        ("?", "apiVersion: v1\nkind: Deployment".to_owned(), 400, "invalid object type: /v1, Kind=Deployment".to_owned()),
        ("/scale?", object("{}"), 400, "invalid object type: apps/v1, Kind=Deployment".to_owned()),
        ("?", "[]".to_owned(), 400, "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}".to_owned()),
        ("?force=true&", object(r#"{"replicas":3.5}"#), 500, format!("{converted}cannot convert float64 to int32")),
        ("?force=true&", object(r#"{"strategy":{"rollingUpdate":{"maxSurge":[]}}}"#), 500, format!("{converted}json: cannot unmarshal array into Go value of type int32")),
        ("?", object(r#"{"bar":1,"foo":2}"#), 500, format!("{typed}.spec.bar: field not declared in schema")),
        ("?", object(r#"{"template":{"metadata":{"labels":{"a":[],"b":{"c":1}}}}}"#), 500, format!("{typed}errors:\n  .spec.template.metadata.labels.a: expected string, got &value.valueUnstructured{{Value:[]interface {{}}{{}}}}\n  .spec.template.metadata.labels.b: expected string, got &value.valueUnstructured{{Value:map[string]interface {{}}{{\"c\":1}}}}")),
        ("?fieldValidation=Strict&", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2, replicas: 2}\n".to_owned(), 400, "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 4: key \"replicas\" already set in map".to_owned()),
    ] {
        assert_eq!(apply(path, &body).await.refused(), (code, told), "{body}");
    }
    let twice = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2, replicas: 2}\n";
    let answer = apply("?", twice).await;
    assert_eq!(answer.headers["warning"], "299 - \"line 4: key \\\"replicas\\\" already set in map\"");
}

#[tokio::test]
async fn entries_of_applies_that_change_nothing_and_lists_without_entries() {
    let api = Api::new().await;
    api.config_map("c", json!({})).await;
    let path = format!("{CONFIG_MAPS}/c");
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    let apply = async |data: Value| {
        let mut applied = applied.clone();
        applied["data"] = data;
        api.write_as(Method::PATCH, &format!("{path}?fieldManager=m"), APPLY, applied.to_string()).await.ok()
    };
    let entry = |object: &Value| {
        let entries = object["metadata"].list_at("managedFields").iter();
        entries.filter(|entry| entry["manager"] == "m").cloned().next().expect("an entry")
    };
    let same = apply(json!({"k": "v"})).await;
    assert_eq!(entry(&same).get("time"), None, "the object is as it was");
    let more = apply(json!({"k": "v", "l": "1"})).await;
    assert!(entry(&more).str_at("time").ends_with('Z'));
    let cleared = api.merge(&path, json!({"metadata": {"managedFields": []}})).await.ok();
    assert_eq!(cleared["metadata"].get("managedFields"), None);
    // Entries that are none leave those that there are.
    api.merge(&path, json!({"data": {"m": "1"}})).await.ok();
    let again = apply(json!({"k": "v"})).await;
    let mut wrong = again.clone();
    wrong["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"data": {}}}]);
    let kept = api.put(&path, &wrong).await.ok();
    assert_eq!(entry(&kept), entry(&again));
}

#[tokio::test]
async fn applies_of_custom_resources_keep_nulls_and_what_is_empty() {
    let api = Api::new().await;
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "properties": {
        "m": {"type": "object", "additionalProperties": text},
        "s": text,
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "maps": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": text, "v": text}}},
    }});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let definition = crate::custom_resources::definition(
        "gadgets",
        "Gadget",
        json!([crate::custom_resources::version("v1", schema)]),
    );
    let group = definition["spec"].str_at("group").to_owned();
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.ok();
    let path = format!("/apis/{group}/v1/namespaces/a/gadgets/g");
    let apply = async |spec: Value| {
        let body =
            json!({"apiVersion": format!("{group}/v1"), "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec});
        api.write_as(Method::PATCH, &format!("{path}?fieldManager=m"), APPLY, body.to_string()).await
    };
    let (code, told) = apply(json!({"s": null})).await.refused();
    assert_eq!(code, 422);
    assert!(
        told.ends_with("spec.s: Invalid value: \"null\": spec.s in body must be of type string: \"null\""),
        "{told}"
    );
    let (_, told) = apply(json!({"maps": [{"v": "x"}]})).await.refused();
    assert!(told.ends_with(".spec.maps: element 0: associative list with keys has an element that omits all key fields [\"k\"] (and doesn't have default values for any key fields)"), "{told}");
    apply(json!({"m": {"a": "1"}, "free": {"a": {"b": 1}}})).await.ok();
    assert_eq!(apply(json!({"m": {}, "free": {"a": {"b": 1}}})).await.ok()["spec"]["m"], json!({}));
    // What is a map no more has lost what was in it.
    let turned = api.merge(&path, json!({"spec": {"free": {"a": 1}}})).await.ok();
    let entries = turned["metadata"].list_at("managedFields").iter();
    let applied = entries.filter(|entry| entry["manager"] == "m").next().expect("an entry");
    assert_eq!(applied["fieldsV1"]["f:spec"].get("f:free"), None, "{applied}");
}

#[tokio::test]
async fn writes_that_make_what_is_not_there() {
    let api = Api::new().await;
    let limits = "/api/v1/namespaces/default/limitranges/l";
    // A patch has nothing to change; a whole object is taken.
    api.merge(limits, json!({})).await.is(404);
    api.put(limits, &json!({"metadata": {"name": "l"}})).await.is(201);
    api.put("/apis/node.k8s.io/v1/runtimeclasses/r", &json!({"metadata": {"name": "r"}, "handler": "h"})).await.is(201);
    // What is wrong with the object is said before that it is not there.
    let binding = json!({"metadata": {"name": "b", "resourceVersion": "5"}});
    let (code, told) = api.put("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/b", &binding).await.refused();
    assert_eq!(code, 422, "{told}");
}

#[tokio::test]
async fn warnings_are_told_with_refusals_and_deprecations_with_what_gets_there() {
    let api = Api::new().await;
    let unknown = "299 - \"unknown field \\\"spec\\\"\"";
    for path in ["bindings", "pods/x/eviction"] {
        let answer = api
            .post(&format!("/api/v1/namespaces/default/{path}"), json!({"metadata": {"name": "x"}, "spec": 1}))
            .await;
        assert!(!answer.status.is_success(), "{path}");
        assert_eq!(answer.headers["warning"], unknown, "{path}: {}", answer.text);
    }
    let endpoints = "/api/v1/namespaces/default/endpoints";
    assert!(api.get(&format!("{endpoints}/none")).await.headers.contains_key("warning"));
    for answer in [api.put(endpoints, &json!({})).await, api.get_as(endpoints, "text/html").await] {
        assert!(!answer.headers.contains_key("warning"), "{}", answer.text);
    }
}

#[tokio::test]
async fn names_that_are_made_of_fields_are_wrong_where_names_are() {
    let api = Api::new().await;
    let fields = async |path: &str, object: Value| {
        let status: Value = serde_json::from_str(&api.post(path, object).await.text).expect("a status");
        let causes = status["details"]["causes"].as_array().expect("causes").clone();
        causes.iter().map(|cause| cause["field"].as_str().expect("a field").to_owned()).collect::<Vec<_>>()
    };
    let metadata = json!({"name": "x", "generateName": "B_", "labels": {"a b": "c"}});
    let service =
        fields("/apis/apiregistration.k8s.io/v1/apiservices", json!({"metadata": metadata, "spec": {}})).await;
    assert_eq!(service[..3], ["metadata.generateName", "metadata.name", "metadata.labels"], "{service:?}");
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = fields(definitions, json!({"metadata": metadata, "spec": {}})).await;
    let names = ["metadata.generateName", "metadata.generateName", "metadata.name", "metadata.labels"];
    assert_eq!(definition[..4], names, "{definition:?}");
    let class = fields("/apis/resource.k8s.io/v1/deviceclasses", json!({"metadata": metadata, "spec": {}})).await;
    assert_eq!(class, ["metadata.labels"]);
}
