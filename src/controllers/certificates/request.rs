//! What a certificate request asks for, and whether it is a node's own: pure.

use crate::client::kinds;
use crate::runtime::{Condition, Meta, whole};
use anyhow::Context as _;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const SIGNERS: &[&str] = &["kubernetes.io/kube-apiserver-client", KUBELET_CLIENT, KUBELET_SERVING];
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// A CertificateSigningRequest.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SigningRequest {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// PEM in base64.
    pub request: String,
    pub signer_name: String,
    pub expiration_seconds: Option<i32>,
    pub usages: Vec<String>,
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub conditions: Vec<Condition>,
    pub certificate: String,
}

whole!(SigningRequest, kinds::CERTIFICATE_SIGNING_REQUESTS);

impl SigningRequest {
    pub fn has(&self, condition: &str) -> bool {
        Condition::find(&self.status.conditions, condition).is_some()
    }

    pub fn is_decided(&self) -> bool {
        self.has("Approved") || self.has("Denied")
    }
}

/// The content of a PKCS#10 request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Mail addresses and URIs.
    pub other_names: usize,
}

/// `pem`: not trusted; its signature is checked, so that the requester holds the key.
pub fn parse(pem: &[u8]) -> anyhow::Result<Content> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem)
        .context("the request is not a PEM block CERTIFICATE REQUEST")?;
    let (rest, request) = X509CertificationRequest::from_der(&der).context("the request does not parse")?;
    anyhow::ensure!(rest.is_empty(), "the request has trailing data");
    request.verify_signature().context("the request's signature does not verify")?;
    let subject = &request.certification_request_info.subject;
    let mut content = Content::default();
    for name in subject.iter_common_name() {
        content.common_name = name.as_str().context("the common name is not text")?.to_owned();
    }
    for organization in subject.iter_organization() {
        content.organizations.push(organization.as_str().context("an organization is not text")?.to_owned());
    }
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => content.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => content.addresses.push(address(bytes)?),
                _ => content.other_names += 1,
            }
        }
    }
    Ok(content)
}

fn address(bytes: &[u8]) -> anyhow::Result<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    let octets = <[u8; 16]>::try_from(bytes).context("an IP address has neither 4 nor 16 bytes")?;
    Ok(octets.into())
}

fn usages_are(request: &SigningRequest, required: [&str; 2]) -> bool {
    let usages: Vec<&str> =
        request.spec.usages.iter().map(String::as_str).filter(|usage| *usage != "key encipherment").collect();
    usages.len() == required.len() && required.iter().all(|required| usages.contains(required))
}

fn is_node(content: &Content) -> bool {
    content.organizations == [NODES]
        && content.common_name.len() > NODE_PREFIX.len()
        && content.common_name.starts_with(NODE_PREFIX)
}

/// A client certificate of a kubelet. Source: `pkg/apis/certificates/helpers.go`.
pub fn is_kubelet_client(request: &SigningRequest, content: &Content) -> bool {
    request.spec.signer_name == KUBELET_CLIENT
        && is_node(content)
        && content.dns_names.is_empty()
        && content.addresses.is_empty()
        && content.other_names == 0
        && usages_are(request, ["digital signature", "client auth"])
}

/// A serving certificate that a kubelet asks for itself; returns its node's name.
pub fn kubelet_serving_node<'a>(request: &SigningRequest, content: &'a Content) -> Option<&'a str> {
    let valid = request.spec.signer_name == KUBELET_SERVING
        && is_node(content)
        && request.spec.username == content.common_name
        && request.spec.groups.iter().any(|group| group == NODES)
        && !(content.dns_names.is_empty() && content.addresses.is_empty())
        && content.other_names == 0
        && usages_are(request, ["digital signature", "server auth"]);
    if valid { content.common_name.strip_prefix(NODE_PREFIX) } else { None }
}

/// Whether a serving certificate names nothing but the node itself.
pub fn names_only(content: &Content, addresses: &[(Box<str>, Box<str>)]) -> bool {
    let has = |text: &str| addresses.iter().any(|(_, address)| address.eq_ignore_ascii_case(text));
    content.dns_names.iter().all(|name| has(name))
        && content.addresses.iter().all(|ip| addresses.iter().any(|(_, own)| own.parse() == Ok(*ip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn pem(common_name: &str, organization: &str, names: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("signs").pem().expect("prints")
    }

    fn request(signer: &str, usages: &[&str], username: &str) -> SigningRequest {
        let mut request = SigningRequest::default();
        request.spec.signer_name = signer.into();
        request.spec.usages = usages.iter().map(|usage| (*usage).to_owned()).collect();
        request.spec.username = username.into();
        request.spec.groups = vec![NODES.into()];
        request
    }

    #[test]
    fn a_kubelet_client_request() {
        let content = parse(pem("system:node:n1", NODES, &[]).as_bytes()).expect("parses");
        assert_eq!(content.common_name, "system:node:n1");
        let usages = ["digital signature", "client auth", "key encipherment"];
        assert!(is_kubelet_client(&request(KUBELET_CLIENT, &usages, "x"), &content));
        assert!(!is_kubelet_client(&request(KUBELET_SERVING, &usages, "x"), &content));
        assert!(!is_kubelet_client(&request(KUBELET_CLIENT, &["client auth"], "x"), &content));
        let named = parse(pem("system:node:n1", NODES, &["n1"]).as_bytes()).expect("parses");
        assert!(!is_kubelet_client(&request(KUBELET_CLIENT, &usages, "x"), &named));
        let admin = parse(pem("admin", "system:masters", &[]).as_bytes()).expect("parses");
        assert!(!is_kubelet_client(&request(KUBELET_CLIENT, &usages, "x"), &admin));
    }

    #[test]
    fn a_kubelet_serving_request_names_its_node_only() {
        let content = parse(pem("system:node:n1", NODES, &["n1", "192.0.2.7"]).as_bytes()).expect("parses");
        let usages = ["digital signature", "server auth"];
        let own = request(KUBELET_SERVING, &usages, "system:node:n1");
        assert_eq!(kubelet_serving_node(&own, &content), Some("n1"));
        assert_eq!(kubelet_serving_node(&request(KUBELET_SERVING, &usages, "system:node:n2"), &content), None);
        let addresses = [("Hostname".into(), "n1".into()), ("InternalIP".into(), "192.0.2.7".into())];
        assert!(names_only(&content, &addresses));
        assert!(!names_only(&content, &addresses[..1]));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n").is_err());
    }
}
