//! SubjectAccessReview and its sisters: may somebody do something.

use super::{Review, answer};
use crate::api::{ErrorList, FieldError, Path, Status, UserInfo};
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
        if self.subject == Subject::NamedHere {
            crate::apiserver::verbs::write::check_namespace(&row, &mut posted.object, &namespace)?;
        }
        let errors = validate(&posted.object, self.subject, &namespace);
        if !errors.is_empty() {
            return Err(Status::invalid(&kind, "", &errors));
        }
        let spec = &posted.object["spec"];
        let user = if self.subject == Subject::Requester { requester.clone() } else { named(spec) };
        let resource = spec.get("resourceAttributes").filter(|resource| !resource.is_null());
        let selector = resource.map(field_selector).unwrap_or_default();
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

/// As a request's query would say it.
fn field_selector(resource: &Value) -> String {
    let selector = &resource["fieldSelector"];
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms: Vec<String> = requirements
        .filter_map(|one| {
            let operator = match one["operator"].as_str()? {
                "In" => "=",
                "NotIn" => "!=",
                _ => return None,
            };
            match one["values"].as_array()?.as_slice() {
                [value] => Some(format!("{}{operator}{}", one["key"].as_str()?, value.as_str()?)),
                _ => None,
            }
        })
        .collect();
    terms.join(",")
}

fn validate(object: &Value, subject: Subject, namespace: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = &object["spec"];
    let root = Path::new("spec");
    let set = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    let (resource, path) = (set("resourceAttributes"), set("nonResourceAttributes"));
    if resource && path {
        let field = root.child("nonResourceAttributes");
        let value = spec["nonResourceAttributes"].clone();
        errors.push(FieldError::invalid(&field, value, "cannot be specified in combination with resourceAttributes"));
    }
    if !resource && !path {
        let field = root.child("resourceAttributes");
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&field, Value::Null, detail));
    }
    let nobody =
        spec["user"].as_str().unwrap_or_default().is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if subject != Subject::Requester && nobody {
        errors.push(FieldError::invalid(&root.child("user"), "", "at least one of user or group must be specified"));
    }
    if subject == Subject::NamedHere {
        let own = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        if resource && own != namespace {
            let resource = root.child("resourceAttributes");
            errors.push(FieldError::invalid(&resource.child("namespace"), own, "must match metadata.namespace"));
        }
        if path {
            let field = root.child("nonResourceAttributes");
            let value = spec["nonResourceAttributes"].clone();
            errors.push(FieldError::invalid(&field, value, "disallowed on this kind of request"));
        }
    }
    errors
}
