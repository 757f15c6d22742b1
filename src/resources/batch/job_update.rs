//! What stays once a Job is there.

use super::job::SPEC;
use crate::api::value::equal;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use serde_json::Value;

const IMMUTABLE: &[&str] =
    &["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];

pub fn validate(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let before = old.at("spec");
    completions(spec, before, errors);
    errors.immutable(&SPEC.child("selector"), spec.at("selector"), before.at("selector"));
    template(spec.at("template"), old, errors);
    for field in IMMUTABLE {
        errors.immutable(&SPEC.child(field), spec.at(field), before.at(field));
    }
}

/// An Indexed Job grows and shrinks with its parallelism.
fn completions(spec: &Value, before: &Value, errors: &mut ErrorList) {
    let path = SPEC.child("completions");
    let (count, old) = (spec.at("completions"), before.at("completions"));
    if spec.str_at("completionMode") != "Indexed" {
        errors.immutable(&path, count, old);
    } else if !count.is_null() && count != old && count != spec.at("parallelism") {
        errors.invalid(&path, count.clone(), "can only be modified in tandem with spec.parallelism");
    }
}

/// Of a suspended Job whose pods are all gone, where they run and what they ask for may change.
fn template(template: &Value, old: &Value, errors: &mut ErrorList) {
    let (before, status) = (old.at("spec"), old.at("status"));
    let mut allowed = before.at("template").clone();
    let mut conditions = status.list_at("conditions").iter();
    let suspended = before.bool_at("suspend");
    let paused = conditions
        .any(|condition| condition.str_at("type") == "Suspended" && condition.str_at("status") == "True")
        || !status.has("startTime");
    if !(suspended && paused && status.int_at("active") == 0) {
        return immutable(&SPEC.child("template"), template, &allowed, errors);
    }
    let spec = template.at("spec");
    let pod = allowed.object_mut("spec");
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        pod.copy(field, spec);
    }
    node_affinity(pod, spec);
    for list in ["containers", "initContainers"] {
        let containers = spec.list_at(list);
        if pod.list_at(list).len() == containers.len() {
            for (old, new) in pod.items_mut(list).zip(containers) {
                if old.str_at("name") == new.str_at("name") {
                    old.copy("resources", new);
                }
            }
        }
    }
    immutable(&SPEC.child("template.spec"), spec, pod, errors);
}

fn node_affinity(allowed: &mut Value, spec: &Value) {
    match spec.get_set("affinity") {
        Some(affinity) => allowed.object_mut("affinity").copy("nodeAffinity", affinity),
        None => {
            let Some(affinity) = allowed.set_mut("affinity") else { return };
            affinity.clear("nodeAffinity");
            if affinity.entries().is_empty() {
                allowed.clear("affinity");
            }
        }
    }
}

fn immutable(path: &Path<'_>, new: &Value, allowed: &Value, errors: &mut ErrorList) {
    if !equal(new, allowed) {
        errors.invalid(path, new.clone(), "field is immutable");
    }
}
