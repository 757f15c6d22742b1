//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

use crate::admission_webhooks::until;
use crate::apiserver::{Answer, Api};
use crate::custom_resources::{api, definition, version};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn constraints(group: &str, resource: &str) -> Value {
    json!({ "resourceRules": [{ "operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource] }] })
}

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}AdmissionPolicy"), "metadata": { "name": name }, "spec": spec })
}

fn binding(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}AdmissionPolicyBinding"), "metadata": { "name": name }, "spec": spec })
}

pub async fn validating(api: &Api, name: &str, spec: Value, bound: Value) {
    api.post(&format!("{GROUP}/validatingadmissionpolicies"), policy("Validating", name, spec)).await.ok();
    let mut bound = bound;
    bound["policyName"] = json!(name);
    if bound["validationActions"].is_null() {
        bound["validationActions"] = json!(["Deny"]);
    }
    api.post(&format!("{GROUP}/validatingadmissionpolicybindings"), binding("Validating", name, bound)).await.ok();
}

async fn mutating(api: &Api, name: &str, spec: Value) {
    let mut spec = spec;
    spec["reinvocationPolicy"] = json!("Never");
    api.post(&format!("{GROUP}/mutatingadmissionpolicies"), policy("Mutating", name, spec)).await.ok();
    let bound = binding("Mutating", name, json!({ "policyName": name }));
    api.post(&format!("{GROUP}/mutatingadmissionpolicybindings"), bound).await.ok();
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
    })
}

fn config_map(name: &str, data: Value) -> Value {
    json!({ "metadata": { "name": name }, "data": data })
}

async fn until_refused(api: &Api, path: &str, object: &Value) -> (u16, String) {
    let dry = format!("{path}?dryRun=All");
    until(|| async {
        let answer: Answer = api.post(&dry, object.clone()).await;
        (!answer.status.is_success()).then(|| answer.refused())
    })
    .await
}

