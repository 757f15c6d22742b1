//! What OpenAPI documents tell of a custom resource: its schema with what every object has.
//!
//! Version 2 knows no alternatives and no null: there a node says less, so that clients that
//! validate by it refuse nothing that the server takes.

use crate::api::{Fields, FieldsMut, GroupVersionKind};
use serde_json::{Value, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const META_TEXT: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const API_VERSION_TEXT: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND_TEXT: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const LIST_TEXT: &str =
    "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const LIST_META_TEXT: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A document's own ways.
pub struct Edition<'e> {
    /// The second version of OpenAPI.
    pub old: bool,
    /// How it refers to `ObjectMeta` and `ListMeta`.
    pub object_meta: Value,
    pub list_meta: Value,
    /// What the API says of `apiVersion` and `kind` of any object.
    pub api_version: &'e str,
    pub kind: &'e str,
}

/// `com.example.v1.Widget`
pub fn definition_name(gvk: &GroupVersionKind) -> String {
    let mut parts: Vec<&str> = gvk.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), gvk.version, gvk.kind)
}

fn kinds(gvk: &GroupVersionKind, kind: &str) -> Value {
    json!([{ "group": gvk.group, "kind": kind, "version": gvk.version }])
}

/// The definition of the kind, of its schema; `selectable`: its field selectors.
pub fn kind(source: Value, gvk: &GroupVersionKind, selectable: &[String], edition: &Edition<'_>) -> Value {
    let mut schema = if edition.old && source.bool_at(PRESERVE) {
        json!({ "type": "object" })
    } else {
        let mut schema = source;
        node(&mut schema, edition);
        if edition.old {
            older(&mut schema);
        }
        objects(&mut schema, edition);
        let properties = schema.object_mut("properties");
        properties.set("apiVersion", json!({ "type": "string", "description": edition.api_version }));
        properties.set("kind", json!({ "type": "string", "description": edition.kind }));
        properties.set("metadata", described(&edition.object_meta, META_TEXT));
        schema
    };
    finish(&mut schema, kinds(gvk, &gvk.kind), selectable);
    schema
}

/// The definition of its list; `item` refers to the kind.
pub fn list(
    gvk: &GroupVersionKind,
    list_kind: &str,
    plural: &str,
    item: Value,
    selectable: &[String],
    edition: &Edition<'_>,
) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": format!("{list_kind} is a list of {}", gvk.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": edition.api_version },
            "kind": { "type": "string", "description": edition.kind },
            "metadata": described(&edition.list_meta, LIST_META_TEXT),
            "items": { "type": "array", "description": format!("List of {plural}. {LIST_TEXT}"), "items": item },
        },
    });
    finish(&mut schema, kinds(gvk, list_kind), selectable);
    schema
}

fn finish(schema: &mut Value, kinds: Value, selectable: &[String]) {
    schema.set("x-kubernetes-group-version-kind", kinds);
    if !selectable.is_empty() {
        let fields: Vec<Value> = selectable.iter().map(|path| json!({ "fieldPath": path })).collect();
        schema.set("x-kubernetes-selectable-fields", fields);
    }
}

fn described(reference: &Value, text: &str) -> Value {
    let mut schema = reference.clone();
    schema.set("description", text);
    schema
}

/// All nodes below one that say what a value is.
fn each(schema: &mut Value, run: &mut dyn FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(&mut *run);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(own) = schema.get_mut(name).filter(|own| own.is_object()) {
            run(own);
        }
    }
}

/// Extensions that stand for checks are written out.
fn node(schema: &mut Value, edition: &Edition<'_>) {
    if schema.bool_at(INT_OR_STRING) && !edition.old {
        let either = json!([{ "type": "integer" }, { "type": "string" }]);
        let first = schema.list_at("allOf").first().is_some_and(|part| *part.at("anyOf") == either);
        if first || *schema.at("anyOf") == either {
            // It is told already.
        } else if schema.list_at("anyOf").is_empty() {
            schema.set("anyOf", either);
        } else {
            let mut all = schema.list_at("allOf").to_vec();
            all.insert(0, json!({ "anyOf": either }));
            schema.set("allOf", all);
        }
    }
    each(schema, &mut |own| node(own, edition));
}

fn older(schema: &mut Value) {
    for name in ["allOf", "anyOf", "oneOf", "not"] {
        schema.clear(name);
    }
    let nullable: Vec<String> = schema
        .map_at("properties")
        .iter()
        .filter(|(_, own)| own.bool_at("nullable"))
        .map(|(name, _)| name.clone())
        .collect();
    if !nullable.is_empty() && schema.has("required") {
        let kept: Vec<&str> =
            schema.strs_at("required").filter(|name| !nullable.iter().any(|other| other == name)).collect();
        let kept: Value = kept.into();
        schema.set("required", kept);
    }
    if schema.at("additionalProperties").bool_at("nullable") {
        schema.clear("required");
    }
    if schema.list_at("required").is_empty() {
        schema.clear("required");
    }
    let preserve = schema.bool_at(PRESERVE);
    let null = schema.bool_at("nullable");
    if null || preserve {
        schema.clear("items");
        schema.clear("properties");
    }
    let kind = schema.str_at("type").to_owned();
    if null || kind == "array" && !schema.has("items") || kind == "object" && preserve {
        schema.clear("type");
    }
    schema.clear("nullable");
    schema.clear("default");
    each(schema, &mut older);
}

/// Embedded objects have the fields of any object.
fn objects(schema: &mut Value, edition: &Edition<'_>) {
    each(schema, &mut |own| objects(own, edition));
    if !schema.bool_at(EMBEDDED) || schema.bool_at(PRESERVE) && edition.old {
        return;
    }
    let properties = schema.object_mut("properties");
    properties.set("apiVersion", json!({ "type": "string", "description": API_VERSION_TEXT }));
    properties.set("kind", json!({ "type": "string", "description": KIND_TEXT }));
    properties.set("metadata", described(&edition.object_meta, META_TEXT));
    let mut required: Vec<Value> = schema.list_at("required").to_vec();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|known| known == name) {
            required.push(name.into());
        }
    }
    schema.set("required", required);
}
