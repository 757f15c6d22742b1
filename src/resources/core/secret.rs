//! Secret: bytes for pods that are kept from sight.

use super::config_map::{SIZE_LIMIT, decoded_length, immutable};
use crate::api::names;
use crate::api::value::json_kind;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Context, Resource, Strategy, cells};
use base64::Engine;
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Type", "Data", "Age"]),
        strategy: Arc::new(Secret),
        ..Resource::new("", "v1", "Secret", "secrets")
    }
}

struct Secret;

const DATA: Path<'static> = Path::new("data");
const ACCOUNT: &str = "kubernetes.io/service-account.name";

impl Strategy for Secret {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        // stringData is only written; it wins over data.
        if let Some(Value::Object(texts)) = object.get("stringData").cloned() {
            let data = object.object_mut("data");
            for (key, text) in texts {
                let bytes = text.as_str().unwrap_or_default();
                data.set(&key, base64::engine::general_purpose::STANDARD.encode(bytes));
            }
        }
        object.clear("stringData");
        object.set_default_str("type", "Opaque");
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        if object.str_at("type").is_empty() {
            object.copy("type", old);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut size = 0;
        for (key, value) in object.map_at("data") {
            errors.check(&DATA.key(key), key, names::config_map_key(key));
            size += decoded_length(value.as_str().unwrap_or_default());
        }
        if size > SIZE_LIMIT {
            errors.too_long(&DATA, SIZE_LIMIT as i64);
        }
        of_type(object, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if object.str_at("type") != old.str_at("type") {
            errors.invalid(&Path::new("type"), object.str_at("type"), "field is immutable");
        }
        errors.extend(immutable(object, old, &["data"]));
        errors.extend(self.validate(object));
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let text = |key: &str| {
            let text = object.at("data").str_at(key);
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let is_pair = object.str_at("type") == "kubernetes.io/tls";
        if is_pair { key_pair_problem(&text("tls.crt"), &text("tls.key")).into_iter().collect() } else { Vec::new() }
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("type", |secret| secret.str_at("type").to_owned())]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let count = object.map_at("data").len();
        Some(vec![cells::name(object), object.str_at("type").into(), count.into(), cells::age(object, now)])
    }
}

/// The labels of the PEM blocks of a text.
fn pem_labels(text: &str) -> Vec<&str> {
    let begins = text.lines().filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    begins.filter(|label| text.contains(&format!("-----END {label}-----"))).collect()
}

/// Why a certificate and a key are no pair, as far as their PEM blocks tell.
fn key_pair_problem(certificate: &str, key: &str) -> Option<String> {
    let blocks = pem_labels(certificate);
    let is_key = |label: &&str| *label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY");
    let list = |blocks: &[&str]| format!("[{}]", blocks.join(" "));
    if !blocks.contains(&"CERTIFICATE") {
        return Some(match blocks.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if is_key(one) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned(),
            many => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: {}", list(many)),
        });
    }
    let blocks = pem_labels(key);
    if blocks.iter().any(is_key) {
        return None;
    }
    Some(match blocks.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        ["CERTIFICATE"] => "tls: found a certificate rather than a key in the PEM for the private key".to_owned(),
        many => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: {}",
            list(many)
        ),
    })
}

/// The keys that a type of secret must have.
fn of_type(object: &Value, errors: &mut ErrorList) {
    let data = object.at("data");
    let needed: &[&str] = match object.str_at("type") {
        "kubernetes.io/service-account-token" => {
            if object.at("metadata").at("annotations").str_at(ACCOUNT).is_empty() {
                let path = Path::new("metadata");
                let path = path.child("annotations");
                errors.required(&path.key(ACCOUNT), "");
            }
            return;
        }
        "kubernetes.io/dockercfg" => return json_object(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => return json_object(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => &["username", "password"],
        "kubernetes.io/ssh-auth" if data.str_at("ssh-privatekey").is_empty() => {
            return errors.required(&DATA.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => return,
    };
    for key in needed.iter().filter(|key| !data.has(key)) {
        errors.required(&DATA.key(key), "");
    }
}

fn json_object(data: &Value, key: &str, errors: &mut ErrorList) {
    let path = DATA.key(key);
    let Some(text) = data.optional_str(key) else { return errors.required(&path, "") };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let problem = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = json_kind(&other);
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(_) if bytes.is_empty() => "unexpected end of JSON input".to_owned(),
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(_) => {
            let first = bytes.iter().find(|c| !c.is_ascii_whitespace()).copied().unwrap_or_default();
            format!("invalid character '{}' looking for beginning of value", first as char)
        }
    };
    errors.invalid(&path, "<secret contents redacted>", problem);
}
