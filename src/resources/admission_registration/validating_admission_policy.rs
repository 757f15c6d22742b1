//! ValidatingAdmissionPolicy: rules in CEL that objects must keep.

use super::expressions;
use super::policy::{self, SPEC};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::cel::{Environment, Type};
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, conditions};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        categories: vec!["api-extensions".into()],
        namespaced: false,
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: vec![
            Column::name(),
            Column::integer("Validations"),
            Column::string("ParamKind"),
            Column::string("Age"),
        ],
        strategy: Arc::new(ValidatingAdmissionPolicy),
        ..Resource::new(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
        )
    }
}

struct ValidatingAdmissionPolicy;

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ONE_OF_TWO: &str = "validations or auditAnnotations must contain at least one item";
const ANNOTATIONS_LIMIT: usize = 20;

impl Strategy for ValidatingAdmissionPolicy {
    fn default(&self, object: &mut Value) {
        policy::default(object);
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        let environment = policy::validate(spec, false, &mut errors);
        let (validations, annotations) = (SPEC.child("validations"), SPEC.child("auditAnnotations"));
        if spec.list_at("validations").is_empty() && spec.list_at("auditAnnotations").is_empty() {
            errors.required(&validations, ONE_OF_TWO);
            errors.required(&annotations, ONE_OF_TWO);
            return errors;
        }
        for (index, validation) in spec.list_at("validations").iter().enumerate() {
            self::validation(validation, &environment, &validations.index(index), &mut errors);
        }
        audit_annotations(spec.list_at("auditAnnotations"), &environment, &annotations, &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let count = object.at("spec").list_at("validations").len();
        let parameters = policy::parameter_cell(object);
        Some(vec![cells::name(object), count.into(), parameters.into(), cells::age(object, now)])
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        keep_metadata(object, old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("status");
        conditions::validate(object.at("status").list_at("conditions"), &path.child("conditions"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn validation(validation: &Value, environment: &Environment, path: &Path<'_>, errors: &mut ErrorList) {
    policy::expression(validation, path, errors);
    let expression = validation.str_at("expression");
    expressions::check(expression, environment, &[Type::Bool], &path.child("expression"), errors);
    let message = validation.str_at("messageExpression");
    let silent = environment.clone().without_authorizer();
    expressions::check(message, &silent, &[Type::String], &path.child("messageExpression"), errors);
    let (message, at_message) = (validation.str_at("message"), path.child("message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at_message, message, "message must be non-empty if specified");
    } else if message.contains(['\n', '\r']) {
        errors.invalid(&at_message, message, "message must not contain line breaks");
    } else if message.is_empty() && validation.str_at("expression").trim().contains(['\n', '\r']) {
        errors.required(&at_message, "message must be specified if expression contains line breaks");
    }
    if let Some(reason) = validation.optional_str("reason") {
        errors.one_of(&path.child("reason"), reason, REASONS);
    }
}

fn audit_annotations(list: &[Value], environment: &Environment, path: &Path<'_>, errors: &mut ErrorList) {
    if list.len() > ANNOTATIONS_LIMIT {
        let detail = format!("must not have more than {ANNOTATIONS_LIMIT} auditAnnotations");
        errors.invalid(path, Value::from(list.to_vec()), detail);
    }
    for (index, annotation) in list.iter().enumerate() {
        let at = path.index(index);
        match annotation.str_at("key") {
            "" => errors.required(&at.child("key"), ""),
            key => {
                errors.check(&at.child("key"), key, names::qualified_name(key));
                if list[..index].iter().any(|other| other.str_at("key") == key) {
                    errors.duplicate(&at.child("key"), key);
                }
            }
        }
        if annotation.str_at("valueExpression").trim().is_empty() {
            errors.required(&at.child("valueExpression"), "");
        } else {
            let expression = annotation.str_at("valueExpression");
            let results = [Type::String, Type::Null];
            expressions::check(expression, environment, &results, &at.child("valueExpression"), errors);
        }
    }
}
