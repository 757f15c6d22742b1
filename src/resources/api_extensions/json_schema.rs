//! The OpenAPI schema of a custom resource: what may stand in it and what goes together.
//!
//! Source: `ValidateCustomResourceDefinitionOpenAPISchema` of apiextensions.

use super::ratchet::Strictness;
use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use crate::schema::custom::Structural;
use serde_json::Value;

pub const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const LIST_TYPES: &[&str] = &["atomic", "set", "map"];
const MAP_TYPES: &[&str] = &["atomic", "granular"];
pub const UNSUPPORTED: &[&str] = &["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";

/// `items` with one schema for all; a list of schemas is none.
pub fn item_schema(schema: &Value) -> Option<&Value> {
    schema.get_set("items").filter(|items| items.is_object())
}

/// No type is one, too.
pub fn is_type(kind: &str) -> bool {
    kind.is_empty() || TYPES.contains(&kind)
}

/// Where in a resource a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    strict: &'a Strictness,
    root: bool,
    /// In `apiVersion`, `kind` or `metadata` of the resource, or of one embedded in it.
    inside_metadata: bool,
    /// Why no default may stand here.
    no_defaults: Option<&'a str>,
}

pub fn validate_root(schema: &Value, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    validate(schema, Place { strict, root: true, inside_metadata: false, no_defaults: None }, path, errors);
}

fn validate(schema: &Value, place: Place<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let below = Place { root: false, ..place };
    standard(schema, place, path, errors);
    if schema.bool_at("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
    if let Some(additional) = schema.get_set("additionalProperties") {
        if !schema.map_at("properties").is_empty() && additional != &Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.forbidden(&path.child("additionalProperties"), detail);
        }
        if additional.is_object() {
            // What is pruned is known by the values alone, then.
            let reason = "inside additionalProperties applying to object metadata";
            let no_defaults = if place.inside_metadata { Some(reason) } else { place.no_defaults };
            validate(additional, Place { no_defaults, ..below }, &path.child("additionalProperties"), errors);
        }
    }
    let is_object = place.root || schema.bool_at("x-kubernetes-embedded-resource");
    for (name, property) in schema.map_at("properties") {
        let is_metadata = is_object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let reason = format!("in top-level {name}");
        let no_defaults = if is_metadata && place.root { Some(reason.as_str()) } else { place.no_defaults };
        let place = Place { inside_metadata: place.inside_metadata || is_metadata, no_defaults, ..below };
        validate(property, place, &path.child("properties").key(name), errors);
    }
    if let Some(not) = schema.get_set("not") {
        validate(not, below, &path.child("not"), errors);
    }
    for field in ["allOf", "oneOf", "anyOf"] {
        for (index, part) in schema.list_at(field).iter().enumerate() {
            validate(part, below, &path.child(field).index(index), errors);
        }
    }
    match schema.at("items") {
        Value::Object(_) => validate(schema.at("items"), below, &path.child("items"), errors),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                validate(item, below, &path.child("items").index(index), errors);
            }
        }
        _ => {}
    }
    if schema.optional_bool("x-kubernetes-preserve-unknown-fields") == Some(false) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, false, "must be true or undefined");
    }
    map_type(schema, path, errors);
    list_type(schema, place.strict, path, errors);
    map_keys(schema, path, errors);
    if place.strict.list_keys {
        key_presence(schema, path, errors);
    }
    rules(schema, path, errors);
}

