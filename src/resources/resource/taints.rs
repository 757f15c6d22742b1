//! What keeps a device from claims, and which claims do not mind.

use crate::api::{ErrorList, Fields, Path, Report, names};
use serde_json::Value;

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

pub fn taint(taint: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, value) = (taint.str_at("key"), taint.str_at("value"));
    errors.check(&path.child("key"), key, names::qualified_name(key));
    errors.check(&path.child("value"), value, names::label_value(value));
    match taint.str_at("effect") {
        "" => errors.required(&path.child("effect"), ""),
        effect => errors.one_of(&path.child("effect"), effect, EFFECTS),
    }
}

pub fn toleration(toleration: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, value) = (toleration.str_at("key"), toleration.str_at("value"));
    if !key.is_empty() {
        errors.check(&path.child("key"), key, names::qualified_name(key));
    }
    match toleration.str_at("operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid(&path.child("value"), value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => errors.check(&path.child("value"), value, names::label_value(value)),
        "" => errors.required(&path.child("operator"), ""),
        operator => errors.not_supported(&path.child("operator"), operator, &["Equal", "Exists"]),
    }
    match toleration.str_at("effect") {
        "" => {}
        effect => errors.one_of(&path.child("effect"), effect, EFFECTS),
    }
}
