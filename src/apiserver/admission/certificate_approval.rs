//! CertificateApproval: who approves a request may do so for its signer.

use super::{Attributes, Operation, Plugin, Sources, text};
use crate::api::field::go_quote;
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::authz::{self, Authorizer, Decision, ResourceAttributes};
use async_trait::async_trait;
use std::sync::Arc;

pub const GROUP: &str = "certificates.k8s.io";

pub struct CertificateApproval {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl CertificateApproval {
    pub fn new(sources: &Sources) -> Self {
        Self { authorizers: sources.authorizers.clone() }
    }
}

pub fn is_request(resource: &GroupVersionResource) -> bool {
    resource.group == GROUP && resource.resource == "certificatesigningrequests"
}

/// Whether the user may do this with requests for a signer: it, or all of its domain.
pub async fn is_authorized(
    authorizers: &[Arc<dyn Authorizer>],
    attributes: &Attributes<'_>,
    verb: &str,
    signer: &str,
) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for name in [signer, &format!("{domain}/*")] {
        let resource = ResourceAttributes {
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..ResourceAttributes::default()
        };
        let asked = authz::Attributes { user: attributes.user, verb, resource: Some(resource), path: "" };
        if let Decision::Allow(_) = authz::decide(authorizers, &asked).await {
            return true;
        }
    }
    false
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Update && subresource == "approval" && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let signer = attributes.old_object.map(|old| text(old, "/spec/signerName")).unwrap_or_default();
        if is_authorized(&self.authorizers, attributes, "approve", signer).await {
            return Ok(());
        }
        Err(attributes
            .forbidden(&format!("user not permitted to approve requests with signerName {}", go_quote(signer))))
    }
}
