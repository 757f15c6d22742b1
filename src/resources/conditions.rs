//! `metav1.Condition` lists in a status: `ValidateConditions` of apimachinery.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const REASON_LIMIT: usize = 1024;
const MESSAGE_LIMIT: usize = 32 * 1024;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

pub fn validate(conditions: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut known = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = condition.str_at("type");
        if !known.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        one(condition, &path, errors);
    }
}

fn one(condition: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = condition.str_at("type");
    errors.check(&path.child("type"), kind, names::qualified_name(kind));
    errors.one_of(&path.child("status"), condition.str_at("status"), &["False", "True", "Unknown"]);
    let generation = condition.int_at("observedGeneration");
    if generation < 0 {
        errors.invalid(&path.child("observedGeneration"), generation, "must be greater than or equal to zero");
    }
    if !condition.has("lastTransitionTime") {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    let reason = condition.str_at("reason");
    if reason.is_empty() {
        errors.required(&path.child("reason"), "");
    } else {
        if !is_reason(reason) {
            errors.invalid(&path.child("reason"), reason, REASON);
        }
        if reason.len() > REASON_LIMIT {
            errors.too_long(&path.child("reason"), REASON_LIMIT as i64);
        }
    }
    if condition.str_at("message").len() > MESSAGE_LIMIT {
        errors.too_long(&path.child("message"), MESSAGE_LIMIT as i64);
    }
}

fn is_reason(reason: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_,:".contains(c);
    let last = |c: char| c.is_ascii_alphanumeric() || c == '_';
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.chars().all(inner)
        && (reason.len() == 1 || reason.ends_with(last))
}
