//! Names and label syntax: the checks of `k8s.io/apimachinery/pkg/util/validation`.
//!
//! Each returns the messages of what is wrong; empty: valid.

use std::borrow::Cow;

/// What is wrong with a value.
pub type Messages = Vec<String>;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SUBDOMAIN_WITH_UNDERSCORE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const HTTP_PATH: &str = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
const LABEL_KEY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_MAP_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENVIRONMENT_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const HTTP_HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

pub const LABEL_VALUE_LIMIT: usize = 63;
const LABEL_LIMIT: usize = 63;
const SUBDOMAIN_LIMIT: usize = 253;

fn no_more_than(limit: usize, unit: &str) -> String {
    format!("must be no more than {limit} {unit}")
}

fn lower_or_digit(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Inner characters are `allowed`, the first satisfies `first`, the last `last`.
fn shaped(text: &str, first: fn(u8) -> bool, allowed: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&head), Some(&tail)) => first(head) && last(tail) && bytes.iter().all(|&c| allowed(c)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    shaped(text, lower_or_digit, |c| lower_or_digit(c) || c == b'-', lower_or_digit)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_alphanumeric();
    shaped(text, edge, |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'), edge)
}

/// A DNS-1123 subdomain: most names.
pub fn dns_subdomain(name: &str) -> Messages {
    let mut messages = Messages::new();
    if name.len() > SUBDOMAIN_LIMIT {
        messages.push(no_more_than(SUBDOMAIN_LIMIT, "characters"));
    }
    if !is_subdomain(name) {
        messages.push(SUBDOMAIN.into());
    }
    messages
}

/// A subdomain whose labels may have underscores: DNS search paths.
pub fn dns_subdomain_with_underscore(name: &str) -> Messages {
    let mut messages = Messages::new();
    if name.len() > SUBDOMAIN_LIMIT {
        messages.push(no_more_than(SUBDOMAIN_LIMIT, "characters"));
    }
    let inner = |c: u8| lower_or_digit(c) || matches!(c, b'-' | b'_');
    if !name
        .split('.')
        .all(|label| shaped(label.strip_prefix('_').unwrap_or(label), lower_or_digit, inner, lower_or_digit))
    {
        messages.push(SUBDOMAIN_WITH_UNDERSCORE.into());
    }
    messages
}

/// A DNS-1123 label: containers, volumes, namespaces.
pub fn dns_label(name: &str) -> Messages {
    let mut messages = Messages::new();
    if name.len() > LABEL_LIMIT {
        messages.push(no_more_than(LABEL_LIMIT, "characters"));
    }
    if !is_label(name) {
        messages.push(if is_subdomain(name) { "must not contain dots".into() } else { LABEL.into() });
    }
    messages
}

/// A DNS-1035 label: begins with a letter.
pub fn dns_1035_label(name: &str) -> Messages {
    let mut messages = Messages::new();
    if name.len() > LABEL_LIMIT {
        messages.push(no_more_than(LABEL_LIMIT, "characters"));
    }
    if !shaped(name, |c| c.is_ascii_lowercase(), |c| lower_or_digit(c) || c == b'-', lower_or_digit) {
        messages.push(DNS_1035_LABEL.into());
    }
    messages
}

/// `*.example.com`
pub fn wildcard_subdomain(name: &str) -> Messages {
    let mut messages = Messages::new();
    if name.len() > SUBDOMAIN_LIMIT {
        messages.push(no_more_than(SUBDOMAIN_LIMIT, "characters"));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        messages.push(WILDCARD.into());
    }
    messages
}

/// A label key, `example.com/name`: an optional subdomain and a name.
pub fn qualified_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    let mut parts = value.split('/');
    let name = match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        (name, None, _) => name,
        (prefix, Some(name), None) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".into());
            } else {
                if prefix.len() > SUBDOMAIN_LIMIT {
                    messages.push(format!("prefix part must be no more than {SUBDOMAIN_LIMIT} bytes"));
                }
                if !is_subdomain(prefix) {
                    messages.push(format!("prefix part {SUBDOMAIN}"));
                }
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {LABEL_KEY} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".into());
    } else if name.len() > LABEL_LIMIT {
        messages.push(format!("name part must be no more than {LABEL_LIMIT} bytes"));
    }
    if !is_qualified(name) {
        messages.push(format!("name part {LABEL_KEY}"));
    }
    messages
}

pub fn label_value(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > LABEL_VALUE_LIMIT {
        messages.push(no_more_than(LABEL_VALUE_LIMIT, "bytes"));
    }
    if !value.is_empty() && !is_qualified(value) {
        messages.push(LABEL_VALUE.into());
    }
    messages
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > SUBDOMAIN_LIMIT {
        messages.push(no_more_than(SUBDOMAIN_LIMIT, "characters"));
    }
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
        messages.push(CONFIG_MAP_KEY.into());
    }
    match value {
        "." => messages.push("must not be '.'".into()),
        ".." => messages.push("must not be '..'".into()),
        _ if value.starts_with("..") => messages.push("must not start with '..'".into()),
        _ => {}
    }
    messages
}

pub fn environment_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.is_empty() {
        messages.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        messages.push(ENVIRONMENT_NAME.into());
    }
    messages
}

/// An IANA service name: container and target ports.
pub fn port_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 15 {
        messages.push(no_more_than(15, "characters"));
    }
    if value.is_empty() || !value.bytes().all(|c| lower_or_digit(c) || c == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|c| c.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        messages.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        messages.push("must not begin or end with a hyphen".into());
    }
    messages
}

pub fn port_number(port: i64) -> Messages {
    in_range(port, 1, 65535)
}

/// A user or group id.
pub fn user_id(id: i64) -> Messages {
    in_range(id, 0, i64::from(i32::MAX))
}

pub fn in_range(value: i64, low: i64, high: i64) -> Messages {
    if (low..=high).contains(&value) { Messages::new() } else { vec![inclusive_range(low, high)] }
}

pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

pub fn percent(value: &str) -> Messages {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        Messages::new()
    } else {
        vec![PERCENT.into()]
    }
}

pub fn http_header_name(value: &str) -> Messages {
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        Messages::new()
    } else {
        vec![HTTP_HEADER.into()]
    }
}

pub fn c_identifier(value: &str) -> Messages {
    let head = |c: u8| c.is_ascii_alphabetic() || c == b'_';
    let tail = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if shaped(value, head, tail, tail) { Messages::new() } else { vec![C_IDENTIFIER.into()] }
}

/// The name of a kind whose object's name may be a path segment: RBAC roles, endpoints of old.
pub fn path_segment(name: &str) -> Messages {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%'].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// Why a client does not ask for an object of such a name.
pub fn refused(name: &str) -> String {
    format!("invalid resource name {}: [{}]", super::field::go_quote(name), path_segment(name).join(" "))
}

/// `example.com/foo`: a path below a domain.
pub fn domain_prefixed_path(value: &str) -> Messages {
    let (domain, path) = value.split_once('/').unwrap_or((value, ""));
    if domain.is_empty() || path.is_empty() {
        return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()];
    }
    let mut messages = dns_subdomain(domain);
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c)) {
        messages.push(format!("Invalid path (regex used for validation is '{HTTP_PATH}')"));
    }
    messages
}

/// What a generateName is checked as: the dash at its end stands for what is added.
pub fn mask_trailing_dash(name: &str) -> Cow<'_, str> {
    if name.len() > 1 && name.ends_with('-') {
        let mut end = name.len() - 2;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        return format!("{}a", &name[..end]).into();
    }
    name.into()
}
