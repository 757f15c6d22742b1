//! Certificate requests: approve those of nodes, sign what is approved, clean up what is old.
//! Source: `pkg/controller/certificates`.

mod request;

use super::context::{Context, Running, SignRequest, Signer};
use super::seen::modify;
use crate::api::time::seconds;
use crate::client::{DeleteOptions, Objects, kinds};
use crate::runtime::views::Node;
use crate::runtime::{Action, Condition, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use request::{
    Content, KUBELET_CLIENT, SIGNERS, SigningRequest, is_kubelet_client, kubelet_serving_node, names_only, parse,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "certificate-controller";

/// How long requests are kept: issued or denied, and undecided.
const DECIDED_FOR: i64 = 60 * 60;
const PENDING_FOR: i64 = 24 * 60 * 60;

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let requests = context.informers.of::<SigningRequest>();
    let nodes = context.informers.of::<Node>();
    requests.feed(&queue);
    // A serving request waits until its node says its addresses.
    nodes.on_change({
        let (queue, requests) = (queue.clone(), requests.clone());
        move |change| {
            if change.old().map(|node| &node.addresses) != change.new().map(|node| &node.addresses) {
                let open = requests.all().into_iter().filter(|request| !request.is_decided());
                open.for_each(|request| queue.add(request.key()));
            }
        }
    });
    let controller = Certificates {
        objects: context.objects(NAME),
        // Approving serving certificates is no right of the controller's role.
        approver: Objects::new(context.informers.client().clone(), "kube-controller-manager"),
        signer: context.config.signer.clone(),
        requests: requests.clone(),
        nodes: nodes.clone(),
    };
    Running::new(controller, queue, 1, [requests.until_synced(), nodes.until_synced()], move || requests.keys())
}

struct Certificates {
    objects: Objects,
    approver: Objects,
    signer: Option<Arc<dyn Signer>>,
    requests: Arc<Store<SigningRequest>>,
    nodes: Arc<Store<Node>>,
}

#[async_trait]
impl Controller for Certificates {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(request) = self.requests.get(key) else { return Ok(Action::Done) };
        let now = Timestamp::now();
        let left = time_left(&request, now);
        if left == Some(0) {
            return self.delete(&request).await;
        }
        if !request.is_decided() {
            self.approve(&request).await?;
        } else if request.has("Approved") && !request.has("Failed") && request.status.certificate.is_empty() {
            self.sign(&request).await?;
        }
        let next = left.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(next.map_or(Action::Done, |seconds| Action::After(Duration::from_secs(seconds))))
    }
}

/// Seconds until a request is deleted.
fn time_left(request: &SigningRequest, now: Timestamp) -> Option<i64> {
    let conditions = &request.status.conditions;
    let since = ["Approved", "Denied", "Failed"]
        .iter()
        .filter_map(|kind| Condition::find(conditions, kind))
        .filter_map(|condition| condition.last_update_time.or(condition.last_transition_time))
        .max();
    let approved_unsigned = request.has("Approved") && request.status.certificate.is_empty() && !request.has("Failed");
    let (from, keep) = match since {
        Some(since) if !approved_unsigned => (since, DECIDED_FOR),
        _ => (request.meta.creation_timestamp?, PENDING_FOR),
    };
    Some((keep - now.duration_since(from).as_secs()).max(0))
}

fn content(request: &SigningRequest) -> anyhow::Result<(Vec<u8>, Content)> {
    let pem = BASE64.decode(&request.spec.request)?;
    let content = parse(&pem)?;
    Ok((pem, content))
}

impl Certificates {
    async fn approve(&self, request: &SigningRequest) -> anyhow::Result<()> {
        let Ok((_, content)) = content(request) else { return Ok(()) };
        if request.spec.signer_name == KUBELET_CLIENT && is_kubelet_client(request, &content) {
            let recognizers = [
                (
                    "selfnodeclient",
                    request.spec.username == content.common_name,
                    "Auto approving self kubelet client certificate after SubjectAccessReview.",
                ),
                ("nodeclient", true, "Auto approving kubelet client certificate after SubjectAccessReview."),
            ];
            for (subresource, applies, message) in recognizers {
                if applies && self.may(request, subresource).await? {
                    return self.write_approval(&self.objects, request, message).await;
                }
            }
        } else if let Some(node) = kubelet_serving_node(request, &content)
            && self.nodes.find("", node).is_some_and(|node| names_only(&content, &node.addresses))
        {
            let message = "Auto approving kubelet serving certificate: it names the node's own addresses.";
            return self.write_approval(&self.approver, request, message).await;
        }
        Ok(())
    }

