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

/// Only what is created, updated or connected to can be changed on its way.
pub fn writes_only(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
    let path = path.child("resourceRules.operations");
    for operation in resources.list_at("resourceRules").iter().flat_map(|rule| rule.strs_at("operations")) {
        errors.one_of(&path, operation, OPERATIONS);
    }
}

pub fn resources(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match resources.optional_str("matchPolicy") {
        None => errors.required(&path.child("matchPolicy"), ""),
        Some(policy) => errors.one_of(&path.child("matchPolicy"), policy, &["Equivalent", "Exact"]),
    }
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
        group_version(api_version, &path.child("apiVersion"), errors);
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

fn group_version(api_version: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let parts: Vec<&str> = api_version.split('/').collect();
    let (group, version) = match parts.as_slice() {
        ["", ""] => ("", ""),
        [version] => ("", *version),
        [group, version] => (*group, *version),
        _ => {
            let detail = format!("unexpected GroupVersion string: {api_version}");
            return errors.invalid(path, api_version, detail);
        }
    };
    let mut joined = |shown: &str, messages: names::Messages| {
        if !messages.is_empty() {
            errors.invalid(path, shown, messages.join(","));
        }
    };
    if !group.is_empty() {
        joined(group, names::dns_subdomain(group));
    }
    if version.is_empty() {
        errors.invalid(path, api_version, "version must be specified");
    } else {
        joined(version, names::dns_1035_label(version));
    }
}

/// `paramRef` of a binding.
pub fn parameter_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, selector) = (reference.str_at("name"), reference.get_set("selector"));
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    errors.check(&path.child("name"), name, names::path_segment(name));
    if !name.is_empty() && selector.is_some() {
        errors.forbidden(&path.child("name"), EXCLUSIVE);
    }
    if let Some(selector) = selector {
        labels::selector(selector, false, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), EXCLUSIVE);
        }
    } else if name.is_empty() {
        errors.required(path, "one of name or selector must be specified");
    }
    match reference.str_at("parameterNotFoundAction") {
        "" => errors.required(&path.child("parameterNotFoundAction"), ""),
        action => errors.one_of(&path.child("parameterNotFoundAction"), action, &["Deny", "Allow"]),
    }
}
