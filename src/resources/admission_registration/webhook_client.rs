//! Where a webhook is: a URL or a Service. Also asked of conversion webhooks.

use crate::api::{ErrorList, Fields, Path, Report, go_url, names};
use serde_json::Value;

const FORM: &str = "; desired format: https://host[/path]";

pub fn validate(client: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (client.optional_str("url"), client.get_set("service")) {
        (Some(text), None) => url(text, &path.child("url"), errors),
        (None, Some(service)) => self::service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let url = match go_url::parse(text) {
        Ok(url) => url,
        Err(error) => return errors.required(path, format!("url must be a valid URL: {error}{FORM}")),
    };
    if url.scheme != "https" {
        errors.invalid(path, url.scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        errors.invalid(path, url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        errors.invalid(path, url.query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    // Kubernetes names the one where the other is missing.
    for (field, named) in [("namespace", "name"), ("name", "namespace")] {
        if service.str_at(field).is_empty() {
            errors.required(&path.child(named), "");
        }
    }
    let port = service.int_at("port");
    let messages = names::port_number(port);
    if !messages.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", messages.join(", ")));
    }
    let target = service.str_at("path");
    if matches!(target, "" | "/") {
        return;
    }
    let at_path = path.child("path");
    if target == "//" {
        return errors.invalid(&at_path, target, "segment[0] may not be empty");
    }
    if !target.starts_with('/') {
        errors.invalid(&at_path, target, "must start with a '/'");
    }
    // A first byte that was no slash is not looked at, either.
    let steps = String::from_utf8_lossy(&target.as_bytes()[1..]);
    let steps = steps.strip_suffix('/').unwrap_or(&steps);
    for (index, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at_path, target, format!("segment[{index}] may not be empty"));
            continue;
        }
        for message in names::dns_subdomain(step) {
            errors.invalid(&at_path, target, format!("segment[{index}]: {message}"));
        }
    }
}

/// Whether a bundle, in base64, holds certificates.
pub fn ca_bundle_reads(bundle: &str) -> bool {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.trim().is_empty() || crate::net::tls::certificates(&text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_of_services() {
        for (target, expected) in [
            ("", &[][..]),
            ("/", &[]),
            ("/a/b-1/", &[]),
            ("//", &["segment[0] may not be empty"]),
            ("/a//b", &["segment[1] may not be empty"]),
            ("a", &["must start with a '/'", "segment[0] may not be empty"]),
        ] {
            let mut errors = ErrorList::new();
            let value = json!({ "name": "n", "namespace": "ns", "port": 443, "path": target });
            service(&value, &Path::new("service"), &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let expected: Vec<String> =
                expected.iter().map(|detail| format!("service.path: Invalid value: {target:?}: {detail}")).collect();
            assert_eq!(found, expected);
        }
    }
}
