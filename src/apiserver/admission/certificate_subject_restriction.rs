//! CertificateSubjectRestriction: nobody asks for a certificate of `system:masters`.

use super::certificate_approval::is_request;
use super::{Attributes, Operation, Plugin, text};
use crate::api::user::SYSTEM_MASTERS;
use crate::api::{GroupVersionResource, Status};
use async_trait::async_trait;
use base64::Engine;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest, X509Name};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        if text(object, "/spec/signerName") != SIGNER {
            return Ok(());
        }
        let groups = match organizations(text(object, "/spec/request")) {
            Ok(groups) => groups,
            Err(error) => return Err(attributes.forbidden(&format!("failed to parse CSR: {error}"))),
        };
        if groups.iter().any(|group| group == SYSTEM_MASTERS) {
            let reason = format!("use of {SIGNER} signer with system:masters group is not allowed");
            return Err(attributes.forbidden(&reason));
        }
        Ok(())
    }
}

/// The name that a request (base64 of PEM) asks for.
pub fn common_name(request: &str) -> Result<String, String> {
    of_subject(request, |subject| {
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        name.unwrap_or_default().to_owned()
    })
}

/// The groups that a request asks for.
fn organizations(request: &str) -> Result<Vec<String>, String> {
    of_subject(request, |subject| {
        subject.iter_organization().filter_map(|name| name.as_str().ok().map(str::to_owned)).collect()
    })
}

fn of_subject<T>(request: &str, read: impl FnOnce(&X509Name<'_>) -> T) -> Result<T, String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(request).map_err(|error| error.to_string())?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    Ok(read(&parsed.certification_request_info.subject))
}
