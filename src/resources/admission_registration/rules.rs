//! Rules of webhooks and admission policies: which operations on which resources.

use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use serde_json::Value;
use std::collections::BTreeSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

pub fn default(holder: &mut Value, list: &str) {
    for rule in holder.items_mut(list) {
        rule.set_default("scope", "*");
    }
}

fn alone(rule: &Value, field: &str, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let list = rule.list_at(field);
    if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&path.child(field), rule.at(field).clone(), detail);
    }
}

/// One rule; a policy's may name objects, too.
pub fn validate(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("resourceNames");
    let mut known = BTreeSet::new();
    for (index, name) in rule.strs_at("resourceNames").enumerate() {
        errors.check(&list.index(index), name, names::path_segment(name));
        if !known.insert(name) {
            errors.duplicate(&list.index(index), name);
        }
    }
    if rule.list_at("operations").is_empty() {
        errors.required(&path.child("operations"), "");
    }
    alone(rule, "operations", "operations", path, errors);
    for (index, operation) in rule.strs_at("operations").enumerate() {
        errors.one_of(&path.child("operations").index(index), operation, OPERATIONS);
    }
    if rule.list_at("apiGroups").is_empty() {
        errors.required(&path.child("apiGroups"), "");
    }
    alone(rule, "apiGroups", "API groups", path, errors);
    if rule.list_at("apiVersions").is_empty() {
        errors.required(&path.child("apiVersions"), "");
    }
    alone(rule, "apiVersions", "API versions", path, errors);
    for (index, version) in rule.strs_at("apiVersions").enumerate() {
        if version.is_empty() {
            errors.required(&path.child("apiVersions").index(index), "");
        }
    }
    resources(rule, &path.child("resources"), errors);
    if let Some(scope) = rule.optional_str("scope") {
        errors.one_of(&path.child("scope"), scope, SCOPES);
    }
}

fn resources(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = rule.list_at("resources");
    if list.is_empty() {
        errors.required(path, "");
    }
    let (mut any_sub, mut any_resource) = (BTreeSet::new(), BTreeSet::new());
    let (mut single, mut plain) = (false, false);
    for (index, entry) in rule.strs_at("resources").enumerate() {
        let path = path.index(index);
        if entry.is_empty() {
            errors.required(&path, "");
            continue;
        }
        single |= entry == "*";
        let Some((resource, sub)) = entry.split_once('/') else {
            plain = entry != "*";
            continue;
        };
        if any_sub.contains(resource) {
            errors.invalid(&path, entry, format!("if '{resource}/*' is present, must not specify {entry}"));
        }
        if any_resource.contains(sub) {
            errors.invalid(&path, entry, format!("if '*/{sub}' is present, must not specify {entry}"));
        }
        if sub == "*" {
            any_sub.insert(resource);
        }
        if resource == "*" {
            any_resource.insert(sub);
        }
    }
    let shown = || rule.at("resources").clone();
    if list.len() > 1 && list.iter().any(|entry| entry == "*/*") {
        errors.invalid(path, shown(), "if '*/*' is present, must not specify other resources");
    }
    if single && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, shown(), detail);
    }
}
