//! ValidatingAdmissionPolicy: rules in CEL that objects must keep.

use super::expressions;
use super::policy::{self, SPEC};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, jsonpath, names};
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

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Bytes of an expression whose value goes to the audit log.
const VALUE_LIMIT: usize = 5 << 10;
const ONE_OF_TWO: &str = "validations or auditAnnotations must contain at least one item";
const ANNOTATIONS_LIMIT: usize = 20;

impl Strategy for ValidatingAdmissionPolicy {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

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
        audit_annotations(object, &environment, &annotations, &mut errors);
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
        expression_warnings(object, &path.child("typeChecking.expressionWarnings"), &mut errors);
        conditions::validate(object.at("status").list_at("conditions"), &path.child("conditions"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn expression_warnings(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let warnings = object.at("status").at("typeChecking").list_at("expressionWarnings");
    for (index, warning) in warnings.iter().enumerate() {
        let at = path.index(index);
        if warning.str_at("warning").is_empty() {
            errors.required(&at.child("warning"), "");
        }
        match warning.str_at("fieldRef").trim() {
            "" => errors.required(&at.child("fieldRef"), ""),
            field => {
                if let Err(error) = jsonpath::Expression::parse_relaxed(field) {
                    errors.invalid(&at.child("fieldRef"), field, format!("invalid JSONPath: {error}"));
                }
            }
        }
    }
}

fn validation(validation: &Value, environment: &Environment, path: &Path<'_>, errors: &mut ErrorList) {
    policy::expression(validation, "expression is not specified", path, errors);
    let expression = validation.str_at("expression");
    expressions::check(expression, environment, &[Type::Bool], &path.child("expression"), errors);
    let message = validation.str_at("messageExpression");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&path.child("messageExpression"), message, "must be non-empty if specified");
    }
    let silent = environment.clone().without_authorizer();
    expressions::check(message, &silent, &[Type::String], &path.child("messageExpression"), errors);
    let (message, at_message) = (validation.str_at("message"), path.child("message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at_message, message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at_message, message, "must not contain line breaks");
    }
    if let Some(reason) = validation.optional_str("reason") {
        errors.one_of(&path.child("reason"), reason, REASONS);
    }
}

fn audit_annotations(object: &Value, environment: &Environment, path: &Path<'_>, errors: &mut ErrorList) {
    let list = object.at("spec").list_at("auditAnnotations");
    let policy = object.at("metadata").str_at("name");
    if list.len() > ANNOTATIONS_LIMIT {
        let detail = format!("must not have more than {ANNOTATIONS_LIMIT} auditAnnotations");
        errors.invalid(path, Value::from(list.to_vec()), detail);
    }
    for (index, annotation) in list.iter().enumerate() {
        let at = path.index(index);
        let key = annotation.str_at("key");
        if policy.is_empty() {
            errors.invalid(&at.child("key"), key, "requires metadata.name be non-empty");
        } else {
            // As the audit log has it.
            let full = format!("{policy}/{key}");
            errors.check(&at.child("key"), &full, names::qualified_name(&full));
        }
        let expression = annotation.str_at("valueExpression");
        let at_value = at.child("valueExpression");
        match expression.trim() {
            "" => errors.required(&at_value, "valueExpression is not specified"),
            text if text.len() > VALUE_LIMIT => {
                errors.required(&at_value, format!("must not exceed {VALUE_LIMIT} bytes in length"));
            }
            _ => expressions::check(expression, environment, &[Type::String, Type::Null], &at_value, errors),
        }
        if list[..index].iter().any(|other| other.str_at("key") == key) {
            errors.duplicate(&at.child("key"), key);
        }
    }
}
