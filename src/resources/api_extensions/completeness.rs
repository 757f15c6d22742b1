//! What a schema checks of a field below `allOf`, `anyOf`, `oneOf` and `not` is a field that it has.
//! Kubernetes looks at those of the root only.
//!
//! Source: `validateStructuralCompleteness` of apiextensions.

use super::json_schema::item_schema;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

pub fn validate(schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    junctors(schema, Some(schema), path, path, errors);
}

/// `checked` says something of values whose schema should be `known`; each with its path.
fn junctors(checked: &Value, known: Option<&Value>, known_at: &Path<'_>, at: &Path<'_>, errors: &mut ErrorList) {
    if let Some(not) = checked.get_set("not") {
        nested(not, known, known_at, &at.child("not"), errors);
    }
    for field in ["allOf", "anyOf", "oneOf"] {
        for (index, part) in checked.list_at(field).iter().enumerate() {
            nested(part, known, known_at, &at.child(field).index(index), errors);
        }
    }
}

fn nested(checked: &Value, known: Option<&Value>, known_at: &Path<'_>, at: &Path<'_>, errors: &mut ErrorList) {
    let Some(schema) = known else {
        return errors.required(known_at, format!("because it is defined in {at}"));
    };
    junctors(checked, known, known_at, at, errors);
    if let Some(items) = item_schema(checked) {
        nested(items, item_schema(schema), &known_at.child("items"), &at.child("items"), errors);
    }
    let (known_properties, properties) = (known_at.child("properties"), at.child("properties"));
    for (name, property) in checked.map_at("properties") {
        let own = schema.at("properties").get_set(name);
        nested(property, own, &known_properties.key(name), &properties.key(name), errors);
    }
}
