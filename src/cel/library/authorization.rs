//! Functions of the authorizer.

use super::no_such_overload;
use crate::cel::authorizer::{Authorization, Question};
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use crate::cel::{Authorizer, Failure};
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) const ROWS: &[Row] = &[
    (".path", "authorizer_path", "Authorizer, string -> PathCheck", path, Cost::One),
    (".group", "authorizer_group", "Authorizer, string -> GroupCheck", group, Cost::One),
    (
        ".serviceAccount",
        "authorizer_serviceaccount",
        "Authorizer, string, string -> Authorizer",
        service_account,
        Cost::One,
    ),
    (".resource", "groupcheck_resource", "GroupCheck, string -> ResourceCheck", resource, Cost::One),
    (".subresource", "resourcecheck_subresource", "ResourceCheck, string -> ResourceCheck", subresource, Cost::One),
    (".namespace", "resourcecheck_namespace", "ResourceCheck, string -> ResourceCheck", namespace, Cost::One),
    (".name", "resourcecheck_name", "ResourceCheck, string -> ResourceCheck", name, Cost::One),
    (".fieldSelector", "authorizer_fieldselector", "ResourceCheck, string -> ResourceCheck", field_selector, Cost::One),
    (".labelSelector", "authorizer_labelselector", "ResourceCheck, string -> ResourceCheck", label_selector, Cost::One),
    (".check", "pathcheck_check", "PathCheck, string -> Decision", check, Cost::Check),
    (".check", "resourcecheck_check", "ResourceCheck, string -> Decision", check, Cost::Check),
    (".allowed", "decision_allowed", "Decision -> bool", allowed, Cost::One),
    (".reason", "decision_reason", "Decision -> string", reason, Cost::One),
    (".errored", "decision_errored", "Decision -> bool", errored, Cost::One),
    (".error", "decision_error", "Decision -> string", error, Cost::One),
];

fn authorization<'c, 'a>(call: &'c Call<'a, '_>) -> Result<&'c Authorization<'a>, Failure> {
    match &call.arguments[0] {
        Value::Authorization(authorization) => Ok(authorization),
        _ => Err(no_such_overload()),
    }
}

fn made(authorization: Authorization<'_>) -> Outcome<'_> {
    Ok(Value::Authorization(Arc::new(authorization)))
}

fn from_authorizer<'a>(call: &Call<'a, '_>) -> Result<(&'a dyn Authorizer, Question), Failure> {
    match authorization(call)? {
        Authorization::Authorizer(authorizer, question) => Ok((*authorizer, question.clone())),
        _ => Err(no_such_overload()),
    }
}

fn path<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (authorizer, question) = from_authorizer(call)?;
    let path = call.text(1)?.to_owned();
    if path.is_empty() {
        return Err(Failure::new("path must not be empty"));
    }
    made(Authorization::Path(authorizer, Question { path: Some(path), ..question }))
}

fn group<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (authorizer, question) = from_authorizer(call)?;
    made(Authorization::Group(authorizer, Question { group: call.text(1)?.to_owned(), ..question }))
}

fn service_account<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (authorizer, question) = from_authorizer(call)?;
    let (namespace, name) = (call.text(1)?.to_owned(), call.text(2)?.to_owned());
    if !crate::api::names::dns_subdomain(&name).is_empty() {
        return Err(Failure::new("Invalid service account name"));
    }
    if !crate::api::names::dns_label(&namespace).is_empty() {
        return Err(Failure::new("Invalid service account namespace"));
    }
    made(Authorization::Authorizer(authorizer, Question { service_account: Some((namespace, name)), ..question }))
}

fn resource<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let Authorization::Group(authorizer, question) = authorization(call)? else { return Err(no_such_overload()) };
    let resource = call.text(1)?.to_owned();
    if resource.is_empty() {
        return Err(Failure::new("resource must not be empty"));
    }
    made(Authorization::Resource(*authorizer, Question { resource, ..question.clone() }))
}

/// The check with one thing more said about the resource.
fn narrowed<'a>(call: &Call<'a, '_>, narrow: fn(&mut Question, String)) -> Outcome<'a> {
    let Authorization::Resource(authorizer, question) = authorization(call)? else { return Err(no_such_overload()) };
    let mut question = question.clone();
    narrow(&mut question, call.text(1)?.to_owned());
    made(Authorization::Resource(*authorizer, question))
}

fn subresource<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    narrowed(call, |question, text| question.subresource = text)
}

fn namespace<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    narrowed(call, |question, text| question.namespace = text)
}

fn name<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    narrowed(call, |question, text| question.name = text)
}

fn field_selector<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    narrowed(call, |question, text| question.field_selector = text)
}

fn label_selector<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    narrowed(call, |question, text| question.label_selector = text)
}

fn check<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    made(authorization(call)?.check(call.text(1)?)?)
}

fn decision<'a>(call: &Call<'a, '_>, part: fn(&crate::cel::Decision) -> Value<'static>) -> Outcome<'a> {
    match authorization(call)? {
        Authorization::Decision(decision) => Ok(part(decision)),
        _ => Err(no_such_overload()),
    }
}

fn allowed<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    decision(call, |decision| Value::Bool(decision.allowed))
}

fn reason<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    decision(call, |decision| decision.reason.as_str().into())
}

fn errored<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    decision(call, |decision| Value::Bool(decision.error.is_some()))
}

fn error<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    decision(call, |decision| decision.error.as_deref().unwrap_or_default().into())
}
