//! What an admission policy or webhook applies to beyond its rules: selectors and conditions.

use super::{expressions, rules};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::cel::{Environment, Type};
use crate::resources::labels;
use serde_json::Value;
use std::collections::BTreeSet;

const CONDITIONS_LIMIT: usize = 64;

/// Of `matchConstraints` and `matchResources`.
pub fn default(resources: &mut Value) {
    resources.set_default("matchPolicy", "Equivalent");
    resources.object_mut("namespaceSelector");
    resources.object_mut("objectSelector");
    rules::default(resources, "resourceRules");
    rules::default(resources, "excludeResourceRules");
}

pub fn resources(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["namespaceSelector", "objectSelector"] {
        match resources.get_set(field) {
            None => errors.required(&path.child(field), ""),
            Some(selector) => labels::selector(selector, false, &path.child(field), errors),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(field);
        for (index, rule) in resources.list_at(field).iter().enumerate() {
            rules::validate(rule, &list.index(index), errors);
        }
    }
    match resources.optional_str("matchPolicy") {
        None => errors.required(&path.child("matchPolicy"), ""),
        Some(policy) => errors.one_of(&path.child("matchPolicy"), policy, &["Equivalent", "Exact"]),
    }
}

/// `matchConditions`: named expressions.
pub fn conditions(list: &[Value], environment: &Environment, path: &Path<'_>, errors: &mut ErrorList) {
    if list.len() > CONDITIONS_LIMIT {
        errors.too_many(path, list.len(), CONDITIONS_LIMIT as i64);
    }
    let mut known = BTreeSet::new();
    for (index, condition) in list.iter().enumerate() {
        let path = path.index(index);
        if condition.str_at("expression").trim().is_empty() {
            errors.required(&path.child("expression"), "");
        } else {
            let expression = condition.str_at("expression").trim();
            expressions::check(expression, environment, &[Type::Bool], &path.child("expression"), errors);
        }
        let name = condition.str_at("name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
            continue;
        }
        errors.check(&path.child("name"), name, names::qualified_name(name));
        if !known.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}

/// `paramKind` of a policy.
pub fn parameter_kind(kind: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let api_version = kind.str_at("apiVersion");
    if api_version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
    } else {
        let (group, version) = crate::api::gvk::split_api_version(api_version);
        if !group.is_empty() {
            errors.check(&path.child("apiVersion"), api_version, names::dns_subdomain(group));
        }
        errors.check(&path.child("apiVersion"), api_version, names::dns_1035_label(version));
    }
    match kind.str_at("kind") {
        "" => errors.required(&path.child("kind"), ""),
        kind => {
            let messages = names::dns_1035_label(&kind.to_lowercase());
            if !messages.is_empty() {
                let detail = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
                errors.invalid(&path.child("kind"), kind, detail);
            }
        }
    }
}

/// `paramRef` of a binding.
pub fn parameter_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, selector) = (reference.str_at("name"), reference.get_set("selector"));
    match (name, selector) {
        ("", None) => errors.required(path, "one of name or selector must be specified"),
        ("", Some(selector)) => labels::selector(selector, false, &path.child("selector"), errors),
        (name, None) => errors.check(&path.child("name"), name, names::path_segment(name)),
        (_, Some(_)) => {
            for field in ["name", "selector"] {
                errors.forbidden(&path.child(field), "name and selector are mutually exclusive");
            }
        }
    }
    match reference.optional_str("parameterNotFoundAction") {
        None => errors.required(&path.child("parameterNotFoundAction"), ""),
        Some(action) => errors.one_of(&path.child("parameterNotFoundAction"), action, &["Allow", "Deny"]),
    }
}
