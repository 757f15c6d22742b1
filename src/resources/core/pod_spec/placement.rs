//! Tolerations and topology spread constraints.

use super::Options;
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::labels;
use serde_json::Value;
use std::collections::BTreeMap;

pub const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let at_operator = path.child("operator");
        let (key, operator) = (toleration.str_at("key"), toleration.str_at("operator"));
        let (value, effect) = (toleration.str_at("value"), toleration.str_at("effect"));
        if !key.is_empty() {
            errors.check(&path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at_operator, operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&at_operator, value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&at_operator, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => errors.not_supported(&at_operator, operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => errors.not_supported(&at_operator, operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            errors.one_of(&path.child("effect"), effect, TAINT_EFFECTS);
        }
    }
}

pub fn topology_spread(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    let constraints = spec.list_at("topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let (key, action) = (constraint.str_at("topologyKey"), constraint.str_at("whenUnsatisfiable"));
        errors.positive(&path.child("maxSkew"), constraint.int_at("maxSkew"));
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        errors.one_of(&path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        let repeated = constraints[index + 1..]
            .iter()
            .any(|other| other.str_at("topologyKey") == key && other.str_at("whenUnsatisfiable") == action);
        if repeated {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.optional_int("minDomains") {
            let path = path.child("minDomains");
            errors.positive(&path, domains);
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path, domains, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.optional_str(field) {
                errors.one_of(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        if options.keep_spread_keys {
            spread_keys_of_old(constraint, &path.child("matchLabelKeys"), errors);
        } else {
            match_label_keys(constraint, &path, errors);
        }
        if !options.keep_spread_selector {
            labels::selector(constraint.at("labelSelector"), false, &path.child("labelSelector"), errors);
        }
    }
}

/// Keys of a spread constraint, as before their values went into the selector.
fn spread_keys_of_old(constraint: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if constraint.list_at("matchLabelKeys").is_empty() {
        return;
    }
    let selector = constraint.at("labelSelector");
    if selector.is_null() {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (index, key) in constraint.strs_at("matchLabelKeys").enumerate() {
        let path = path.index(index);
        errors.check(&path, key, names::qualified_name(key));
        let selected = selector.map_at("matchLabels").contains_key(key)
            || selector.list_at("matchExpressions").iter().any(|expression| expression.str_at("key") == key);
        if selected {
            errors.invalid(&path, key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

/// Keys of a spread constraint.
pub fn match_label_keys(constraint: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let keys: Vec<&str> = constraint.strs_at("matchLabelKeys").collect();
    label_keys(&keys, &[], constraint.at("labelSelector"), path, errors);
}

/// Keys of a pod affinity term.
pub fn match_and_mismatch_keys(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let matching: Vec<&str> = term.strs_at("matchLabelKeys").collect();
    let mismatching: Vec<&str> = term.strs_at("mismatchLabelKeys").collect();
    label_keys(&matching, &mismatching, term.at("labelSelector"), path, errors);
}

/// The selector holds already what was made of the keys when the pod was created.
fn label_keys(matching: &[&str], mismatching: &[&str], selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at_matching = path.child("matchLabelKeys");
    for (keys, path) in [(matching, &at_matching), (mismatching, &path.child("mismatchLabelKeys"))] {
        if !keys.is_empty() && selector.is_null() {
            errors.forbidden(path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            errors.check(&path.index(index), key, names::qualified_name(key));
        }
    }
    if !selector.is_null() {
        let places: BTreeMap<&str, usize> = matching.iter().enumerate().map(|(index, key)| (*key, index)).collect();
        let mut selected: Vec<&str> = selector.map_at("matchLabels").keys().map(String::as_str).collect();
        for expression in selector.list_at("matchExpressions") {
            let key = expression.str_at("key");
            if let Some(index) = places.get(key).filter(|_| selected.contains(&key)) {
                errors.invalid(&path.index(*index), key, "exists in both matchLabelKeys and labelSelector");
            }
            selected.push(key);
        }
    }
    for (index, key) in matching.iter().enumerate() {
        if mismatching.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at_matching.index(index), *key, detail);
        }
    }
}