    /// Whether the requester may have such a certificate without a person's look.
    async fn may(&self, request: &SigningRequest, subresource: &str) -> anyhow::Result<bool> {
        let spec = &request.spec;
        let review = json!({ "spec": {
            "user": spec.username,
            "uid": spec.uid,
            "groups": spec.groups,
            "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": subresource, "version": "*",
            },
        } });
        let review = self.objects.create(&kinds::SUBJECT_ACCESS_REVIEWS, "", review).await?;
        Ok(review["status"]["allowed"] == true)
    }

    async fn write_approval(&self, objects: &Objects, request: &SigningRequest, message: &str) -> anyhow::Result<()> {
        self.add_condition(objects, request, "approval", "Approved", "AutoApproved", message).await
    }

    async fn add_condition(
        &self,
        objects: &Objects,
        request: &SigningRequest,
        subresource: &str,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> anyhow::Result<()> {
        let now = seconds(Timestamp::now());
        self.change(objects, request, subresource, |live| {
            let conditions = &mut live["status"]["conditions"];
            if !conditions.is_array() {
                *conditions = json!([]);
            }
            let Some(conditions) = conditions.as_array_mut() else { return false };
            if conditions.iter().any(|condition| condition["type"] == kind) {
                return false;
            }
            conditions.push(json!({
                "type": kind, "status": "True", "reason": reason, "message": message,
                "lastUpdateTime": now, "lastTransitionTime": now,
            }));
            true
        })
        .await
    }

    async fn change(
        &self,
        objects: &Objects,
        request: &SigningRequest,
        subresource: &str,
        change: impl FnMut(&mut Value) -> bool,
    ) -> anyhow::Result<()> {
        modify(objects, &kinds::CERTIFICATE_SIGNING_REQUESTS, &request.meta, subresource, change).await.map(drop)
    }

    async fn sign(&self, request: &SigningRequest) -> anyhow::Result<()> {
        let Some(signer) = self.signer.clone().filter(|_| SIGNERS.contains(&request.spec.signer_name.as_str())) else {
            return Ok(());
        };
        let (pem, content) = match content(request) {
            Ok(parsed) => parsed,
            Err(error) => return self.fail(request, &format!("{error:#}")).await,
        };
        let serving = kubelet_serving_node(request, &content).is_some();
        let usages = |allowed: &[&str]| request.spec.usages.iter().all(|usage| allowed.contains(&usage.as_str()));
        let valid = match request.spec.signer_name.as_str() {
            KUBELET_CLIENT => is_kubelet_client(request, &content),
            "kubernetes.io/kube-apiserver-client" => usages(&["digital signature", "key encipherment", "client auth"]),
            _ => serving,
        };
        if !valid {
            let message = format!("invalid usage or subject for a certificate of {}", request.spec.signer_name);
            return self.fail(request, &message).await;
        }
        let duration = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let asked = SignRequest {
            request: pem,
            signer_name: request.spec.signer_name.clone(),
            usages: request.spec.usages.clone(),
            duration: duration.map(Duration::from_secs),
        };
        let chain = BASE64.encode(signer.sign(&asked)?);
        self.change(&self.objects, request, "status", |live| {
            if live["status"]["certificate"].is_string() {
                return false;
            }
            live["status"]["certificate"] = chain.as_str().into();
            true
        })
        .await
    }

    async fn fail(&self, request: &SigningRequest, message: &str) -> anyhow::Result<()> {
        self.add_condition(&self.objects, request, "status", "Failed", "SignerValidationFailure", message).await
    }

    async fn delete(&self, request: &SigningRequest) -> anyhow::Result<Action> {
        let options = DeleteOptions::of(&request.meta.uid).resource_version(&request.meta.resource_version);
        let kind = &kinds::CERTIFICATE_SIGNING_REQUESTS;
        self.objects.delete_as_seen(kind, "", &request.meta.name, &options).await?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_kept_for_a_while() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let mut request = SigningRequest::default();
        request.meta.creation_timestamp = Some(at("2026-01-01T00:00:00Z"));
        assert_eq!(time_left(&request, at("2026-01-01T23:59:00Z")), Some(60));
        request.status.conditions.push(Condition {
            kind: "Approved".into(),
            last_update_time: Some(at("2026-01-01T00:00:00Z")),
            ..Condition::default()
        });
        assert_eq!(time_left(&request, at("2026-01-01T01:00:00Z")), Some(23 * 3600), "it is not issued yet");
        request.status.certificate = "x".into();
        assert_eq!(time_left(&request, at("2026-01-01T00:59:00Z")), Some(60));
        assert_eq!(time_left(&request, at("2026-01-01T02:00:00Z")), Some(0));
    }
}