#[tokio::test]
async fn a_deployment_is_validated() {
    let api = api().await;
    let spec = json!({
        "matchConstraints": constraints("apps", "deployments"),
        "variables": [
            { "name": "replicas", "expression": "object.spec.replicas" },
            { "name": "oddReplicas", "expression": "variables.replicas % 2 == 1" },
        ],
        "validations": [
            { "expression": "variables.replicas > 1" },
            { "expression": "variables.oddReplicas", "messageExpression": "'replicas must be odd, got ' + string(variables.replicas)", "reason": "Forbidden" },
        ],
    });
    validating(&api, "replicas", spec, json!({})).await;
    let (code, message) = until_refused(&api, DEPLOYMENTS, &deployment("web", 1)).await;
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'replicas' denied request: failed expression: variables.replicas > 1"
    );
    let even = api.post(DEPLOYMENTS, deployment("web", 2)).await;
    let status = even.json();
    assert_eq!((&status["reason"], &status["code"]), (&json!("Forbidden"), &json!(403)));
    assert!(
        status["message"].as_str().unwrap_or_default().ends_with("denied request: replicas must be odd, got 2"),
        "{status}"
    );
    assert!(
        status["details"]["causes"][0]["message"]
            .as_str()
            .unwrap_or_default()
            .starts_with("ValidatingAdmissionPolicy 'replicas'")
    );
    api.post(DEPLOYMENTS, deployment("web", 3)).await.ok();
    let (code, _) = api.merge(&format!("{DEPLOYMENTS}/web"), json!({ "spec": { "replicas": 1 } })).await.refused();
    assert_eq!(code, 422);
    // Without its binding it says nothing.
    api.delete(&format!("{GROUP}/validatingadmissionpolicybindings/replicas"), None).await.ok();
    until(|| async {
        api.post(&format!("{DEPLOYMENTS}?dryRun=All"), deployment("other", 1)).await.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn parameters_selectors_and_actions() {
    let api = api().await;
    let with_params = |extra: Value| {
        let mut spec = json!({
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "matchConstraints": constraints("", "secrets"),
            "validations": [{ "expression": "object.metadata.name.startsWith(params.data.prefix)", "message": "wrong name" }],
        });
        for (field, value) in extra.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    };
    api.post(CONFIG_MAPS, config_map("rule", json!({ "prefix": "a" }))).await.ok();
    let reference =
        json!({ "paramRef": { "name": "rule", "namespace": "default", "parameterNotFoundAction": "Deny" } });
    validating(&api, "named", with_params(json!({})), reference).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |name: &str| json!({ "metadata": { "name": name } });
    let (_, message) = until_refused(&api, secrets, &secret("b")).await;
    assert!(message.ends_with("'named' with binding 'named' denied request: wrong name"), "{message}");
    api.post(secrets, secret("a")).await.ok();
    // What it refers to is read as it is now.
    api.merge(&format!("{CONFIG_MAPS}/rule"), json!({ "data": { "prefix": "b" } })).await.ok();
    api.post(secrets, secret("b")).await.ok();
    api.delete(&format!("{CONFIG_MAPS}/rule"), None).await.ok();
    let (_, message) = api.post(secrets, secret("b2")).await.refused();
    assert!(message.ends_with("denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{message}");

    let warned = json!({
        "matchConstraints": constraints("", "configmaps"),
        "matchConditions": [{ "name": "not-root", "expression": "!object.metadata.name.startsWith('kube-')" }],
        "validations": [{ "expression": "has(object.data) && 'x' in object.data", "message": "x is missing" }],
        "auditAnnotations": [{ "key": "seen", "valueExpression": "'seen ' + object.metadata.name" }],
    });
    validating(&api, "warned", warned, json!({ "validationActions": ["Warn", "Audit"] })).await;
    let warning = until(|| async {
        let answer = api.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("w", json!({}))).await;
        answer.headers.get("warning").map(|text| text.to_str().unwrap_or_default().to_owned())
    })
    .await;
    assert_eq!(
        warning,
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'warned' with binding 'warned': x is missing\""
    );
    assert!(api.post(CONFIG_MAPS, config_map("kube-x", json!({}))).await.headers.get("warning").is_none());
}

#[tokio::test]
async fn errors_follow_the_failure_policy_and_costs_are_bounded() {
    let api = api().await;
    let failing = |policy: &str, expression: &str, resource: &str| json!({ "failurePolicy": policy, "matchConstraints": constraints("", resource), "validations": [{ "expression": expression }] });
    validating(&api, "closed", failing("Fail", "object.nothing == 1", "configmaps"), json!({})).await;
    validating(&api, "open", failing("Ignore", "object.nothing == 1", "secrets"), json!({})).await;
    let costly = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))";
    validating(&api, "costly", failing("Fail", costly, "endpoints"), json!({})).await;
    let (code, message) = until_refused(&api, CONFIG_MAPS, &config_map("x", json!({}))).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with("denied request: expression 'object.nothing == 1' resulted in error: no such key: nothing"),
        "{message}"
    );
    let (_, message) =
        until_refused(&api, "/api/v1/namespaces/default/endpoints", &json!({ "metadata": { "name": "x" } })).await;
    let reason = format!("expression '{costly}' resulted in error: operation cancelled: actual cost limit exceeded");
    assert!(message.ends_with(&reason), "{message}");
    api.post("/api/v1/namespaces/default/secrets", json!({ "metadata": { "name": "x" } })).await.ok();

    let wrong = policy(
        "Validating",
        "wrong",
        json!({
            "matchConstraints": constraints("", "pods"),
            "variables": [{ "name": "one", "expression": "1" }],
            "validations": [{ "expression": "variables.one == 'x'" }, { "expression": "variables.two == 1" }, { "expression": "params.x == 1" }],
        }),
    );
    let (code, message) = api.post(&format!("{GROUP}/validatingadmissionpolicies"), wrong).await.refused();
    assert_eq!(code, 422);
    for part in [
        "spec.validations[0].expression: Invalid value: \"variables.one == 'x'\": compilation failed: ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(int, string)'",
        "spec.validations[1].expression: Invalid value: \"variables.two == 1\": compilation failed: ERROR: <input>:1:10: undefined field 'two'",
        "spec.validations[2].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn objects_are_mutated() {
    let api = api().await;
    let apply = json!({
        "matchConstraints": constraints("apps", "deployments"),
        "mutations": [
            { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{metadata: Object.metadata{annotations: {'mutated': 'yes'}}, spec: Object.spec{replicas: object.spec.replicas + 1, template: Object.spec.template{spec: Object.spec.template.spec{initContainers: [Object.spec.template.spec.initContainers{name: 'mesh', image: 'm'}]}}}}" } },
            { "patchType": "JSONPatch", "jsonPatch": { "expression": "[JSONPatch{op: 'test', path: '/spec/replicas', value: 3}, JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/n'), value: string(object.spec.replicas)}]" } },
        ],
    });
    mutating(&api, "mutate", apply).await;
    let made = until(|| async {
        let made = api.post(&format!("{DEPLOYMENTS}?dryRun=All"), deployment("web", 2)).await.ok();
        (made["spec"]["replicas"] == 3).then_some(made)
    })
    .await;
    assert_eq!(made["metadata"]["annotations"], json!({ "mutated": "yes", "example.com/n": "3" }));
    let added = &made["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!((&added["name"], &added["imagePullPolicy"]), (&json!("mesh"), &json!("Always")));
    // A test that does not hold leaves the object as it is.
    let other = api.post(&format!("{DEPLOYMENTS}?dryRun=All"), deployment("web", 7)).await.ok();
    assert_eq!(other["metadata"]["annotations"], json!({ "mutated": "yes" }));

    let atomic = json!({
        "matchConstraints": constraints("", "configmaps"),
        "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{metadata: Object.wrong{}}" } }],
    });
    mutating(&api, "wrong", atomic).await;
    let (_, message) = until_refused(&api, CONFIG_MAPS, &config_map("x", json!({}))).await;
    assert_eq!(
        message,
        "policy 'wrong' with binding 'wrong' denied request: type mismatch: unexpected type name \"Object.wrong\", expected \"Object.metadata\", which matches field name path from root Object type"
    );
}

