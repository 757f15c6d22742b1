//! CertificateSigning: who writes the certificate or conditions of a request may sign for its
//! signer.

use super::certificate_approval::{is_authorized, is_request};
use super::{Attributes, Operation, Plugin, Sources, text};
use crate::api::field::go_quote;
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::authz::Authorizer;
use async_trait::async_trait;
use std::sync::Arc;

pub struct CertificateSigning {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl CertificateSigning {
    pub fn new(sources: &Sources) -> Self {
        Self { authorizers: sources.authorizers.clone() }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Update && subresource == "status" && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (Some(object), Some(old)) = (attributes.object.as_deref(), attributes.old_object) else { return Ok(()) };
        let same = |field: &str| object["status"].get(field) == old["status"].get(field);
        let signer = text(old, "/spec/signerName");
        if same("certificate") && same("conditions")
            || is_authorized(&self.authorizers, attributes, "sign", signer).await
        {
            return Ok(());
        }
        Err(attributes.forbidden(&format!("user not permitted to sign requests with signerName {}", go_quote(signer))))
    }
}
