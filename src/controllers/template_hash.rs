//! Hashes of pod templates: which version of the template a ReplicaSet, or a revision, is for.

use serde_json::Value;

pub const LABEL: &str = "pod-template-hash";

/// A short name for a template; `collisions` tells apart two that hash the same. FNV-1a over the
/// canonical JSON (keys are sorted), in letters and digits that spell no words.
pub fn template_hash(template: &Value, collisions: Option<i32>) -> String {
    let mut text = template.to_string();
    if let Some(collisions) = collisions {
        text.push_str(&collisions.to_string());
    }
    let mut hash: u32 = 0x811c_9dc5;
    for byte in text.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    encode(&hash.to_string())
}

/// As `rand.SafeEncodeString` does.
pub fn encode(text: &str) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect()
}

/// Whether two templates are the same but for the hash label.
pub fn same_template(one: &Value, two: &Value) -> bool {
    fn without(template: &Value) -> Value {
        let mut template = template.clone();
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
            if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
                labels.remove(LABEL);
                if labels.is_empty() {
                    metadata.remove("labels");
                }
            }
        }
        template
    }
    without(one) == without(two)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hash_is_stable_and_fits_a_name() {
        let template = json!({ "spec": { "containers": [{ "name": "a", "image": "x" }] } });
        let hash = template_hash(&template, None);
        assert_eq!(hash, template_hash(&template, None));
        assert_ne!(hash, template_hash(&template, Some(1)));
        assert!(hash.len() <= 10 && hash.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        // A fixed value: a new release must not change the names of what runs.
        assert_eq!(encode("4294967295"), "86f8fbc6f9");
    }

    #[test]
    fn the_hash_label_does_not_count() {
        let one = json!({ "metadata": { "labels": { "app": "a" } }, "spec": {} });
        let two =
            json!({ "metadata": { "labels": { "app": "a", LABEL: "x" }, "creationTimestamp": null }, "spec": {} });
        assert!(same_template(&one, &two));
        let three = json!({ "metadata": { "labels": { "app": "b" } }, "spec": {} });
        assert!(!same_template(&one, &three));
    }
}