/// What OpenAPI v3 has, as far as custom resources take it.
fn standard(schema: &Value, place: Place<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = schema.str_at("type");
    if place.strict.types && !is_type(kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    if let Some(reason) = place.no_defaults
        && schema.has("default")
    {
        errors.forbidden(&path.child("default"), format!("must not be set {reason}"));
    }
    for field in UNSUPPORTED {
        // Only the reference and the dependencies may not even be empty.
        let value = schema.at(field);
        let may_be_empty = !matches!(*field, "$ref" | "dependencies" | "additionalItems");
        if !value.is_null() && !(may_be_empty && super::definition::is_zero(value)) {
            errors.forbidden(&path.child(field), format!("{field} is not supported"));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.forbidden(&path.child("type"), detail);
    }
    if schema.at("items").as_array().is_some_and(|items| !items.is_empty()) {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if place.inside_metadata && schema.bool_at("x-kubernetes-embedded-resource") {
        let at = path.child("x-kubernetes-embedded-resource");
        errors.forbidden(&at, "must not be used inside of resource meta");
    }
}

/// The type that an extension needs.
fn needs_type(schema: &Value, wanted: &str, extension: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let detail = format!("must be {wanted} if {extension} is specified");
    match schema.str_at("type") {
        kind if kind == wanted => {}
        "" => errors.required(&path.child("type"), detail),
        kind => errors.invalid(&path.child("type"), kind, detail),
    }
}

fn map_type(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(kind) = schema.optional_str(MAP_TYPE) else { return };
    needs_type(schema, "object", MAP_TYPE, path, errors);
    errors.one_of(&path.child(MAP_TYPE), kind, MAP_TYPES);
}

/// Of a list that is no set: true. Maps are not atomic unless they say so, lists are.
pub fn is_atomic_set(schema: &Value) -> bool {
    let Some(items) = item_schema(schema).filter(|_| schema.str_at(LIST_TYPE) == "set") else { return true };
    match items.str_at("type") {
        "array" => matches!(items.optional_str(LIST_TYPE), None | Some("atomic")),
        "object" => items.optional_str(MAP_TYPE) == Some("atomic"),
        _ => true,
    }
}

fn list_type(schema: &Value, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(kind) = schema.optional_str(LIST_TYPE) else { return };
    needs_type(schema, "array", LIST_TYPE, path, errors);
    if strict.atomic_sets && schema.str_at("type") == "array" && !is_atomic_set(schema) {
        let items = schema.at("items");
        let field = if items.str_at("type") == "array" { LIST_TYPE } else { MAP_TYPE };
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        // Kubernetes shows the list type in both cases.
        errors.invalid(&path.child("items").child(field), items.at(LIST_TYPE).clone(), detail);
    }
    errors.one_of(&path.child(LIST_TYPE), kind, LIST_TYPES);
}

fn map_keys(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let keys: Vec<&str> = schema.strs_at(MAP_KEYS).collect();
    let kind = schema.optional_str(LIST_TYPE);
    if !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match kind {
            None => errors.required(&path.child(LIST_TYPE), detail),
            Some("map") => {}
            Some(kind) => errors.invalid(&path.child(LIST_TYPE), kind, detail),
        }
    }
    if kind != Some("map") {
        return;
    }
    if keys.is_empty() {
        errors.required(&path.child(MAP_KEYS), "must not be empty if x-kubernetes-list-type is map");
    }
    let at_items = path.child("items");
    let items = match schema.at("items") {
        Value::Null => return errors.required(&at_items, "must have a schema if x-kubernetes-list-type is map"),
        items @ Value::Object(_) => items,
        other => {
            let schemas = if other.is_array() { other.to_string() } else { "null".to_owned() };
            let shown = Some(format!("{{\"Schema\":null,\"JSONSchemas\":{schemas}}}"));
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            return errors.push(FieldError { shown, ..FieldError::invalid(&at_items, Value::Null, detail) });
        }
    };
    if items.str_at("type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&at_items.child("type"), items.str_at("type"), detail);
    }
    for (index, key) in keys.iter().enumerate() {
        if let Some(property) = items.at("properties").get_set(key)
            && ["object", "array"].contains(&property.str_at("type"))
        {
            let at = at_items.child("properties");
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            // Kubernetes shows the item's type.
            errors.invalid(&at.key(key).child("type"), "object", detail);
        }
        if !items.at("properties").has(key) {
            let detail = "entries must all be names of item properties";
            errors.invalid(&path.child(MAP_KEYS), schema.at(MAP_KEYS).clone(), detail);
        }
        if keys[..index].contains(key) {
            errors.invalid(&path.child(MAP_KEYS), schema.at(MAP_KEYS).clone(), "must not contain duplicate entries");
        }
    }
}

/// An item of a set or map can be told from the others.
pub fn key_presence(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = schema.str_at(LIST_TYPE);
    let Some(items) = item_schema(schema).filter(|_| matches!(kind, "set" | "map")) else { return };
    let at_items = path.child("items");
    if items.bool_at("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.forbidden(&at_items.child("nullable"), detail);
    }
    if kind == "set" {
        return;
    }
    let at_properties = at_items.child("properties");
    for key in schema.strs_at(MAP_KEYS) {
        let Some(property) = items.at("properties").get_set(key) else { continue };
        let path = at_properties.key(key);
        if !items.strs_at("required").any(|name| name == key) && !property.has("default") {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&path.child("default"), detail);
        }
        if property.bool_at("nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&path.child("nullable"), detail);
        }
    }
}

fn rules(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("x-kubernetes-validations");
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in schema.list_at("x-kubernetes-validations").iter().enumerate() {
        let path = list.index(index);
        let (text, message) = (rule.str_at("rule").trim(), rule.str_at("message"));
        let at_message = path.child("message");
        if text.is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at_message, message, "must be non-empty if specified");
        } else if breaks(message.trim()) {
            errors.invalid(&at_message, message, "must not contain line breaks");
        } else if breaks(text) && message.is_empty() {
            errors.required(&at_message, "message must be specified if rule contains line breaks");
        }
        let expression = rule.str_at("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.required(&path.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        if let Some(reason) = rule.optional_str("reason") {
            errors.one_of(&path.child("reason"), reason, REASONS);
        }
        let (field, at_field) = (rule.str_at("fieldPath"), path.child("fieldPath"));
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            errors.invalid(&at_field, field, "must be non-empty if specified");
        }
        if breaks(field) {
            errors.invalid(&at_field, field, "must not contain line breaks");
        }
        if super::rules::at_path(field, &Structural::parse(schema), true).is_err() {
            errors.invalid(&at_field, field, "must be a valid path");
        }
    }
}
