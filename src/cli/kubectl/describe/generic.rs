//! Any kind, field by field.

use super::Lists;
use super::page::{Page, line};
use crate::api::Fields;
use serde_json::{Map, Value};

/// Fields that the head of the page tells, or that nobody reads.
const SKIPPED: &[&str] =
    &[".metadata.managedFields", ".metadata.name", ".metadata.namespace", ".metadata.labels", ".metadata.annotations"];
const ACRONYMS: &[&str] = &["API", "URL", "UID", "OSB", "GUID"];

pub(super) fn print(object: &Value, _: &Lists, page: &mut Page) {
    let metadata = object.at("metadata");
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    line!(page, 0, "Namespace:\t{}", metadata.str_at("namespace"));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    fields(object.entries(), "", 0, page);
}

fn fields(map: &Map<String, Value>, prefix: &str, level: usize, page: &mut Page) {
    for (key, value) in map {
        let path = format!("{prefix}.{key}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        let title = title(key);
        match value {
            Value::Object(map) => {
                line!(page, level, "{title}:");
                fields(map, &path, level + 1, page);
            }
            Value::Array(items) => {
                line!(page, level, "{title}:");
                for item in items {
                    match item {
                        Value::Object(map) => fields(map, &path, level + 1, page),
                        item => line!(page, level + 1, "{}", text(item)),
                    }
                }
            }
            value => line!(page, level, "{title}:\t{}", text(value)),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        value => value.to_string(),
    }
}

/// `creationTimestamp` is `Creation Timestamp`, `podUID` is `Pod UID`.
fn title(key: &str) -> String {
    if key.contains('/') {
        return key.to_owned();
    }
    let chars: Vec<char> = key.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (at, &c) in chars.iter().enumerate() {
        let previous = at.checked_sub(1).map(|before| chars[before]);
        let next_is_lower = chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        let class = |c: char| {
            if c.is_lowercase() {
                1
            } else if c.is_uppercase() {
                2
            } else if c.is_ascii_digit() {
                3
            } else {
                4
            }
        };
        let starts = match previous {
            None => true,
            Some(previous) if class(previous) == class(c) => class(c) == 2 && next_is_lower,
            // A capital and the small letters behind it are one word.
            Some(previous) => !(class(previous) == 2 && class(c) == 1),
        };
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words = words.into_iter().filter(|word| word != "_").map(|word| {
        let upper = word.to_uppercase();
        if ACRONYMS.contains(&upper.as_str()) {
            return upper;
        }
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_titles() {
        for (key, words) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("uid", "UID"),
            ("podUID", "Pod UID"),
            ("apiVersion", "API Version"),
            ("podIPs", "Pod I Ps"),
            ("a.b/c", "a.b/c"),
            ("ca.crt", "Ca . Crt"),
        ] {
            assert_eq!(title(key), words, "{key}");
        }
    }
}
