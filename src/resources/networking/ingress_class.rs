//! IngressClass: who serves an Ingress.

use super::backend::typed_reference;
use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        generation: true,
        columns: Column::strings(&["Controller", "Parameters", "Age"]),
        strategy: Arc::new(IngressClass),
        ..Resource::new("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
    }
}

struct IngressClass;

const SPEC: Path<'static> = Path::new("spec");
const CONTROLLER_LIMIT: usize = 250;

impl Strategy for IngressClass {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        if let Some(parameters) = object.object_mut("spec").set_mut("parameters") {
            parameters.set_default("scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let controller = |object: &'_ Value| object.at("spec").at("controller").clone();
        errors.immutable_text(&SPEC.child("controller"), &controller(object), &controller(old));
        validate(object.at("spec"), &mut errors);
        errors
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let parameters = spec.get_set("parameters").map(|parameters| {
            let group = parameters.optional_str("apiGroup").map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", parameters.str_at("kind"), parameters.str_at("name"))
        });
        Some(vec![
            cells::name(object),
            spec.str_at("controller").into(),
            parameters.as_deref().unwrap_or(cells::NONE).into(),
            cells::age(object, now),
        ])
    }
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    let path = SPEC.child("controller");
    let controller = spec.str_at("controller");
    if controller.len() > CONTROLLER_LIMIT {
        errors.too_long(&path, CONTROLLER_LIMIT as i64);
    }
    if controller.is_empty() {
        errors.required(&path, "");
    } else {
        errors.check(&path, controller, names::domain_prefixed_path(controller));
    }
    let Some(parameters) = spec.get_set("parameters") else { return };
    let path = SPEC.child("parameters");
    typed_reference(parameters, &path, errors);
    let at_namespace = path.child("namespace");
    let namespace = parameters.optional_str("namespace");
    match (parameters.optional_str("scope"), namespace) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => errors.required(&at_namespace, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(name)) => errors.check(&at_namespace, name, names::dns_label(name)),
        (Some("Cluster"), Some(_)) => errors.forbidden(&at_namespace, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(scope), _) => errors.not_supported(&path.child("scope"), scope, &["Cluster", "Namespace"]),
    }
}
