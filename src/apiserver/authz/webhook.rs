//! Another server decides: it is asked with a SubjectAccessReview
//! (`--authorization-webhook-config-file`), and its answers are remembered for a while.

use super::{Attributes, Authorizer, Decision};
use crate::api::Fields;
use crate::apiserver::webhook::{Answers, Client, Target};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Webhook {
    client: Arc<Client>,
    target: Target,
    /// `v1` or `v1beta1`.
    version: String,
    /// For how long a yes and a no are remembered.
    remember: (Duration, Duration),
    answers: Answers<String, Decision>,
}

impl Webhook {
    pub fn new(client: Arc<Client>, target: Target, version: &str, remember: (Duration, Duration)) -> Self {
        Self { client, target, version: version.to_owned(), remember, answers: Answers::default() }
    }

    fn spec(&self, attributes: &Attributes<'_>) -> Value {
        let user = attributes.user;
        let mut spec = json!({});
        if !user.name.is_empty() {
            spec["user"] = json!(user.name);
        }
        // The beta's name is singular.
        let groups = if self.version == "v1beta1" { "group" } else { "groups" };
        if !user.groups.is_empty() {
            spec[groups] = json!(user.groups);
        }
        if !user.extra.is_empty() {
            spec["extra"] = json!(user.extra);
        }
        if !user.uid.is_empty() {
            spec["uid"] = json!(user.uid);
        }
        let Some(resource) = &attributes.resource else {
            spec["nonResourceAttributes"] = json!({ "path": attributes.path, "verb": attributes.verb });
            return spec;
        };
        let mut asked = json!({ "verb": attributes.verb });
        for (field, text) in [
            ("namespace", resource.namespace),
            ("group", resource.group),
            ("version", resource.version),
            ("resource", resource.resource),
            ("subresource", resource.subresource),
            ("name", resource.name),
        ] {
            if !text.is_empty() {
                asked[field] = json!(text);
            }
        }
        if !resource.field_selector.is_empty() {
            asked["fieldSelector"] = json!({ "rawSelector": resource.field_selector });
        }
        spec["resourceAttributes"] = asked;
        spec
    }
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = self.spec(attributes);
        let key = spec.to_string();
        if let Some(decision) = self.answers.get(&key) {
            return decision;
        }
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{}", self.version),
            "metadata": { "creationTimestamp": null },
            "spec": spec,
            "status": { "allowed": false },
        });
        let reply = match self.client.post(&self.target, TIMEOUT, &review).await {
            Ok(reply) => reply,
            Err(error) => {
                tracing::warn!(error, "the authorization webhook cannot be asked");
                return Decision::NoOpinion(String::new());
            }
        };
        let status = reply.at("status");
        let reason = status.str_at("reason").to_owned();
        let (decision, remember) = match (status.bool_at("allowed"), status.bool_at("denied")) {
            (true, false) => (Decision::Allow(reason), self.remember.0),
            (false, true) => (Decision::Deny(reason), self.remember.1),
            (false, false) => (Decision::NoOpinion(reason), self.remember.1),
            (true, true) => {
                tracing::warn!("the authorization webhook returned both allow and deny response");
                return Decision::Deny(
                    "webhook subject access review returned both allow and deny response".to_owned(),
                );
            }
        };
        self.answers.put(key, decision.clone(), remember);
        decision
    }
}
