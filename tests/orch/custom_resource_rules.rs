//! Rules of a definition: what they refuse, in which words, and what they may cost.

use crate::apiserver::Api;
use crate::custom_resources::{api, definition, spec, version, widget, widgets};
use orch::api::Fields;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A schema whose spec has these properties and rules.
fn ruled(properties: Value, rules: Value) -> Value {
    let mut schema = spec(properties);
    schema["properties"]["spec"]["x-kubernetes-validations"] = rules;
    schema
}

async fn defined(properties: Value, rules: Value) -> Api {
    let api = api().await;
    api.post(DEFINITIONS, widgets(ruled(properties, rules))).await.ok();
    api
}

async fn refused(api: &Api, spec: Value) -> String {
    let (code, message) = api.post(WIDGETS, widget("w", spec)).await.refused();
    assert_eq!(code, 422, "{message}");
    message.strip_prefix("Widget.example.com \"w\" is invalid: ").unwrap_or(&message).to_owned()
}

#[tokio::test]
async fn rules_say_why_in_their_own_words() {
    let properties = json!({
        "min": { "type": "integer" }, "max": { "type": "integer" },
        "names": { "type": "array", "maxItems": 10, "items": { "type": "string", "maxLength": 10,
            "x-kubernetes-validations": [{ "rule": "self.startsWith('n')" }] } },
        "map": { "type": "object", "maxProperties": 5, "additionalProperties": { "type": "integer",
            "x-kubernetes-validations": [{ "rule": "self > 0", "message": "must be positive", "reason": "FieldValueForbidden" }] } },
        "a-b": { "type": "string", "maxLength": 10 },
    });
    let rules = json!([
        { "rule": "!has(self.min) || !has(self.max) || self.min <= self.max",
          "messageExpression": "'min %d is above max %d'.format([self.min, self.max])", "fieldPath": ".min" },
        { "rule": "!has(self.a__dash__b) || self.a__dash__b != 'bad'", "message": "not that one", "reason": "FieldValueRequired", "fieldPath": "['a-b']" },
    ]);
    let api = defined(properties, rules).await;
    for (given, wanted) in [
        (json!({ "min": 2, "max": 1 }), "spec.min: Invalid value: min 2 is above max 1"),
        (json!({ "names": ["n", "x"] }), "spec.names[1]: Invalid value: \"x\": failed rule: self.startsWith('n')"),
        (json!({ "map": { "a": 0 } }), "spec.map[a]: Forbidden: must be positive"),
        (json!({ "a-b": "bad" }), "spec.a-b: Required value: not that one"),
    ] {
        assert_eq!(refused(&api, given).await, wanted);
    }
    api.post(WIDGETS, widget("w", json!({ "min": 1, "max": 2, "names": ["n"], "map": { "a": 1 } }))).await.ok();
}

#[tokio::test]
async fn transition_rules_compare_with_what_was() {
    let properties = json!({
        "size": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self >= oldSelf", "message": "cannot shrink" }] },
        "once": { "type": "string", "maxLength": 10 },
        "parts": { "type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string", "maxLength": 5 }, "n": { "type": "integer" } },
                "x-kubernetes-validations": [{ "rule": "self.n == oldSelf.n", "message": "n stays" }] } },
    });
    let rules = json!([{ "rule": "!oldSelf.hasValue() || !has(oldSelf.value().once) || self.once == oldSelf.value().once",
        "optionalOldSelf": true, "message": "once is set once" }]);
    let api = defined(properties, rules).await;
    let parts = |a: i64| json!([{ "name": "b", "n": 2 }, { "name": "a", "n": a }]);
    api.post(WIDGETS, widget("w", json!({ "size": 3, "once": "x", "parts": [{ "name": "a", "n": 1 }] }))).await.ok();
    let change = |spec: Value| {
        let api = &api;
        async move { api.merge(&format!("{WIDGETS}/w"), json!({ "spec": spec })).await }
    };
    let invalid = "Widget.example.com \"w\" is invalid: ";
    let (_, message) = change(json!({ "size": 2 })).await.refused();
    assert_eq!(message, format!("{invalid}spec.size: Invalid value: 2: cannot shrink"));
    let (_, message) = change(json!({ "once": "y" })).await.refused();
    assert_eq!(message, format!("{invalid}spec: Invalid value: once is set once"));
    let (_, message) = change(json!({ "parts": parts(5) })).await.refused();
    assert_eq!(message, format!("{invalid}spec.parts[1]: Invalid value: n stays"));
    change(json!({ "size": 4, "parts": parts(1) })).await.ok();
}

#[tokio::test]
async fn what_an_update_leaves_alone_is_not_ruled() {
    let api = defined(json!({ "a": { "type": "string" }, "b": { "type": "string" } }), json!([])).await;
    api.post(WIDGETS, widget("w", json!({ "a": "long", "b": "x" }))).await.ok();
    let rule = json!([{ "rule": "self.size() < 3", "message": "too long" }]);
    let tight = spec(
        json!({ "a": { "type": "string", "maxLength": 100, "x-kubernetes-validations": rule }, "b": { "type": "string" } }),
    );
    let change = json!({ "spec": { "versions": [version("v1", tight)] } });
    api.merge(&format!("{DEFINITIONS}/widgets.example.com"), change).await.ok();
    api.merge(&format!("{WIDGETS}/w"), json!({ "spec": { "b": "y" } })).await.ok();
    let (_, message) = api.merge(&format!("{WIDGETS}/w"), json!({ "spec": { "a": "other" } })).await.refused();
    assert_eq!(message, "Widget.example.com \"w\" is invalid: spec.a: Invalid value: \"other\": too long");
}

