//! What every write goes through, whatever its kind: the steps around a row's strategy.
//!
//! Pure functions over JSON values, in the order of `k8s.io/apiserver/pkg/registry/rest`:
//! [`prepare_create`] and [`validate_create`], [`prepare_update`] and [`validate_update`]; deletion
//! is in [`deletion`], the checks of metadata in [`metadata`]. The API server calls them between
//! admission and the store; nothing here does IO.

pub mod deletion;
pub mod heartbeat;
pub mod metadata;

use super::{Context, Row, Strategy};
use crate::api::{ErrorList, FieldError, GroupVersionKind, Status, time};
use crate::schema::Shape;
use crate::storage::Index;
use serde_json::{Map, Value, json};

/// The members of `metadata`; an object that passed the decoder has them.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.get("metadata").is_some_and(Value::is_object) {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("just made sure")
}

/// A string in `metadata`; empty where it is absent.
pub fn metadata_str<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// A list of strings in `metadata`.
pub fn metadata_strings<'a>(object: &'a Value, name: &str) -> Vec<&'a str> {
    let list = object.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

pub fn is_being_deleted(object: &Value) -> bool {
    object.get("metadata").and_then(|metadata| metadata.get("deletionTimestamp")).is_some_and(|time| !time.is_null())
}

/// `metadata.generation`; 0 where it is absent.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|metadata| metadata.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// System metadata and what the kind clears: `rest.BeforeCreate` up to validation. The name must
/// be there already.
pub fn prepare_create(row: &Row, object: &mut Value, context: &Context) {
    let metadata = metadata(object);
    metadata.insert("uid".to_owned(), Value::String(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".to_owned(), Value::String(time::seconds(context.now)));
    for name in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(name);
    }
    set_namespace(row, metadata, context.namespace);
    if row.generation {
        metadata.insert("generation".to_owned(), json!(1));
    }
    row.strategy.prepare_create(object, context);
}

fn set_namespace(row: &Row, metadata: &mut Map<String, Value>, namespace: &str) {
    if row.namespaced {
        metadata.insert("namespace".to_owned(), Value::String(namespace.to_owned()));
    } else {
        metadata.remove("namespace");
    }
}

/// The 422 of an object that may not be created. `sent`: the client's JSON; empty where it sent none.
pub fn validate_create(row: &Row, object: &Value, sent: &[u8]) -> Result<(), Status> {
    let mut errors = ErrorList::new();
    let own = row.strategy.validates_metadata();
    if own {
        errors.extend(metadata::validate(row, object, |name, prefix| {
            row.strategy.validate_name_of(object, name, prefix)
        }));
        errors.extend(metadata::standard_finalizers(row, object));
    }
    errors.extend(row.strategy.validate(object));
    if !own && errors.is_empty() {
        errors.extend(metadata::validate(row, object, |name, _| metadata::path_segment(name)));
    }
    row.strategy.rules(object, None, &mut errors);
    refuse(row, object, errors, sent)
}

/// Keeps of the old object what no update changes, then what the kind keeps: `rest.BeforeUpdate`
/// up to validation. `strategy` is the row's own, or that of a subresource.
pub fn prepare_update(row: &Row, strategy: &dyn Strategy, object: &mut Value, old: &Value, context: &Context) {
    let kept =
        |name: &str| old.get("metadata").and_then(|metadata| metadata.get(name)).filter(|value| !value.is_null());
    let metadata = metadata(object);
    set_namespace(row, metadata, context.namespace);
    for name in ["generation", "creationTimestamp"] {
        match kept(name) {
            Some(value) => metadata.insert(name.to_owned(), value.clone()),
            None => metadata.remove(name),
        };
    }
    if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty)
        && let Some(uid) = kept("uid")
    {
        metadata.insert("uid".to_owned(), uid.clone());
    }
    // One that is given where there was none is refused.
    if let Some(time) = kept("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), time.clone());
    }
    if let Some(period) = kept("deletionGracePeriodSeconds") {
        metadata.entry("deletionGracePeriodSeconds").or_insert_with(|| period.clone());
    }
    strategy.prepare_update(object, old, context);
}

/// The status stays as it is when the main resource is written.
pub fn keep_status(object: &mut Value, old: &Value) {
    let Some(fields) = object.as_object_mut() else { return };
    match old.get("status") {
        Some(status) => fields.insert("status".to_owned(), status.clone()),
        None => fields.remove("status"),
    };
}

/// `metav1.ResetObjectMetaForStatus`: a write of the status leaves the metadata alone.
pub fn keep_metadata(object: &mut Value, old: &Value) {
    use crate::api::{Fields, FieldsMut};
    let metadata = object.object_mut("metadata");
    for field in ["annotations", "deletionTimestamp", "finalizers", "generation", "labels", "ownerReferences"] {
        metadata.copy(field, old.at("metadata"));
    }
}

/// Everything but metadata and status stays as it is when the status is written.
pub fn keep_all_but_status(object: &mut Value, old: &Value) {
    let (Some(fields), Some(old)) = (object.as_object_mut(), old.as_object()) else { return };
    fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    for (name, value) in old {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            fields.insert(name.clone(), value.clone());
        }
    }
}