/// A move whose second half fails is refused like any other operation, and the server lives on.
#[tokio::test]
async fn a_patch_of_a_policy_that_does_not_apply_is_refused() {
    let api = api().await;
    let moving = "[JSONPatch{op: 'add', path: '/data', value: {'a': '1'}}, JSONPatch{op: 'move', from: '/data', path: '/none/at/all'}]";
    let policy = json!({
        "matchConstraints": constraints("", "configmaps"),
        "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": moving } }],
    });
    mutating(&api, "moves", policy).await;
    let (_, message) = until_refused(&api, CONFIG_MAPS, &config_map("x", json!({}))).await;
    assert_eq!(
        message,
        "policy 'moves' with binding 'moves' denied request: JSON Patch: move operation does not apply: doc is missing destination path: /none/at/all: missing value"
    );
    api.get("/api/v1/namespaces/default").await.ok();
}

#[tokio::test]
async fn custom_resources_are_mutated_and_validated() {
    let api = api().await;
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" }, "color": { "type": "string" } } } } });
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition("widgets", "Widget", json!([version("v1", schema)])),
    )
    .await
    .ok();
    let rules = json!({ "resourceRules": [{ "operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["*"], "resources": ["widgets"] }] });
    let mutation = json!({
        "matchConstraints": rules,
        "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{spec: Object.spec{color: 'red'}}" } }],
    });
    mutating(&api, "paint", mutation).await;
    let validation = json!({ "matchConstraints": rules, "validations": [{ "expression": "request.operation == 'DELETE' || object.spec.color == 'red' && object.spec.size < 10" }] });
    validating(&api, "small", validation, json!({})).await;
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = |size: i64| json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" }, "spec": { "size": size } });
    let (_, message) = until_refused(&api, path, &widget(10)).await;
    assert!(message.contains("ValidatingAdmissionPolicy 'small'"), "{message}");
    let made = api.post(path, widget(1)).await.ok();
    assert_eq!(made["spec"], json!({ "size": 1, "color": "red" }));
    api.delete(&format!("{path}/w"), None).await.ok();
}

#[tokio::test]
async fn a_variable_costs_where_it_is_named() {
    let api = api().await;
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let bomb = "abcdef".chars().rev().fold("true".to_owned(), |inner, name| format!("{ten}.all({name}, {inner})"));
    let spec = json!({
        "matchConstraints": constraints("", "configmaps"),
        "variables": [
            { "name": "bomb", "expression": bomb },
            { "name": "data", "expression": "object.data" },
            { "name": "kind", "expression": "variables.data.kind" },
        ],
        "validations": [{ "expression": "variables.kind != 'bad' || variables.kind == variables.data.kind + '!'" }],
    });
    validating(&api, "lazy", spec, json!({})).await;
    let (_, message) = until_refused(&api, CONFIG_MAPS, &config_map("x", json!({ "kind": "bad" }))).await;
    assert!(message.contains("denied request: failed expression: variables.kind != 'bad'"), "{message}");
    api.post(CONFIG_MAPS, config_map("x", json!({ "kind": "good" }))).await.ok();
}
