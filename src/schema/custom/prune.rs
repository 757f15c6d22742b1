//! What a schema makes of a value: unknown fields go, nulls that may not be go, defaults come.
//!
//! The rules are those of apiextensions' `pruning` and `defaulting`: they go by the shape of the
//! value, and leave wrong types for validation to tell.

use super::structural::{Additional, Structural};
use serde_json::{Map, Value};

/// Told by a Kubernetes object itself, wherever it is.
const META_FIELDS: &[&str] = &["apiVersion", "kind", "metadata"];

/// Takes unknown fields out of an object; `root`: it is a whole object, whose metadata stays. The
/// paths of what went, sorted.
pub fn prune(value: &mut Value, schema: &Structural, root: bool) -> Vec<String> {
    let mut walk = Prune { path: String::new(), unknown: Vec::new() };
    walk.value(value, Some(schema), root || schema.embedded);
    walk.unknown.sort_unstable();
    walk.unknown
}

struct Prune {
    path: String,
    unknown: Vec<String>,
}

impl Prune {
    fn below(&mut self, step: &str, run: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        run(self);
        self.path.truncate(length);
    }

    fn note(&mut self, name: &str) {
        self.below(name, |walk| walk.unknown.push(walk.path.clone()));
    }

    fn value(&mut self, value: &mut Value, schema: Option<&Structural>, object: bool) {
        self.kept(value, schema, object, schema.is_some_and(|schema| schema.preserve));
    }

    fn kept(&mut self, value: &mut Value, schema: Option<&Structural>, object: bool, preserve: bool) {
        match value {
            Value::Object(map) => self.map(map, schema, object, preserve),
            Value::Array(items) => {
                let own = schema.and_then(|schema| schema.items.as_deref());
                if preserve && own.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    let object = own.is_some_and(|own| own.embedded);
                    let preserve = preserve || own.is_some_and(|own| own.preserve);
                    self.below(&format!("[{index}]"), |walk| walk.kept(item, own, object, preserve));
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, map: &mut Map<String, Value>, schema: Option<&Structural>, object: bool, preserve: bool) {
        let top = self.path.is_empty();
        map.retain(|name, value| {
            let meta = META_FIELDS.contains(&name.as_str());
            if object && meta {
                return true;
            }
            let own = schema.and_then(|schema| schema.properties.get(name));
            let declared = match (own, schema.and_then(|schema| schema.additional.as_ref())) {
                (Some(own), _) => Some(Some(own)),
                (None, Some(Additional::Schema(own))) => Some(Some(&**own)),
                (None, Some(Additional::Allowed(_))) => Some(None),
                (None, None) => None,
            };
            match declared {
                Some(own) => {
                    self.below(name, |walk| walk.value(value, own, own.is_some_and(|own| own.embedded)));
                    true
                }
                None if preserve => true,
                None => {
                    if !(meta && top) {
                        self.note(name);
                    }
                    false
                }
            }
        });
    }
}

/// Takes out nulls where null may not be and no default stands in for it.
pub fn prune_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let Some(own) = schema.member(name) else { return true };
            let goes = value.is_null() && !own.nullable && own.default.is_none();
            if !goes {
                prune_nulls(value, own);
            }
            !goes
        }),
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                items.iter_mut().for_each(|item| prune_nulls(item, own));
            }
        }
        _ => {}
    }
}

/// Puts defaults where a field is absent, or null and may not be.
pub fn default(value: &mut Value, schema: &Structural) {
    let missing = |value: &Value, schema: &Structural| value.is_null() && !schema.nullable;
    match value {
        Value::Object(map) => {
            for (name, own) in schema.properties.iter() {
                if let Some(default) = &own.default
                    && map.get(name).is_none_or(|value| missing(value, own))
                {
                    map.insert(name.to_owned(), default.clone());
                }
            }
            for (name, value) in map {
                let Some(own) = schema.member(name) else { continue };
                if !schema.properties.contains_key(name) && missing(value, own) {
                    *value = own.default.clone().unwrap_or_default();
                }
                default(value, own);
            }
        }
        Value::Array(items) => {
            let Some(own) = &schema.items else { return };
            for item in items {
                if missing(item, own) {
                    *item = own.default.clone().unwrap_or_default();
                }
                default(item, own);
            }
        }
        _ => {}
    }
}
