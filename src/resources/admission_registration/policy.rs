//! What both kinds of admission policy share: what they match, their parameters and variables.

use super::expressions::{self, Names};
use super::matching;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::cel::{self, Environment};
use serde_json::Value;
use std::collections::BTreeMap;

pub const SPEC: Path<'static> = Path::new("spec");

pub fn default(object: &mut Value) {
    let spec = object.object_mut("spec");
    spec.set_default("failurePolicy", "Fail");
    if let Some(constraints) = spec.set_mut("matchConstraints") {
        matching::default(constraints);
    }
}

/// Up to the variables. The environment is that of what follows, `variables` included. `mutates`: only
/// requests that write an object are matched.
pub fn validate(spec: &Value, mutates: bool, errors: &mut ErrorList) -> Environment {
    match spec.optional_str("failurePolicy") {
        None => errors.required(&SPEC.child("failurePolicy"), ""),
        Some(policy) => errors.one_of(&SPEC.child("failurePolicy"), policy, &["Fail", "Ignore"]),
    }
    if let Some(kind) = spec.get_set("paramKind") {
        matching::parameter_kind(kind, &SPEC.child("paramKind"), errors);
    }
    let path = SPEC.child("matchConstraints");
    match spec.get_set("matchConstraints") {
        None => errors.required(&path, ""),
        Some(constraints) => {
            matching::resources(constraints, &path, errors);
            if constraints.list_at("resourceRules").is_empty() {
                errors.required(&path.child("resourceRules"), "");
            }
            if mutates {
                matching::writes_only(constraints, &path, errors);
            }
        }
    }
    let names = Names { params: spec.get_set("paramKind").is_some(), authorizer: true, patches: false };
    let environment = expressions::environment(names);
    let path = SPEC.child("matchConditions");
    matching::conditions(spec.list_at("matchConditions"), &environment, &path, errors);
    let mut broken = BTreeMap::new();
    let variables = spec.list_at("variables");
    let environment = match variables {
        // Without variables nothing has that name.
        [] if !mutates => environment,
        _ => {
            let report = |index, _: &str, detail| drop(broken.insert(index, detail));
            expressions::with_variables(&environment, variables, report).0
        }
    };
    let list = SPEC.child("variables");
    for (index, variable) in spec.list_at("variables").iter().enumerate() {
        let path = list.index(index);
        let name = variable.str_at("name");
        if name.trim().is_empty() {
            errors.required(&path.child("name"), "name is not specified");
        } else if !names::c_identifier(name).is_empty() || cel::is_reserved(name) {
            errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
        }
        expression(variable, "expression is not specified", &path, errors);
        if let Some(detail) = broken.remove(&index) {
            expressions::refuse(variable.str_at("expression"), detail, &path.child("expression"), errors);
        }
    }
    environment
}

/// An expression that must be there.
pub fn expression(holder: &Value, otherwise: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if holder.str_at("expression").trim().is_empty() {
        errors.required(&path.child("expression"), otherwise);
    }
}

/// The cell of `paramKind`.
pub fn parameter_cell(object: &Value) -> String {
    match object.at("spec").get_set("paramKind") {
        Some(kind) => format!("{}/{}", kind.str_at("apiVersion"), kind.str_at("kind")),
        None => "<unset>".to_owned(),
    }
}
