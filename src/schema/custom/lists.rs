//! Lists that are sets or maps: nothing comes twice in them.

use super::structural::{ListKind, Structural};
use crate::api::{ErrorList, FieldError, Path};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Every repeated element below a value; told once, at its second place.
pub fn validate(value: &Value, schema: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(own) = schema.member(name) {
                    validate(value, own, &schema.member_path(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            match &schema.list {
                Some(ListKind::Set) => repeated(items.iter().map(Value::to_string))
                    .for_each(|at| errors.push(FieldError::duplicate(&path.index(at), items[at].clone()))),
                Some(ListKind::Map(keys)) => by_keys(items, keys, path, errors),
                _ => {}
            }
            if let Some(own) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    validate(item, own, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn by_keys(items: &[Value], keys: &[String], path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        return errors.push(FieldError::invalid(&path.index(at), items[at].clone(), detail));
    }
    let key = |item: &Value| -> Value {
        let of = |key: &String| item.get(key).map(|value| (key.clone(), value.clone()));
        Value::Object(keys.iter().filter_map(of).collect::<Map<_, _>>())
    };
    let all: Vec<Value> = items.iter().map(key).collect();
    repeated(all.iter().map(Value::to_string))
        .for_each(|at| errors.push(FieldError::duplicate(&path.index(at), all[at].clone())));
}

/// Where each text comes for the second time.
fn repeated(texts: impl Iterator<Item = String>) -> impl Iterator<Item = usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut second = Vec::new();
    for (at, text) in texts.enumerate() {
        let times = seen.entry(text).or_default();
        *times += 1;
        if *times == 2 {
            second.push(at);
        }
    }
    second.into_iter()
}