/// Counts the generation up when something outside metadata and status changed, unless the kind
/// did already.
pub fn count_generation(row: &Row, object: &mut Value, old: &Value) {
    if !row.generation || generation(object) != generation(old) {
        return;
    }
    let outside = |name: &String| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    let (Some(new_fields), Some(old_fields)) = (object.as_object(), old.as_object()) else { return };
    let changed =
        new_fields.iter().filter(|(name, _)| outside(name)).any(|(name, value)| old_fields.get(name) != Some(value))
            || old_fields.keys().filter(|name| outside(name)).any(|name| !new_fields.contains_key(name));
    if changed {
        let next = generation(old) + 1;
        metadata(object).insert("generation".to_owned(), json!(next));
    }
}

/// The 422 of an object that may not replace `old`; `sent` as in [`validate_create`].
pub fn validate_update(
    row: &Row,
    strategy: &dyn Strategy,
    object: &Value,
    old: &Value,
    sent: &[u8],
) -> Result<(), Status> {
    let mut errors = metadata::validate(row, object, |name, _| metadata::path_segment(name));
    let changes = metadata::validate_update(object, old);
    // Once for the generic checks, once for the kind's own: the causes have both.
    errors.extend(changes.iter().cloned());
    if strategy.checks_metadata_change() {
        errors.extend(changes);
        errors.extend(metadata::standard_finalizers(row, object));
    }
    for _ in 0..strategy.metadata_checks_on_update() {
        errors.extend(metadata::validate(row, object, |name, prefix| strategy.validate_name_of(object, name, prefix)));
        errors.extend(metadata::standard_finalizers(row, object));
    }
    errors.extend(strategy.validate_update(object, old));
    strategy.rules(object, Some(old), &mut errors);
    refuse(row, object, errors, sent)
}

fn refuse(row: &Row, object: &Value, mut errors: ErrorList, sent: &[u8]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    // What is no JSON was no JSON to Kubernetes either: protobuf has no empty lists.
    let sent = serde_json::from_slice(sent).ok();
    errors.iter_mut().for_each(|error| show(row, error, sent.as_ref()));
    // Of the kind that is stored, as Kubernetes names it: an events.k8s.io Event is plain `Event`.
    let kind = GroupVersionKind::new(&row.stored.group, &row.version, &row.kind);
    Err(Status::invalid(&kind, metadata_str(object, "name"), &errors))
}

/// Values are shown by the internal names of their types. Empty lists and maps are not kept, but shown
/// where they are wrong: as they were sent, `[]`, `{}`.
fn show(row: &Row, error: &mut FieldError, sent: Option<&Value>) {
    let Some(schema) = row.schema.as_ref().filter(|_| error.shown.is_none()) else { return };
    // Some of Kubernetes's own paths lack their beginning.
    let kind = schema.at_steps(error.steps()).or_else(|| schema.at_steps(std::iter::once("spec").chain(error.steps())));
    let Some(kind) = kind else { return };
    if !error.value.is_null() && row.custom && error.steps().next() != Some("metadata") {
        return;
    }
    if !error.value.is_null() {
        // What does not fit the field is one of its elements, or of the struct that the field is in.
        let steps: Vec<&str> = error.steps().collect();
        let around = || schema.at_steps(steps[..steps.len().saturating_sub(1)].iter().copied());
        let kind = match schema.table.shape(kind) {
            Shape::List { element, .. } if error.value.is_object() => Some(element),
            Shape::List { .. } if !error.value.is_array() => around(),
            Shape::Struct { .. } | Shape::Map { .. } if !error.value.is_object() => around(),
            Shape::List { .. } | Shape::Struct { .. } | Shape::Map { .. } => Some(kind),
            Shape::RawExtension | Shape::Any => Some(kind),
            _ if error.value.is_object() => around(),
            _ => Some(kind),
        };
        error.shown = kind.and_then(|kind| schema.shown(kind, &error.value));
        return;
    }
    if !matches!(schema.table.shape(kind), Shape::List { .. } | Shape::Map { .. }) {
        return;
    }
    let value = sent.and_then(|sent| {
        error.steps().try_fold(sent, |value, step| match step.parse::<usize>() {
            Ok(index) if value.is_array() => value.get(index),
            _ => value.get(step),
        })
    });
    let empty =
        |value: &&Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    if let Some(value) = value.filter(empty) {
        error.value = value.clone();
    }
}

/// What selectors and preconditions need of the object.
pub fn index(row: &Row, object: &Value) -> Index {
    let labels = object.get("metadata").and_then(|metadata| metadata.get("labels")).and_then(Value::as_object);
    let labels = labels.map(|labels| {
        labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into())).collect()
    });
    let mut fields: Vec<(Box<str>, Box<str>)> =
        row.strategy.selectable_fields().iter().map(|(path, read)| ((*path).into(), read(object).into())).collect();
    fields.extend(row.strategy.selectable().iter().map(|one| (one.path.as_str().into(), one.value(object).into())));
    fields.sort_unstable();
    Index { uid: metadata_str(object, "uid").into(), labels: labels.unwrap_or_default(), fields: fields.into() }
}

/// Drops repeated owner references; the text of the warning when there were any.
pub fn dedup_owner_references(object: &mut Value) -> Option<String> {
    let list = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let mut repeated: Vec<String> = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    for reference in list.drain(..) {
        if kept.contains(&reference) {
            repeated.push(reference.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned());
        } else {
            kept.push(reference);
        }
    }
    *list = kept;
    if repeated.is_empty() {
        return None;
    }
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    ))
}
