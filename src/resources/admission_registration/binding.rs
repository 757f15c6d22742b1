//! What both kinds of policy binding share.

use super::matching;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

const SPEC: Path<'static> = Path::new("spec");
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const DENY_AND_WARN: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";

/// `actions`: the binding says what a failed validation leads to.
pub fn resource(kind: &'static str, plural: &'static str, actions: bool) -> Resource {
    Resource {
        categories: vec!["api-extensions".into()],
        namespaced: false,
        generation: true,
        columns: Column::strings(&["PolicyName", "ParamRef", "Age"]),
        strategy: Arc::new(Binding { actions }),
        ..Resource::new("admissionregistration.k8s.io", "v1", kind, plural)
    }
}

struct Binding {
    actions: bool,
}

impl Strategy for Binding {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        if let Some(resources) = object.object_mut("spec").set_mut("matchResources") {
            matching::default(resources);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        match spec.str_at("policyName") {
            "" => errors.required(&SPEC.child("policyName"), ""),
            name => errors.check(&SPEC.child("policyName"), name, names::dns_subdomain(name)),
        }
        if let Some(reference) = spec.get_set("paramRef") {
            matching::parameter_reference(reference, &SPEC.child("paramRef"), &mut errors);
        }
        if let Some(resources) = spec.get_set("matchResources") {
            matching::resources(resources, &SPEC.child("matchResources"), &mut errors);
            if !self.actions {
                matching::writes_only(resources, &SPEC.child("matchResources"), &mut errors);
            }
        }
        if self.actions {
            actions(spec, &SPEC.child("validationActions"), &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let reference = spec.get_set("paramRef").map(|reference| match reference.str_at("namespace") {
            "" => format!("*/{}", reference.str_at("name")),
            namespace => format!("{namespace}/{}", reference.str_at("name")),
        });
        Some(vec![
            cells::name(object),
            spec.str_at("policyName").into(),
            reference.unwrap_or_else(|| "<unset>".to_owned()).into(),
            cells::age(object, now),
        ])
    }
}

fn actions(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let actions: Vec<&str> = spec.strs_at("validationActions").collect();
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
    for (index, action) in actions.iter().enumerate() {
        errors.one_of(&path.index(index), action, ACTIONS);
        if actions[..index].contains(action) {
            errors.duplicate(&path.index(index), *action);
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        errors.invalid(path, spec.at("validationActions").clone(), DENY_AND_WARN);
    }
}
