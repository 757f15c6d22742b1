//! The hash of a ConfigMap's or a Secret's content that stands behind its name, as `--append-hash`
//! and kustomize compute it: the same content has the same name everywhere.

use super::output::escape_html;
use crate::api::Fields;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub fn of_config_map(map: &Value) -> String {
    let mut hashed = json!({ "kind": "ConfigMap", "name": map.at("metadata").str_at("name"), "data": data(map) });
    for field in ["immutable", "binaryData"] {
        if let Some(value) = map.get_set(field) {
            hashed[field] = value.clone();
        }
    }
    digest(&hashed)
}

pub fn of_secret(secret: &Value) -> String {
    digest(&json!({
        "kind": "Secret",
        "type": secret.str_at("type"),
        "name": secret.at("metadata").str_at("name"),
        "data": data(secret),
    }))
}

fn data(object: &Value) -> Value {
    object.get_set("data").cloned().unwrap_or_else(|| Value::Object(Map::new()))
}

/// Ten characters that spell no word.
pub fn digest(value: &Value) -> String {
    let sum = Sha256::digest(escape_html(&value.to_string()).as_bytes());
    let hex: String = sum.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    hex.chars()
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kubernetes_s() {
        // Of Kubernetes's own table of tests.
        let map = |data: Value| json!({ "kind": "ConfigMap", "metadata": { "name": "" }, "data": data });
        assert_eq!(of_config_map(&map(json!({}))), "42745tchd9");
        assert_eq!(of_config_map(&map(json!({ "one": "" }))), "9g67k2htb6");
        assert_eq!(of_config_map(&map(json!({ "two": "2", "one": "", "three": "3" }))), "f5h7t85m9b");
        let secret = |data: Value| json!({ "type": "my-type", "metadata": { "name": "" }, "data": data });
        assert_eq!(of_secret(&secret(json!({}))), "t75bgf6ctb");
        assert_eq!(of_secret(&secret(json!({ "one": "" }))), "74bd68bm66");
        assert_eq!(of_secret(&secret(json!({ "two": "Mg==", "one": "", "three": "Mw==" }))), "dgcb6h9tmk");
    }
}
