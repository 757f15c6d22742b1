//! SubjectAccessReview and its sisters: may somebody do something.

use super::{Review, answer, refused};
use crate::api::selector::{FieldSelector, LabelSelector};
use crate::api::{Fields, GroupVersionKind, Status, UserInfo};
use crate::apiserver::authz::{self, Attributes, Decision, ResourceAttributes};
use crate::apiserver::respond::Reply;
use crate::apiserver::verbs::Call;
use async_trait::async_trait;
use serde_json::{Value, json};

/// Who is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Requester,
    Named,
    /// And only in the namespace of the review.
    NamedHere,
}

pub struct AccessReview {
    pub subject: Subject,
}

#[async_trait]
impl Review for AccessReview {
    async fn review(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (state, row, requester) = (call.state, call.row.clone(), call.user);
        let namespace = call.info.namespace.clone();
        let kind = call.kind();
        let mut posted = call.posted(&kind).await?;
        if self.subject == Subject::NamedHere
            && let Err(status) = crate::apiserver::verbs::write::check_namespace(&row, &mut posted.object, &namespace)
        {
            return Ok(refused(&status, &posted));
        }
        let errors = row.strategy.validate(&posted.object);
        if !errors.is_empty() {
            // Kubernetes names no kind here.
            let nameless = GroupVersionKind { kind: String::new(), ..kind };
            return Ok(refused(&Status::invalid(&nameless, "", &errors), &posted));
        }
        let spec = &posted.object["spec"];
        let user = if self.subject == Subject::Requester { requester.clone() } else { named(spec) };
        let resource = spec.get("resourceAttributes").filter(|resource| !resource.is_null());
        let (selector, problems) = resource.map(selectors).unwrap_or_default();
        let attributes = match resource {
            Some(resource) => {
                let text = |field: &str| resource[field].as_str().unwrap_or_default();
                Attributes {
                    user: &user,
                    verb: text("verb"),
                    resource: Some(ResourceAttributes {
                        group: text("group"),
                        version: if text("version").is_empty() { "*" } else { text("version") },
                        resource: text("resource"),
                        subresource: text("subresource"),
                        namespace: text("namespace"),
                        name: text("name"),
                        field_selector: &selector,
                    }),
                    path: "",
                }
            }
            None => {
                let text = |field: &str| spec["nonResourceAttributes"][field].as_str().unwrap_or_default();
                Attributes { user: &user, verb: text("verb"), resource: None, path: text("path") }
            }
        };
        let mut status = json!({});
        let reason = match authz::decide(&state.authorizers, &attributes).await {
            Decision::Allow(reason) => {
                status["allowed"] = true.into();
                reason
            }
            Decision::Deny(reason) => {
                status["allowed"] = false.into();
                status["denied"] = true.into();
                reason
            }
            Decision::NoOpinion(reason) => {
                status["allowed"] = false.into();
                reason
            }
        };
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        if !problems.is_empty() {
            status["evaluationError"] = problems.join("; ").into();
        }
        answer(&row, posted, status)
    }
}

fn named(spec: &Value) -> UserInfo {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    UserInfo {
        name: text("user"),
        uid: text("uid"),
        groups: texts(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.to_lowercase(), texts(values)))
            .collect(),
    }
}

/// The field selector as a request's query would say it, and what of both selectors is not looked at: an
/// authorizer that sees less asks for more.
fn selectors(resource: &Value) -> (String, Vec<String>) {
    let fields = terms(&resource["fieldSelector"], field_term, |raw| FieldSelector::parse(raw).is_ok());
    let labels = terms(&resource["labelSelector"], label_term, |raw| LabelSelector::parse(raw).is_ok());
    let mut problems = Vec::new();
    for (name, (terms, broken)) in [("fieldSelector", &fields), ("labelSelector", &labels)] {
        if *broken {
            let partially = if terms.is_empty() { "" } else { "partially " };
            problems.push(format!("spec.resourceAttributes.{name} {partially}ignored due to parse error"));
        }
    }
    (fields.0.join(","), problems)
}

/// What is understood of a selector, and whether something is not.
fn terms(selector: &Value, term: fn(&Value) -> Option<String>, is_good: fn(&str) -> bool) -> (Vec<String>, bool) {
    let requirements = selector.list_at("requirements");
    let raw = selector.str_at("rawSelector");
    if requirements.is_empty() && !raw.is_empty() {
        return if is_good(raw) { (vec![raw.to_owned()], false) } else { (Vec::new(), true) };
    }
    let understood: Vec<String> = requirements.iter().filter_map(term).collect();
    let broken = understood.len() < requirements.len();
    (understood, broken)
}

fn field_term(requirement: &Value) -> Option<String> {
    let operator = match requirement.str_at("operator") {
        "In" => "=",
        "NotIn" => "!=",
        _ => return None,
    };
    match requirement.list_at("values") {
        [value] => Some(format!("{}{operator}{}", requirement.str_at("key"), value.as_str()?)),
        _ => None,
    }
}

fn label_term(requirement: &Value) -> Option<String> {
    let key = requirement.str_at("key");
    let values: Vec<&str> = requirement.strs_at("values").collect();
    match requirement.str_at("operator") {
        "In" => Some(format!("{key} in ({})", values.join(","))),
        "NotIn" => Some(format!("{key} notin ({})", values.join(","))),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}
