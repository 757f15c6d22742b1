//! Names of certificate signers: `example.com/signer`.

use crate::api::names;
use crate::api::{ErrorList, Path, Report};

const DOMAIN_LIMIT: usize = 253;
const LIMIT: usize = DOMAIN_LIMIT + 1 + 253 + 63 + 1;

/// A signer of Kubernetes's own.
pub fn is_kubernetes(name: &str) -> bool {
    let host = name.split_once('/').map_or(name, |(host, _)| host);
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

pub fn name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, signer] = segments.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, name, detail);
    };
    if domain.len() > DOMAIN_LIMIT {
        errors.too_long(path, DOMAIN_LIMIT as i64);
    }
    labels(domain, names::dns_label, path, errors);
    if !domain.contains('.') {
        errors.invalid(path, *domain, "should be a domain with at least two segments separated by dots");
    }
    labels(signer, names::dns_subdomain, path, errors);
    if name.len() > LIMIT {
        errors.too_long(path, LIMIT as i64);
    }
}

/// Reports the first part that is wrong.
fn labels(segment: &str, check: fn(&str) -> names::Messages, path: &Path<'_>, errors: &mut ErrorList) {
    let wrong = segment.split('.').map(|label| (label, check(label))).find(|(_, messages)| !messages.is_empty());
    if let Some((label, messages)) = wrong {
        for message in messages {
            let label = crate::api::field::go_quote(label);
            errors.invalid(path, segment, format!("validating label {label}: {message}"));
        }
    }
}
