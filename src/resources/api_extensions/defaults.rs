//! A default in a schema is a value that the schema takes.

use super::json_schema::{TYPES, item_schema};
use super::rules::Rules;
use crate::api::field::go_quote;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Report};
use crate::resources::pipeline::metadata::validate_embedded;
use crate::schema::custom::{Structural, embedded, prune, validate as schema_validate};
use serde_json::{Value, json};
use std::sync::Arc;

/// A step from an object to a value in it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item,
}

/// The object that a value is part of.
#[derive(Clone)]
struct Place<'a> {
    object: Arc<Structural>,
    steps: Vec<Step<'a>>,
    /// In its `apiVersion`, `kind` or `metadata`.
    inside_metadata: bool,
    pruned: bool,
}

/// All defaults in the schema of a resource, which is an object.
/// `pruned`: they say nothing that the schema does not know.
pub fn validate_root(schema: &Value, pruned: bool, path: &Path<'_>, errors: &mut ErrorList) {
    walk(schema, true, &Place::of(schema, pruned), path, errors);
}

pub fn has_unpruned(schema: &Value) -> bool {
    let mut errors = ErrorList::new();
    validate_root(schema, true, &Path::root(), &mut errors);
    errors.iter().any(|error| error.detail == UNKNOWN)
}

const UNKNOWN: &str = "must not have unknown fields";

fn walk<'a>(schema: &'a Value, is_object: bool, place: &Place<'a>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(default) = schema.get_set("default") {
        let path = path.child("default");
        if place.inside_metadata {
            fits_metadata(default, schema, place, &path, errors);
        } else {
            fits(default, schema, is_object, place.pruned, &path, errors);
        }
    }
    let mut below = |schema: &'a Value, step, is_metadata, path: &Path<'_>| {
        let embedded = schema.bool_at("x-kubernetes-embedded-resource");
        let place = if embedded { Place::of(schema, place.pruned) } else { place.at(step, is_metadata) };
        walk(schema, embedded, &place, path, errors);
    };
    if let Some(items) = item_schema(schema) {
        below(items, Step::Item, false, &path.child("items"));
    }
    for (name, property) in schema.map_at("properties") {
        let is_metadata = is_object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        below(property, Step::Field(name), is_metadata, &path.child("properties").key(name));
    }
}

impl<'a> Place<'a> {
    fn of(object: &Value, pruned: bool) -> Self {
        let object = Structural::parse(object).embedded(true);
        Self { object: Arc::new(object), steps: Vec::new(), inside_metadata: false, pruned }
    }

    fn at(&self, step: Step<'a>, is_metadata: bool) -> Self {
        let mut place = self.clone();
        place.steps.push(step);
        place.inside_metadata |= is_metadata;
        place
    }

    /// An object with nothing but the value in it.
    fn around(&self, value: &Value) -> Value {
        let mut object = self.steps.iter().rev().fold(value.clone(), |value, step| match step {
            Step::Field(name) => json!({ *name: value }),
            Step::Item => json!([value]),
        });
        object.set("apiVersion", "validation/v1");
        object.set("kind", "Validation");
        object
    }
}

/// Whether an object with this value in its metadata has a valid one.
fn fits_metadata(value: &Value, schema: &Value, place: &Place<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut object = place.around(value);
    let refused = match embedded::coerce(&mut object, &place.object, &mut Vec::new()) {
        Err(error) => Some(error),
        Ok(()) => {
            let mut found = ErrorList::new();
            embedded::validate(&object, &place.object, &Path::root(), &validate_embedded, &mut found);
            let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
            match &texts[..] {
                [] => None,
                [one] => Some(one.clone()),
                several => Some(format!("[{}]", several.join(", "))),
            }
        }
    };
    match refused {
        Some(refused) => errors.invalid(path, value.clone(), format!("must result in valid metadata: {refused}")),
        None => errors.append(&mut taken(value, schema, Structural::parse(schema), path)),
    }
}

/// Whether a value is one of the schema, and says nothing that the schema does not know.
fn fits(value: &Value, schema: &Value, is_object: bool, pruned: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let structural = Structural::parse(schema).embedded(is_object);
    if pruned && !prune::prune(&mut value.clone(), &structural, is_object).is_empty() {
        errors.invalid(path, value.clone(), UNKNOWN);
    }
    let mut found = ErrorList::new();
    embedded::validate(value, &structural, path, &validate_embedded, &mut found);
    if found.is_empty() {
        found = taken(value, schema, structural, path);
    }
    errors.append(&mut found);
}

/// What the schema and its rules say of the value.
fn taken(value: &Value, schema: &Value, structural: Structural, path: &Path<'_>) -> ErrorList {
    let mut found = schema_validate::validate(value, &structural, path);
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
    found
}
