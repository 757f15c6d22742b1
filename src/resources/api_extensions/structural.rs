//! Structural schemas: every field has a type, and defaults are values of it.
//!
//! Source: `ValidateStructural` and `ValidateDefaults` of apiextensions.

use super::defaults;
use super::json_schema::item_schema;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Defaults are looked at where all else is well.
pub fn validate(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut own = ErrorList::new();
    invariants(schema, Level::Root, path, &mut own);
    if own.is_empty() {
        defaults::validate(schema, path, &mut own);
    }
    errors.append(&mut own);
}

fn invariants(schema: &Value, level: Level, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = schema.str_at("type");
    if kind == "array" && item_schema(schema).is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = item_schema(schema) {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema.map_at("properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.get_set("additionalProperties").filter(|schema| schema.is_object()) {
        invariants(additional, Level::Field, &path.child("additionalProperties"), errors);
    }
    let flag = |name: &str| schema.bool_at(name);
    let embedded = flag("x-kubernetes-embedded-resource");
    let (any, either) = (flag("x-kubernetes-preserve-unknown-fields"), flag("x-kubernetes-int-or-string"));
    if either && !kind.is_empty() {
        let detail = "must be empty if x-kubernetes-int-or-string is true";
        errors.invalid(&path.child("type"), kind, detail);
    }
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(&path.child("type"), detail),
            kind => errors.invalid(&path.child("type"), kind, detail),
        }
    } else if kind.is_empty() && !either && !any {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path.child("type"), detail);
    }
    if embedded && !any && schema.map_at("properties").is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&path.child("type"), kind, "must be object at the root");
    }
}
