//! The checks of `metadata`, in the order and with the texts of
//! `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

use super::{metadata_str, metadata_strings};
use crate::api::{ErrorList, FieldError, Path, gvk, names};
use crate::resources::Row;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// `ValidateObjectMeta`; `name_errors` is asked with (name, is a prefix).
pub fn validate(row: &Row, object: &Value, name_errors: impl Fn(&str, bool) -> Vec<String>) -> ErrorList {
    validate_scoped(row.namespaced, object, name_errors)
}

/// The metadata of an object inside another one; it need not have a name.
pub fn validate_embedded(metadata: &Value, path: &Path<'_>) -> ErrorList {
    let mut object = json!({ "metadata": metadata });
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().is_empty();
    if text("name") {
        object["metadata"]["name"] = "fakename".into();
    }
    let mut errors = validate_scoped(!text("namespace"), &object, |name, _| path_segment(name));
    let path = path.to_string();
    for error in &mut errors {
        error.field = format!("{path}{}", error.field.strip_prefix("metadata").unwrap_or_default());
    }
    errors
}

/// What is wrong with the labels and annotations of a metadata alone.
pub fn labels_and_annotations(metadata: &Value) -> ErrorList {
    let object = json!({ "metadata": metadata });
    let mut errors = ErrorList::new();
    labels(&object, &mut errors);
    annotations(&object, &mut errors);
    errors
}

fn validate_scoped(namespaced: bool, object: &Value, name_errors: impl Fn(&str, bool) -> Vec<String>) -> ErrorList {
    let root = Path::new("metadata");
    let mut errors = ErrorList::new();
    let generate_name = metadata_str(object, "generateName");
    if !generate_name.is_empty() {
        for message in name_errors(generate_name, true) {
            errors.push(FieldError::invalid(&root.child("generateName"), generate_name, message));
        }
    }
    let name = metadata_str(object, "name");
    if name.is_empty() {
        errors.push(FieldError::required(&root.child("name"), "name or generateName is required"));
    } else {
        for message in name_errors(name, false) {
            errors.push(FieldError::invalid(&root.child("name"), name, message));
        }
    }
    let namespace = metadata_str(object, "namespace");
    if namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required(&root.child("namespace"), ""));
        } else {
            for message in names::dns_label(namespace) {
                errors.push(FieldError::invalid(&root.child("namespace"), namespace, message));
            }
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(&root.child("namespace"), "not allowed on this type"));
    }
    let generation = super::generation(object);
    if generation < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&root.child("generation"), generation, detail));
    }
    labels(object, &mut errors);
    annotations(object, &mut errors);
    owner_references(object, &mut errors);
    finalizers(object, &mut errors);
    errors
}

/// `ValidateObjectMetaUpdate`.
pub fn validate_update(object: &Value, old: &Value) -> ErrorList {
    let root = Path::new("metadata");
    let mut errors = ErrorList::new();
    if super::is_being_deleted(old) {
        let before = metadata_strings(old, "finalizers");
        let added: BTreeSet<&str> =
            metadata_strings(object, "finalizers").into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let list = added.iter().map(|name| crate::api::field::go_quote(name)).collect::<Vec<_>>().join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            errors.push(FieldError::forbidden(&root.child("finalizers"), detail));
        }
    }
    if super::generation(object) < super::generation(old) {
        let detail = "must not be decremented";
        errors.push(FieldError::invalid(&root.child("generation"), super::generation(object), detail));
    }
    for name in ["name", "namespace", "uid"] {
        let (new, old) = (metadata_str(object, name), metadata_str(old, name));
        if new != old {
            errors.push(FieldError::invalid(&root.child(name), new, "field is immutable"));
        }
    }
    let field = |object: &Value, name: &str| object.get("metadata").and_then(|metadata| metadata.get(name)).cloned();
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (field(object, name), field(old, name));
        if new != old {
            errors.push(FieldError::invalid(&root.child(name), new.unwrap_or_default(), "field is immutable"));
        }
    }
    labels(object, &mut errors);
    annotations(object, &mut errors);
    owner_references(object, &mut errors);
    errors
}

fn map<'a>(object: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    object.get("metadata")?.get(name)?.as_object()
}

fn labels(object: &Value, errors: &mut ErrorList) {
    let root = Path::new("metadata");
    let path = root.child("labels");
    for (key, value) in map(object, "labels").into_iter().flatten() {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid(&path, key.as_str(), message));
        }
        let value = value.as_str().unwrap_or_default();
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(&path, value, message));
        }
    }
}

fn annotations(object: &Value, errors: &mut ErrorList) {
    let root = Path::new("metadata");
    let path = root.child("annotations");
    let mut size = 0;
    for (key, value) in map(object, "annotations").into_iter().flatten() {
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&path, key.as_str(), message));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(&path, ANNOTATIONS_LIMIT as i64));
    }
}

fn owner_references(object: &Value, errors: &mut ErrorList) {
    let root = Path::new("metadata");
    let path = root.child("ownerReferences");
    let references = object.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    let Some(references) = references.and_then(Value::as_array) else { return };
    let mut first_controller: Option<String> = None;
    for reference in references {
        let text = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = gvk::split_api_version(text("apiVersion"));
        // With a second slash it is no group and version at all.
        let version = if version.contains('/') { "" } else { version };
        if version.is_empty() {
            let detail = "version must not be empty";
            errors.push(FieldError::invalid(&path.child("apiVersion"), text("apiVersion"), detail));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                errors.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
            }
        }
        if (group, version, text("kind")) == ("", "v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&path, reference.clone(), detail));
        }
        if reference.get("controller").and_then(Value::as_bool) == Some(true) {
            let current = format!("{}/{}", text("kind"), text("name"));
            match &first_controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    errors.push(FieldError::invalid(&path, json!(references), detail));
                }
                None => first_controller = Some(current),
            }
        }
    }
}

fn finalizers(object: &Value, errors: &mut ErrorList) {
    let root = Path::new("metadata");
    let path = root.child("finalizers");
    let names = metadata_strings(object, "finalizers");
    for name in &names {
        for message in names::qualified_name(name) {
            errors.push(FieldError::invalid(&path, *name, message));
        }
    }
    if names.contains(&ORPHAN) && names.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(&path, json!(names), detail));
    }
}

/// Groups whose kinds take any finalizer, as custom ones do.
const ANY_FINALIZER: &[&str] = &[
    "node.k8s.io",
    "coordination.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
];

/// Built-in kinds take only qualified finalizers and the three standard ones.
pub fn standard_finalizers(row: &Row, object: &Value) -> ErrorList {
    let root = Path::new("metadata");
    let path = root.child("finalizers");
    let mut errors = ErrorList::new();
    if row.custom || ANY_FINALIZER.contains(&&*row.group) {
        return errors;
    }
    for (index, name) in metadata_strings(object, "finalizers").into_iter().enumerate() {
        if !name.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(index), name, detail));
        }
    }
    errors
}

/// What every name must be, so that it can be part of a path.
pub fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|part| name.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}
