//! CertificateSigningRequest: asks a signer for a certificate.

use crate::resources::{Column, Resource, Subresource, Verb};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["csr".into()],
        namespaced: false,
        status: true,
        subresources: vec![
            Subresource::custom("approval", &[Verb::Get, Verb::Patch, Verb::Update]),
            Subresource::status(),
        ],
        columns: Column::strings(&["Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]),
        ..Resource::new("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
    }
}
