//! Names and label syntax: the checks of `k8s.io/apimachinery/pkg/util/validation`.
//!
//! Each returns the messages of what is wrong; empty: valid.

const DNS_SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

/// A DNS-1123 subdomain: most names.
pub fn dns_subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 253 {
        errors.push("must be no more than 253 bytes".to_owned());
    }
    let label = |label: &str| {
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if !name.split('.').all(label) {
        errors.push(format!(
            "{DNS_SUBDOMAIN_MESSAGE} (e.g. 'example.com', regex used for validation is '{DNS_SUBDOMAIN_FORMAT}')"
        ));
    }
    errors
}
