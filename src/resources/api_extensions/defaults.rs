//! A default in a schema is a value that the schema takes.

use super::json_schema::{TYPES, item_schema};
use super::rules::Rules;
use crate::api::field::go_quote;
use crate::api::{ErrorList, FieldError, Fields, Path};
use crate::resources::pipeline::metadata::validate_embedded;
use crate::schema::custom::{Structural, embedded, prune, validate as schema_validate};
use serde_json::Value;
use std::sync::Arc;

/// All defaults in a schema and below.
pub fn validate(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(default) = schema.get_set("default") {
        fits(default, schema, &path.child("default"), errors);
    }
    if let Some(items) = item_schema(schema) {
        validate(items, &path.child("items"), errors);
    }
    for (name, property) in schema.map_at("properties") {
        validate(property, &path.child("properties").key(name), errors);
    }
}

/// Whether a value is one of the schema, and says nothing that the schema does not know.
fn fits(value: &Value, schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let structural = Structural::parse(schema);
    let mut pruned = value.clone();
    if !prune::prune(&mut pruned, &structural, false).is_empty() {
        errors.push(FieldError::invalid(path, value.clone(), "must not have unknown fields"));
    }
    let mut found = ErrorList::new();
    embedded::validate(value, &structural, path, &validate_embedded, &mut found);
    if found.is_empty() {
        found = schema_validate::validate(value, &structural, path);
    }
    if found.is_empty() {
        // As something new, and as an update that changes nothing.
        let rules = Rules::new(Arc::new(structural));
        rules.validate(value, Some(value), path, &mut found);
        if found.is_empty() {
            rules.validate(value, None, path, &mut found);
        }
    }
    // A type that there is not takes nothing.
    let wanted = schema.str_at("type");
    if !wanted.is_empty() && !TYPES.contains(&wanted) {
        let kind = schema_validate::kind_of(value);
        let detail = format!(" in body must be of type {wanted}: {}", go_quote(kind));
        found.insert(0, FieldError::type_invalid(path, kind, detail));
    }
    errors.append(&mut found);
}
