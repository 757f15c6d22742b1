//! A CertificateSigningRequest, with what the request asks to be certified.

use super::Lists;
use super::page::{Page, line, time};
use crate::api::Fields;
use crate::resources::cells;
use base64::Engine;
use serde_json::Value;
use x509_parser::prelude::*;

pub(super) fn print(request: &Value, _: &Lists, page: &mut Page) {
    let (metadata, spec) = (request.at("metadata"), request.at("spec"));
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    line!(page, 0, "Labels:\t{}", cells::labels(metadata.at("labels")));
    line!(page, 0, "Annotations:\t{}", cells::labels(metadata.at("annotations")));
    line!(page, 0, "CreationTimestamp:\t{}", time(metadata.str_at("creationTimestamp")));
    line!(page, 0, "Requesting User:\t{}", spec.str_at("username"));
    line!(page, 0, "Signer:\t{}", spec.str_at("signerName"));
    if let Some(seconds) = spec.optional_int("expirationSeconds") {
        line!(page, 0, "Requested Duration:\t{}", cells::duration(seconds));
    }
    line!(page, 0, "Status:\t{}", status(request));
    let pem = base64::engine::general_purpose::STANDARD.decode(spec.str_at("request")).unwrap_or_default();
    match asked(&pem) {
        Some(asked) => asked.print(page),
        None => line!(page, 0, "Subject:\t<the request cannot be read>"),
    }
}

/// `Pending`, `Approved,Issued`, `Denied` …
fn status(request: &Value) -> String {
    let status = request.at("status");
    let has = |kind: &str| status.list_at("conditions").iter().any(|condition| condition.str_at("type") == kind);
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !status.str_at("certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

/// What is to be certified.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    common_name: String,
    /// Title and values, of those that are there.
    subject: Vec<(&'static str, Vec<String>)>,
    names: Vec<(&'static str, Vec<String>)>,
}

impl Asked {
    fn print(&self, page: &mut Page) {
        line!(page, 0, "Subject:");
        line!(page, 0, "\tCommon Name:\t{}", self.common_name);
        line!(page, 0, "\tSerial Number:\t");
        let list = |entries: &[(&str, Vec<String>)], page: &mut Page| {
            for (title, values) in entries {
                for (at, value) in values.iter().enumerate() {
                    let title = if at == 0 { format!("{title}:") } else { String::new() };
                    line!(page, 0, "\t{title}\t{value}");
                }
            }
        };
        list(&self.subject, page);
        if !self.names.is_empty() {
            line!(page, 0, "Subject Alternative Names:");
            list(&self.names, page);
        }
    }
}

fn asked(pem: &[u8]) -> Option<Asked> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    let texts = |attributes: Vec<&AttributeTypeAndValue>| -> Vec<String> {
        attributes.iter().filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
    };
    let mut asked = Asked {
        common_name: texts(subject.iter_common_name().collect()).join(","),
        subject: vec![
            ("Organization", texts(subject.iter_organization().collect())),
            ("Organizational Unit", texts(subject.iter_organizational_unit().collect())),
            ("Country", texts(subject.iter_country().collect())),
            ("Locality", texts(subject.iter_locality().collect())),
            ("Province", texts(subject.iter_state_or_province().collect())),
        ],
        names: Vec::new(),
    };
    asked.subject.retain(|(_, values)| !values.is_empty());
    let (mut dns, mut emails, mut uris, mut addresses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => emails.push((*name).to_owned()),
                GeneralName::URI(name) => uris.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    asked.names = vec![("DNS Names", dns), ("Email Addresses", emails), ("URIs", uris), ("IP Addresses", addresses)];
    asked.names.retain(|(_, values)| !values.is_empty());
    Some(asked)
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_subject_and_names() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters =
            rcgen::CertificateParams::new(vec!["a.example".to_owned(), "192.0.2.7".to_owned()]).expect("names");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "dev");
        let pem = parameters.serialize_request(&key).expect("a request").pem().expect("PEM");
        let expected = Asked {
            common_name: "ann".to_owned(),
            subject: vec![("Organization", vec!["dev".to_owned()])],
            names: vec![("DNS Names", vec!["a.example".to_owned()]), ("IP Addresses", vec!["192.0.2.7".to_owned()])],
        };
        assert_eq!(asked(pem.as_bytes()), Some(expected));
        assert_eq!(asked(b"nonsense"), None);
    }
}
