//! What Deployments and ReplicaSets share: a selector, a template, counts in the status.

use crate::api::{ErrorList, Fields, Path, Report, names};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::template;
use crate::resources::labels;
use serde_json::Value;

pub const SPEC: Path<'static> = Path::new("spec");
pub const STATUS: Path<'static> = Path::new("status");

/// The selector and the template it selects.
pub fn selector_and_template(spec: &Value, options: &Options, errors: &mut ErrorList) {
    let path = SPEC.child("selector");
    let selector = spec.at("selector");
    let empty = selector.map_at("matchLabels").is_empty() && selector.list_at("matchExpressions").is_empty();
    if selector.is_null() {
        errors.required(&path, "");
    } else {
        labels::selector(selector, false, &path, errors);
        if empty {
            errors.invalid(&path, selector.clone(), "empty selector is invalid for deployment");
        }
    }
    if !labels::selector_is_usable(selector) {
        return errors.invalid(&path, selector.clone(), "invalid label selector");
    }
    let template = spec.at("template");
    // An absent selector selects nothing, an empty one is not held against the template.
    let selects =
        (empty && !selector.is_null()) || labels::selector_matches(selector, template.at("metadata").at("labels"));
    let path = SPEC.child("template");
    template::validate_running(template, selects, "ReplicaSet", &path, options, errors);
}

/// The selector of a workload stays.
pub fn same_selector(object: &Value, old: &Value, errors: &mut ErrorList) {
    let (selector, before) = (object.at("spec").at("selector"), old.at("spec").at("selector"));
    if !crate::api::value::equal(selector, before) {
        errors.invalid(&SPEC.child("selector"), selector.clone(), "field is immutable");
    }
}

/// Counts are not negative; those listed in `parts` are parts of `replicas`. `ready`: the field of
/// ready ones, as the message names it.
pub fn counts(status: &Value, all: &[&str], parts: &[&str], ready: &str, errors: &mut ErrorList) {
    for field in all {
        errors.not_negative(&STATUS.child(field), status.int_at(field));
    }
    let replicas = status.int_at("replicas");
    for field in parts {
        if status.int_at(field) > replicas {
            let detail = "cannot be greater than status.replicas";
            errors.invalid(&STATUS.child(field), status.int_at(field), detail);
        }
    }
    let available = status.int_at("availableReplicas");
    if available > status.int_at("readyReplicas") {
        let detail = format!("cannot be greater than {ready}");
        errors.invalid(&STATUS.child("availableReplicas"), available, detail);
    }
}

/// A number, or a percentage of the replicas.
pub fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match value.as_str() {
        Some(text) => errors.check(path, text, names::percent(text)),
        None => errors.not_negative(path, value.as_i64().unwrap_or_default()),
    }
}

/// The number, or that of a percentage; other text is 0.
pub fn int_or_percent_value(value: &Value) -> i64 {
    match value.as_str() {
        Some(text) if names::percent(text).is_empty() => text.trim_end_matches('%').parse().unwrap_or_default(),
        Some(_) => 0,
        None => value.as_i64().unwrap_or_default(),
    }
}

pub fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(text) = value.as_str().filter(|text| names::percent(text).is_empty())
        && int_or_percent_value(value) > 100
    {
        errors.invalid(path, text, "must not be greater than 100%");
    }
}
