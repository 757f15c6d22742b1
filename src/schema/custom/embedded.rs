//! Kubernetes objects inside custom resources: their `apiVersion`, `kind` and `metadata` are read and
//! checked as those of any object.

use super::structural::{Structural, Type};
use crate::api::{ErrorList, FieldError, Path, gvk, names};
use crate::api::{Fields, GroupVersionKind};
use crate::schema::decode::decode_part;
use crate::schema::table::{TypeId, builtin};
use serde_json::Value;

/// `metav1.ObjectMeta` in the built-in table.
pub(super) fn object_meta() -> TypeId {
    static FOUND: std::sync::LazyLock<TypeId> = std::sync::LazyLock::new(|| {
        let table = builtin();
        let root = table.lookup(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("a built-in kind");
        table.resolve(root, &["metadata"]).expect("every kind has metadata")
    });
    *FOUND
}

/// Metadata as the API writes it; `unknown` hears of fields that it does not have.
pub(super) fn read_metadata(metadata: &Value, unknown: &mut dyn FnMut(&str)) -> Result<Value, String> {
    let (mut read, strict) = decode_part(builtin(), object_meta(), metadata.to_string().as_bytes())?;
    for error in strict {
        if let Some(name) = error.strip_prefix("unknown field \"").and_then(|rest| rest.strip_suffix('"')) {
            unknown(name);
        }
    }
    if read.is_null() {
        read = Value::Object(Default::default());
    }
    if let Some(fields) = read.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(read)
}

/// Reads the metadata of all embedded objects below the root; unknown fields of it are listed.
pub fn coerce(value: &mut Value, schema: &Structural, unknown: &mut Vec<String>) -> Result<(), String> {
    if !schema.any(&|node| node.embedded) {
        return Ok(());
    }
    let mut found = Vec::new();
    walk(value, schema, "", &mut found)?;
    found.sort_unstable();
    unknown.extend(found);
    Ok(())
}

fn walk(value: &mut Value, schema: &Structural, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) => {
            if schema.embedded {
                for name in ["apiVersion", "kind"] {
                    if map.get(name).is_some_and(|value| !value.is_string()) {
                        return Err(format!("{}: Invalid value: {}: must be a string", at(name), map[name]));
                    }
                }
                if let Some(metadata) = map.get_mut("metadata") {
                    let prefix = at("metadata");
                    let read = read_metadata(metadata, &mut |name| unknown.push(format!("{prefix}.{name}")));
                    *metadata = read.map_err(|error| format!("{prefix}: Invalid value: {metadata}: {error}"))?;
                }
            }
            for (name, value) in map {
                if let Some(own) = schema.member(name) {
                    walk(value, own, &at(name), unknown)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(item, own, &format!("{path}[{index}]"), unknown)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// What is wrong with the embedded objects below a value. `metadata` checks a metadata as that of any
/// object: given it and its path.
pub fn validate(
    value: &Value,
    schema: &Structural,
    path: &Path<'_>,
    metadata: &dyn Fn(&Value, &Path<'_>) -> ErrorList,
    errors: &mut ErrorList,
) {
    match value {
        Value::Object(map) => {
            if schema.embedded && schema.kind == Some(Type::Object) {
                object(value, path, metadata, errors);
            }
            for (name, value) in map {
                if let Some(own) = schema.member(name) {
                    validate(value, own, &schema.member_path(path, name), metadata, errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(own) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    validate(item, own, &path.index(index), metadata, errors);
                }
            }
        }
        _ => {}
    }
}

fn object(object: &Value, path: &Path<'_>, metadata: &dyn Fn(&Value, &Path<'_>) -> ErrorList, errors: &mut ErrorList) {
    for name in ["apiVersion", "kind"] {
        if object.get(name).is_none() {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    let api_version = path.child("apiVersion");
    match object.get("apiVersion") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::invalid(&api_version, "", "must not be empty"));
        }
        Some(Value::String(text)) => {
            if gvk::split_api_version(text).1.contains('/') || text.matches('/').count() > 1 {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(FieldError::invalid(&api_version, text.as_str(), detail));
            }
        }
        Some(other) => errors.push(FieldError::invalid(&api_version, other.clone(), "must be a string")),
    }
    let kind = path.child("kind");
    match object.get("kind") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::invalid(&kind, "", "must not be empty"));
        }
        Some(Value::String(text)) => {
            let messages = names::dns_1035_label(&text.to_lowercase());
            if !messages.is_empty() {
                let detail = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
                errors.push(FieldError::invalid(&kind, text.as_str(), detail));
            }
        }
        Some(other) => errors.push(FieldError::invalid(&kind, other.clone(), "must be a string")),
    }
    if object.has("metadata") {
        errors.extend(metadata(object.at("metadata"), &path.child("metadata")));
    }
}
