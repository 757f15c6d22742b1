//! What the schema of a custom resource may be: structural, and silent about metadata.

use crate::custom_resources::{DEFINITIONS, api, widgets};
use serde_json::{Value, json};

const ROOT: &str = "spec.validation.openAPIV3Schema";

/// What is said of a definition with these properties at the root of its schema.
async fn said(api: &crate::apiserver::Api, schema: Value) -> String {
    let answer = api.post(&format!("{DEFINITIONS}?dryRun=All"), widgets(schema)).await;
    if answer.status == 201 {
        return String::new();
    }
    let (code, message) = answer.refused();
    assert_eq!(code, 422, "{message}");
    let head = "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: ";
    let text = message.strip_prefix(head).unwrap_or_else(|| panic!("{message}"));
    text.replace(ROOT, "$")
}

fn with(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

fn metadata(schema: Value) -> Value {
    with(json!({ "metadata": schema }))
}

fn below_spec(schema: Value) -> Value {
    with(json!({ "spec": schema }))
}

#[tokio::test]
async fn metadata_is_the_apis_own() {
    let api = api().await;
    let only = "must not specify anything other than name and generateName, but metadata is implicitly specified";
    let name = json!({ "type": "string", "maxLength": 5 });
    for (schema, expected) in [
        (metadata(json!({ "type": "object" })), String::new()),
        (metadata(json!({ "type": "object", "properties": { "name": name, "generateName": name } })), String::new()),
        (
            metadata(json!({ "type": "object", "properties": { "name": name, "labels": { "type": "object" } } })),
            format!("$.properties[metadata]: Forbidden: {only}"),
        ),
        (
            metadata(json!({ "type": "object", "description": "x" })),
            format!("$.properties[metadata]: Forbidden: {only}"),
        ),
        (
            metadata(json!({ "type": "string" })),
            "$.properties[metadata].type: Invalid value: \"string\": must be object".to_owned(),
        ),
        (
            metadata(json!({ "type": "object", "default": {} })),
            "$.properties[metadata].default: Forbidden: must not be set in top-level metadata".to_owned(),
        ),
        (
            metadata(json!({ "type": "object", "properties": { "name": { "type": "string", "default": "x" } } })),
            "$.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"
                .to_owned(),
        ),
        (
            with(json!({ "kind": { "type": "integer" } })),
            "$.properties[kind].type: Invalid value: \"integer\": must be string".to_owned(),
        ),
        (
            with(json!({ "apiVersion": { "type": "string", "default": "x" } })),
            "$.properties[apiVersion].default: Forbidden: must not be set in top-level apiVersion".to_owned(),
        ),
    ] {
        assert_eq!(said(&api, schema.clone()).await, expected, "{schema}");
    }
}

#[tokio::test]
async fn objects_inside_have_valid_metadata() {
    let api = api().await;
    let inside = |metadata: Value| {
        below_spec(json!({
            "type": "object", "x-kubernetes-embedded-resource": true, "properties": { "metadata": metadata },
        }))
    };
    let name =
        |default: &str| json!({ "type": "object", "properties": { "name": { "type": "string", "default": default } } });
    assert_eq!(said(&api, inside(name("fine"))).await, "");
    assert_eq!(
        said(&api, inside(name("a/b"))).await,
        "$.properties[spec].properties[metadata].properties[name].default: Invalid value: \"a/b\": must result in valid \
         metadata: metadata.name: Invalid value: \"a/b\": may not contain '/'"
    );
    let labels = json!({ "type": "object", "properties": { "labels": { "type": "object", "additionalProperties": { "type": "string", "default": "x" } } } });
    assert_eq!(
        said(&api, inside(labels)).await,
        "$.properties[spec].properties[metadata].properties[labels].additionalProperties.default: Forbidden: must not be \
         set inside additionalProperties applying to object metadata"
    );
    let nested = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true });
    assert_eq!(
        said(&api, inside(nested)).await,
        "$.properties[spec].properties[metadata].x-kubernetes-embedded-resource: Forbidden: must not be used inside of \
         resource meta"
    );
    let open = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "additionalProperties": true });
    assert_eq!(
        said(&api, below_spec(open)).await,
        "$.properties[spec].additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set"
    );
}

#[tokio::test]
async fn what_values_are_is_said_once() {
    let api = api().await;
    let either = json!([{ "type": "integer" }, { "type": "string" }]);
    for (schema, expected) in [
        (
            json!({ "type": "object", "additionalProperties": true }),
            "$.additionalProperties: Forbidden: must not be used at the root",
        ),
        (below_spec(json!({ "x-kubernetes-int-or-string": true, "anyOf": either })), ""),
        (
            below_spec(
                json!({ "x-kubernetes-int-or-string": true, "allOf": [{ "anyOf": either }, { "pattern": "x" }] }),
            ),
            "",
        ),
        (
            below_spec(json!({ "x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true })),
            "$.properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if \
             x-kubernetes-int-or-string is true",
        ),
        (
            json!({ "type": "object", "anyOf": [{ "properties": { "a": { "type": "string" } } }] }),
            "[$.anyOf[0].properties[a].type: Forbidden: must be empty to be structural, \
             $.properties[a]: Required value: because it is defined in $.anyOf[0].properties[a]]",
        ),
        (
            below_spec(json!({
                "type": "object", "properties": { "a": { "type": "string" } },
                "not": { "nullable": true, "properties": { "a": { "default": "x", "description": "y" } } },
            })),
            "[$.properties[spec].not.nullable: Forbidden: must be false to be structural, \
             $.properties[spec].not.properties[a].default: Forbidden: must be undefined to be structural, \
             $.properties[spec].not.properties[a].description: Forbidden: must be empty to be structural]",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "type": "string" } } },
                "oneOf": [{ "properties": { "a": { "items": { "items": { "minLength": 1 } } } } }] }),
            "$.properties[a].items.items: Required value: because it is defined in $.oneOf[0].properties[a].items.items",
        ),
        (
            json!({ "type": "object", "properties": { "metadata": { "type": "object" } }, "allOf": [{ "properties": { "metadata": {} } }] }),
            "$.allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
        ),
        // Only at the root, as in Kubernetes.
        (below_spec(json!({ "type": "object", "anyOf": [{ "properties": { "a": { "minLength": 1 } } }] })), ""),
        // What cannot be read as a structural schema is only told why.
        (
            below_spec(json!({ "items": { "$ref": "#/x" } })),
            "$.properties[spec].items.$ref: Forbidden: $ref is not supported",
        ),
    ] {
        assert_eq!(said(&api, schema.clone()).await, expected, "{schema}");
    }
    let pattern = said(&api, below_spec(json!({ "type": "string", "pattern": "(" }))).await;
    assert!(
        pattern.starts_with(
            "$.properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: "
        ),
        "{pattern}"
    );
}