#[tokio::test]
async fn rules_that_cannot_be_run_are_told_and_others_go_on() {
    let properties = json!({ "list": { "type": "array", "maxItems": 3, "items": { "type": "integer" } }, "n": { "type": "integer" } });
    let rules = json!([{ "rule": "self.list[1] > 0" }, { "rule": "self.n > 0", "message": "n" }]);
    let api = defined(properties, rules).await;
    assert_eq!(
        refused(&api, json!({ "list": [1], "n": 0 })).await,
        "[spec: Invalid value: \"object\": index out of bounds: 1 evaluating rule: self.list[1] > 0, spec: Invalid value: n]"
    );
    assert_eq!(
        refused(&api, json!({ "list": "x", "n": 0 })).await,
        "[spec.list: Invalid value: \"string\": spec.list in body must be of type array: \"string\", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]"
    );
}

#[tokio::test]
async fn metadata_of_the_whole_is_seen_by_rules() {
    let api = api().await;
    let mut schema = spec(json!({}));
    schema["x-kubernetes-validations"] =
        json!([{ "rule": "self.metadata.name.startsWith('w') && self.kind == 'Widget'", "message": "not so" }]);
    api.post(DEFINITIONS, widgets(schema)).await.ok();
    api.post(WIDGETS, widget("w", json!({}))).await.ok();
    let (_, message) = api.post(WIDGETS, widget("x", json!({}))).await.refused();
    assert_eq!(message, "Widget.example.com \"x\" is invalid: <nil>: Invalid value: not so");
}

async fn definition_refused(properties: Value, rules: Value) -> String {
    let api = api().await;
    let (code, message) = api.post(DEFINITIONS, widgets(ruled(properties, rules))).await.refused();
    assert_eq!(code, 422, "{message}");
    message.replacen("CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: ", "", 1)
}

#[tokio::test]
async fn rules_that_do_not_compile_or_cost_too_much_are_refused() {
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    let shown = |rule: &str| {
        format!(
            "{{\"Rule\":\"{rule}\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}"
        )
    };
    let n = json!({ "n": { "type": "integer" } });
    let message = definition_refused(n.clone(), json!([{ "rule": "self.m" }])).await;
    let wanted = format!(
        "{at}.x-kubernetes-validations[0].rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: undefined field 'm'\n | self.m\n | ....^",
        shown("self.m")
    );
    assert_eq!(message, wanted);
    let message = definition_refused(n.clone(), json!([{ "rule": "self.n" }])).await;
    assert!(message.ends_with(": cel expression must evaluate to a bool"), "{message}");
    let list = json!({ "list": { "type": "array", "items": { "type": "string" } } });
    let rule = "self.list.all(x, self.list.all(y, x == y))";
    let message = definition_refused(list, json!([{ "rule": rule }])).await;
    let limits = "exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let wanted = format!(
        "[{at}.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost {limits}, {at}.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema {limits}]"
    );
    assert_eq!(message, wanted);
    let items = json!({ "list": { "type": "array", "maxItems": 5, "items": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self >= oldSelf" }] } } });
    let message = definition_refused(items, json!([])).await;
    let wanted = format!(
        "{at}.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self >= oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within {at}.properties[list]"
    );
    assert_eq!(message, wanted);
    let message =
        definition_refused(n, json!([{ "rule": "self.n > 0", "optionalOldSelf": true, "fieldPath": ".m" }])).await;
    assert_eq!(
        message,
        format!("{at}.x-kubernetes-validations[0].fieldPath: Invalid value: \".m\": must be a valid path")
    );
}

#[tokio::test]
async fn what_a_definition_may_select_by_and_warn_of() {
    let api = api().await;
    let mut made = version("v1", spec(json!({ "a": { "type": "string" }, "o": { "type": "object" } })));
    made["selectableFields"] = json!([{ "jsonPath": ".spec.a" }, { "jsonPath": ".spec.a" }, { "jsonPath": ".spec.o" },
        { "jsonPath": ".spec.nothing" }, { "jsonPath": ".spec['a']" }, { "jsonPath": "" }]);
    made["deprecationWarning"] = "old".into();
    let (_, message) = api.post(DEFINITIONS, definition("widgets", "Widget", json!([made]))).await.refused();
    for part in [
        "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
        "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.a\"",
        "spec.selectableFields[2].jsonPath: Invalid value: \".spec.o\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
        "spec.selectableFields[3].jsonPath: Invalid value: \".spec.nothing\": is an invalid path: does not refer to a valid field",
        "spec.selectableFields[4].jsonPath: Invalid value: \".spec['a']\": is an invalid path: array notation is not allowed",
        "spec.selectableFields[5].jsonPath: Required value",
    ] {
        assert!(message.contains(part), "{part}\n{message}");
    }
    let taken = api.get(DEFINITIONS).await.ok();
    assert_eq!(taken.list_at("items").len(), 0);
}
