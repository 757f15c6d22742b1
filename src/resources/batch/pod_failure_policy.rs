//! The policies of a Job that say what a failed pod, or a succeeded index, means.

use crate::api::field::go_list;
use crate::api::names;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];
const RULES_LIMIT: usize = 20;
const CODES_LIMIT: usize = 255;
const CONDITIONS_LIMIT: usize = 20;
const INDEXES_LIMIT: usize = 64 * 1024;

fn required_of(path: &Path<'_>, known: &[&str], errors: &mut ErrorList) {
    errors.required(path, format!("valid values: {}", go_list(known.iter().copied())));
}

/// Of the spec of a Job, also of one that a CronJob will make.
pub fn default(spec: &mut Value) {
    let Some(policy) = spec.set_mut("podFailurePolicy") else { return };
    for rule in policy.items_mut("rules") {
        for condition in rule.items_mut("onPodConditions") {
            condition.set_default_str("status", "True");
        }
    }
}

/// `spec.podFailurePolicy`; `path` is the spec's.
pub fn validate(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(policy) = spec.get_set("podFailurePolicy") else { return };
    let pod = spec.at("template").at("spec");
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod.list_at(list))
        .map(|container| container.str_at("name"))
        .collect();
    let list = path.child("podFailurePolicy.rules");
    let rules = policy.list_at("rules");
    if rules.len() > RULES_LIMIT {
        errors.too_many(&list, rules.len(), RULES_LIMIT as i64);
    }
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, spec.has("backoffLimitPerIndex"), &containers, &list.index(index), errors);
    }
}

fn rule(rule: &Value, per_index: bool, containers: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    match rule.str_at("action") {
        "" => required_of(&path.child("action"), ACTIONS, errors),
        "FailIndex" if !per_index => {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&path.child("action"), "FailIndex", detail);
        }
        action => errors.one_of(&path.child("action"), action, ACTIONS),
    }
    if let Some(codes) = rule.get_set("onExitCodes") {
        exit_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    let conditions = rule.list_at("onPodConditions");
    let at_conditions = path.child("onPodConditions");
    if !conditions.is_empty() {
        if conditions.len() > CONDITIONS_LIMIT {
            errors.too_many(&at_conditions, conditions.len(), CONDITIONS_LIMIT as i64);
        }
        for (index, condition) in conditions.iter().enumerate() {
            let path = at_conditions.index(index);
            let kind = condition.str_at("type");
            errors.check(&path.child("type"), kind, names::qualified_name(kind));
            match condition.str_at("status") {
                "" => required_of(&path.child("status"), STATUSES, errors),
                status => errors.one_of(&path.child("status"), status, STATUSES),
            }
        }
    }
    match (rule.has("onExitCodes"), conditions.is_empty()) {
        (true, false) => errors.push(FieldError::invalid_omitted(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (false, true) => errors
            .push(FieldError::invalid_omitted(path, "specifying one of OnExitCodes and OnPodConditions is required")),
        _ => {}
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let operator = codes.str_at("operator");
    match operator {
        "" => required_of(&path.child("operator"), OPERATORS, errors),
        operator => errors.one_of(&path.child("operator"), operator, OPERATORS),
    }
    if let Some(name) = codes.optional_str("containerName")
        && !containers.contains(name)
    {
        errors.invalid(
            &path.child("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let list = path.child("values");
    let values = codes.list_at("values");
    if values.is_empty() {
        errors.invalid(&list, codes.at("values").clone(), "at least one value is required");
    } else if values.len() > CODES_LIMIT {
        errors.too_many(&list, values.len(), CODES_LIMIT as i64);
    }
    let numbers: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap_or_default()).collect();
    let mut known = BTreeSet::new();
    let mut ordered = true;
    for (index, number) in numbers.iter().enumerate() {
        let path = list.index(index);
        if operator == "In" && *number == 0 {
            errors.invalid(&path, *number, "must not be 0 for the In operator");
        }
        if !known.insert(*number) {
            errors.duplicate(&path, *number);
        }
        ordered &= index == 0 || numbers[index - 1] <= *number;
    }
    if !ordered {
        errors.invalid(&list, codes.at("values").clone(), "must be ordered");
    }
}

/// `spec.successPolicy` of an Indexed Job.
pub fn success(policy: &Value, completions: i64, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("rules");
    let rules = policy.list_at("rules");
    if rules.is_empty() {
        errors.required(&list, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > RULES_LIMIT {
        errors.too_many(&list, rules.len(), RULES_LIMIT as i64);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = list.index(index);
        let indexes = rule.optional_str("succeededIndexes");
        let count = rule.optional_int("succeededCount");
        if indexes.is_none() && count.is_none() {
            errors.required(&path, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let at_indexes = path.child("succeededIndexes");
        let mut total = 0;
        if let Some(text) = indexes {
            if text.len() > INDEXES_LIMIT {
                errors.too_long(&at_indexes, INDEXES_LIMIT as i64);
            }
            match super::indexes::count(text, completions) {
                Ok(number) => total = number,
                Err(error) => errors.invalid(&at_indexes, text, format!("error parsing succeededIndexes: {error}")),
            }
        }
        let Some(count) = count else { continue };
        let at_count = path.child("succeededCount");
        errors.not_negative(&at_count, count);
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&at_count, count, detail);
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&at_count, count, detail);
        }
    }
}
