//! Where a webhook is: a URL or a Service. Also asked of conversion webhooks.

use crate::api::{ErrorList, Fields, Path, Report, names};
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
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default());
    let authority = authority.unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["name", "namespace"] {
        if service.str_at(field).is_empty() {
            errors.required(&path.child(field), format!("service {field} is required"));
        }
    }
    let port = service.int_at("port");
    let messages = names::port_number(port);
    if !messages.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", messages.join(",")));
    }
    let target = service.str_at("path");
    if matches!(target, "" | "/") {
        return;
    }
    let at_path = path.child("path");
    let mut characters = target.chars();
    if characters.next() != Some('/') {
        errors.invalid(&at_path, target, "must start with a '/'");
    }
    // What was no slash is not looked at, either.
    let steps = characters.as_str();
    let steps = steps.strip_suffix('/').unwrap_or(steps);
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
