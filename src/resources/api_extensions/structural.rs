//! Structural schemas: every field has a type, what checks values names only such fields, metadata is
//! left to the API, and defaults are values of their schemas.
//!
//! Source: `ValidateStructural` and `ValidateDefaults` of apiextensions.

use super::definition::is_zero;
use super::json_schema::{UNSUPPORTED, item_schema};
use super::ratchet::Strictness;
use super::{completeness, defaults};
use crate::api::regular::regular_expression;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Defaults are looked at where all else is well. What cannot be made a structural schema is not
/// looked at here: `json_schema` says why.
pub fn validate(schema: &Value, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    if !is_convertible(schema) {
        return;
    }
    let mut own = shape(schema, path);
    if own.is_empty() {
        defaults::validate_root(schema, strict.pruned_defaults, path, &mut own);
    }
    errors.append(&mut own);
}

fn shape(schema: &Value, path: &Path<'_>) -> ErrorList {
    let mut own = ErrorList::new();
    invariants(schema, Level::Root, path, &mut own);
    completeness::validate(schema, path, &mut own);
    own.sort_by_cached_key(ToString::to_string);
    own
}

pub fn is_structural(schema: &Value) -> bool {
    is_convertible(schema) && shape(schema, &Path::root()).is_empty()
}

/// Whether a default says something that its schema does not know.
pub fn has_unpruned_defaults(schema: &Value) -> bool {
    is_structural(schema) && defaults::has_unpruned(schema)
}

/// The schemas right below one.
fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|field| schema.list_at(field));
    let single = ["not", "items", "additionalProperties"].into_iter().filter_map(|field| schema.get_set(field));
    lists.chain(single.filter(|part| part.is_object())).chain(schema.map_at("properties").values())
}

fn is_convertible(schema: &Value) -> bool {
    !UNSUPPORTED.iter().any(|field| !is_zero(schema.at(field)))
        && schema.list_at("items").is_empty()
        && schema.optional_bool("x-kubernetes-preserve-unknown-fields") != Some(false)
        && parts(schema).all(is_convertible)
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
    let flag = |name: &str| schema.bool_at(name);
    let embedded = flag("x-kubernetes-embedded-resource");
    if let Some(additional) = schema.get_set("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&path, "must not be used at the root");
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
        if embedded {
            errors.forbidden(&path, "must not be used if x-kubernetes-embedded-resource is set");
        }
    }
    let (any, either) = (flag("x-kubernetes-preserve-unknown-fields"), flag("x-kubernetes-int-or-string"));
    for (flag, name) in [(any, "x-kubernetes-preserve-unknown-fields"), (embedded, "x-kubernetes-embedded-resource")] {
        if either && flag {
            errors.invalid(&path.child(name), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    checks(schema, is_int_or_string(schema), is_int_or_string(schema.list_at("allOf").first()), path, errors);
    let at_type = path.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(&at_type, detail),
            kind => errors.invalid(&at_type, kind, detail),
        }
    } else if kind.is_empty() && !either && !any {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&at_type, detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&at_type, kind, "must be object at the root");
    }
    object_fields(schema, level, path, errors);
    if embedded && !any && schema.map_at("properties").is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
}

/// `apiVersion`, `kind` and `metadata` are the API's own.
fn object_fields(schema: &Value, level: Level, path: &Path<'_>, errors: &mut ErrorList) {
    let at_properties = path.child("properties");
    let is_object = level == Level::Root || schema.bool_at("x-kubernetes-embedded-resource");
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(property) = schema.at("properties").get_set(name).filter(|_| is_object) else { continue };
        if property.str_at("type") != wanted {
            let detail = format!("must be {wanted}");
            errors.invalid(&at_properties.key(name).child("type"), property.str_at("type"), detail);
        }
    }
    if level != Level::Root {
        return;
    }
    let metadata = schema.at("properties").at("metadata");
    let says_more = metadata.entries().iter().any(|(field, value)| match field.as_str() {
        "type" | "default" | "$schema" => false,
        "properties" => value.entries().keys().any(|name| !matches!(name.as_str(), "name" | "generateName")),
        _ => !is_zero(value),
    });
    if says_more {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&at_properties.key("metadata"), detail);
    }
}

/// `anyOf` an integer and a string, which stands beside `x-kubernetes-int-or-string`.
fn is_int_or_string<'a>(schema: impl Into<Option<&'a Value>>) -> bool {
    let only = |part: &Value, kind| {
        part.str_at("type") == kind && part.entries().iter().all(|(name, value)| name == "type" || is_zero(value))
    };
    matches!(
        schema.into().map(|schema| schema.list_at("anyOf")),
        Some([first, second]) if only(first, "integer") && only(second, "string")
    )
}

/// What a schema says of values; `skip_any` and `skip_first_any`: its `anyOf`, or that of the first of
/// `allOf`, only tells integers and strings.
fn checks(schema: &Value, skip_any: bool, skip_first_any: bool, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["anyOf", "allOf", "oneOf"] {
        if field == "anyOf" && skip_any {
            continue;
        }
        for (index, part) in schema.list_at(field).iter().enumerate() {
            let skip = field == "allOf" && index == 0 && skip_first_any;
            nested(part, skip, &path.child(field).index(index), errors);
        }
    }
    if let Some(not) = schema.get_set("not") {
        nested(not, false, &path.child("not"), errors);
    }
    let pattern = schema.str_at("pattern");
    if !pattern.is_empty()
        && let Err(error) = regular_expression(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), pattern, detail);
    }
}

/// Fields that say what a value is: they have no place where values are only checked.
const FORBIDDEN: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

fn nested(schema: &Value, skip_any: bool, path: &Path<'_>, errors: &mut ErrorList) {
    checks(schema, skip_any, false, path, errors);
    if let Some(items) = item_schema(schema) {
        nested(items, false, &path.child("items"), errors);
    }
    let at_properties = path.child("properties");
    for (name, property) in schema.map_at("properties") {
        nested(property, false, &at_properties.key(name), errors);
    }
    for (field, detail) in FORBIDDEN {
        let value = schema.at(field);
        let said = match *field {
            // Of any value; but properties that may not be are not said to be.
            "default" => !value.is_null(),
            "additionalProperties" => value.is_object() || value == &Value::Bool(true),
            _ => !is_zero(value),
        };
        if said {
            errors.forbidden(&path.child(field), *detail);
        }
    }
    if schema.at("properties").has("metadata") {
        errors.forbidden(&at_properties.key("metadata"), "must not be specified in a nested context");
    }
}
