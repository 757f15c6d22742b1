//! MutatingAdmissionPolicy: changes in CEL that are made to objects.

use super::expressions;
use super::policy::{self, SPEC};
use crate::api::{ErrorList, Fields, Report};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        categories: vec!["api-extensions".into()],
        namespaced: false,
        generation: true,
        columns: vec![Column::name(), Column::integer("Mutations"), Column::string("ParamKind"), Column::string("Age")],
        strategy: Arc::new(MutatingAdmissionPolicy),
        ..Resource::new("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
    }
}

struct MutatingAdmissionPolicy;

/// Patch type and the field that holds it.
const PATCHES: &[(&str, &str)] = &[("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

impl Strategy for MutatingAdmissionPolicy {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        policy::default(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        let environment = expressions::with_patches(policy::validate(spec, true, &mut errors));
        let list = SPEC.child("mutations");
        if spec.list_at("mutations").is_empty() {
            errors.required(&list, "mutations must contain at least one item");
        }
        for (index, mutation) in spec.list_at("mutations").iter().enumerate() {
            let path = list.index(index);
            let kind = mutation.str_at("patchType");
            match PATCHES.iter().find(|(known, _)| *known == kind) {
                None if kind.is_empty() => errors.required(&path.child("patchType"), ""),
                None => errors.not_supported(&path.child("patchType"), kind, &["ApplyConfiguration", "JSONPatch"]),
                Some((_, field)) => {
                    let at_patch = path.child(field);
                    match mutation.get_set(field) {
                        None => errors.required(&at_patch, format!("must be specified when patchType is {kind}")),
                        Some(patch) => {
                            policy::expression(patch, "", &at_patch, &mut errors);
                            let result = match kind {
                                "JSONPatch" => expressions::list_of_patches(),
                                _ => expressions::applied_object(),
                            };
                            let expression = patch.str_at("expression").trim();
                            let at = at_patch.child("expression");
                            expressions::check(expression, &environment, &[result], &at, &mut errors);
                        }
                    }
                    for (_, other) in PATCHES.iter().filter(|(_, other)| other != field && mutation.has(other)) {
                        let detail = format!("must not be specified when patchType is {kind}");
                        errors.invalid(&path.child(other), format!("{{{other}}}"), detail);
                    }
                }
            }
        }
        match spec.str_at("reinvocationPolicy") {
            "" => errors.required(&SPEC.child("reinvocationPolicy"), ""),
            policy => errors.one_of(&SPEC.child("reinvocationPolicy"), policy, &["IfNeeded", "Never"]),
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let count = object.at("spec").list_at("mutations").len();
        let parameters = policy::parameter_cell(object);
        Some(vec![cells::name(object), count.into(), parameters.into(), cells::age(object, now)])
    }
}
