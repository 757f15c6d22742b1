//! A default in a schema is a value that the schema takes.

use super::json_schema::item_schema;
use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use serde_json::Value;

/// All defaults in a schema and below.
pub fn validate(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(items) = item_schema(schema) {
        validate(items, &path.child("items"), errors);
    }
    for (name, property) in schema.map_at("properties") {
        validate(property, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.get_set("additionalProperties").filter(|schema| schema.is_object()) {
        validate(additional, &path.child("additionalProperties"), errors);
    }
    if let Some(default) = schema.get_set("default") {
        fits(default, schema, &path.child("default"), errors);
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|float| float.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a value is one of the schema.
pub fn fits(value: &Value, schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_null() && schema.bool_at("nullable") {
        return;
    }
    let (wanted, found) = (schema.str_at("type"), kind_of(value));
    let either = schema.bool_at("x-kubernetes-int-or-string") && matches!(found, "integer" | "string");
    let same = wanted.is_empty() || wanted == found || (wanted == "number" && found == "integer") || either;
    if !same {
        let detail = format!(" in body must be of type {wanted}: {}", crate::api::field::go_quote(found));
        errors.push(FieldError::type_invalid(path, found, detail));
    }
    let choices = schema.list_at("enum");
    if !choices.is_empty() && !choices.contains(value) {
        let shown: Vec<String> =
            choices.iter().map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned)).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        errors.not_supported(path, value.clone(), &shown);
    }
    if !same {
        return;
    }
    bounds(value, schema, path, errors);
    for (name, property) in schema.map_at("properties") {
        if let Some(value) = value.get_set(name) {
            fits(value, property, &path.child(name), errors);
        }
    }
    if let Some(items) = item_schema(schema) {
        for (index, value) in value.items().iter().enumerate() {
            fits(value, items, &path.index(index), errors);
        }
    }
    for name in schema.strs_at("required").filter(|name| value.is_object() && value.get(*name).is_none()) {
        errors.required(&path.child(name), "");
    }
}

fn bounds(value: &Value, schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(number) = value.as_f64() {
        if let Some(least) = schema.at("minimum").as_f64().filter(|least| number < *least) {
            errors.invalid(path, value.clone(), format!(" in body should be greater than or equal to {least}"));
        }
        if let Some(most) = schema.at("maximum").as_f64().filter(|most| number > *most) {
            errors.invalid(path, value.clone(), format!(" in body should be less than or equal to {most}"));
        }
    }
    let length = match value {
        Value::String(text) => Some((text.chars().count() as i64, "minLength", "maxLength", "chars long")),
        Value::Array(items) => Some((items.len() as i64, "minItems", "maxItems", "items")),
        _ => None,
    };
    if let Some((length, least, most, what)) = length {
        if let Some(least) = schema.optional_int(least).filter(|least| length < *least) {
            errors.invalid(path, value.clone(), format!(" in body should be at least {least} {what}"));
        }
        if let Some(most) = schema.optional_int(most).filter(|most| length > *most) {
            errors.invalid(path, value.clone(), format!(" in body should be at most {most} {what}"));
        }
    }
}
