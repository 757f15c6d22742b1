//! SelfSubjectRulesReview: what may I do in a namespace.

use super::{Review, refused};
use crate::api::Status;
use crate::apiserver::authz::{Rbac, node_identity};
use crate::apiserver::respond::Reply;
use crate::apiserver::subresources::object;
use crate::apiserver::verbs::Call;
use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct SelfSubjectRulesReview {
    pub rbac: Arc<Rbac>,
}

#[async_trait]
impl Review for SelfSubjectRulesReview {
    async fn review(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (row, user) = (call.row.clone(), call.user);
        let kind = call.kind();
        let mut posted = call.posted(&kind).await?;
        let namespace = posted.object["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Ok(refused(&Status::bad_request("no namespace on request"), &posted));
        }
        let resolved = self.rbac.rules_for(user, namespace);
        let mut errors = resolved.errors;
        // A node's rights depend on its pods and cannot be listed.
        let node = node_identity(user).is_some();
        if node {
            errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        let (mut resources, mut paths): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for rule in &resolved.rules {
            if !rule.resources.is_empty() {
                let mut value = json!({
                    "verbs": rule.verbs,
                    "apiGroups": rule.api_groups,
                    "resources": rule.resources,
                });
                if !rule.resource_names.is_empty() {
                    value["resourceNames"] = json!(rule.resource_names);
                }
                resources.push(value);
            }
            if !rule.non_resource_urls.is_empty() {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
            }
        }
        let mut status = json!({
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": node || !errors.is_empty(),
        });
        if !errors.is_empty() {
            status["evaluationError"] = errors.join(", ").into();
        }
        // The answer does not repeat the question.
        for (field, value) in [("metadata", json!({})), ("spec", json!({})), ("status", status)] {
            posted.object[field] = value;
        }
        Ok(object(StatusCode::CREATED, posted.output, &row, &posted.object, &posted.warnings))
    }
}
