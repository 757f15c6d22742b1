//! ConfigMap: text and bytes for pods.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

/// All values of a ConfigMap or Secret together, in bytes.
pub const SIZE_LIMIT: usize = 1 << 20;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["cm".into()],
        columns: Column::strings(&["Data", "Age"]),
        strategy: Arc::new(ConfigMap),
        ..Resource::new("", "v1", "ConfigMap", "configmaps")
    }
}

struct ConfigMap;

const DATA: Path<'static> = Path::new("data");
const BINARY_DATA: Path<'static> = Path::new("binaryData");

impl Strategy for ConfigMap {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (data, binary) = (object.map_at("data"), object.map_at("binaryData"));
        let mut size = 0;
        for (key, value) in data {
            errors.check(&DATA.key(key), key, names::config_map_key(key));
            if binary.contains_key(key) {
                errors.invalid(&DATA.key(key), key.as_str(), "duplicate of key present in binaryData");
            }
            size += value.as_str().map_or(0, str::len);
        }
        for (key, value) in binary {
            errors.check(&BINARY_DATA.key(key), key, names::config_map_key(key));
            size += decoded_length(value.as_str().unwrap_or_default());
        }
        if size > SIZE_LIMIT {
            errors.too_long(&Path::new(""), SIZE_LIMIT as i64);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = immutable(object, old, &["data", "binaryData"]);
        errors.extend(self.validate(object));
        errors
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let count = object.map_at("data").len() + object.map_at("binaryData").len();
        Some(vec![cells::name(object), count.into(), cells::age(object, now)])
    }
}

/// What base64 text holds, in bytes.
pub fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|c| *c == b'=').count().min(2)
}

/// With `immutable` set neither it nor the data change any more.
pub fn immutable(object: &Value, old: &Value, fields: &[&str]) -> ErrorList {
    const IMMUTABLE: &str = "field is immutable when `immutable` is set";
    let mut errors = ErrorList::new();
    if old.bool_at("immutable") {
        if !object.bool_at("immutable") {
            errors.forbidden(&Path::new("immutable"), IMMUTABLE);
        }
        for field in fields {
            if object.map_at(field) != old.map_at(field) {
                errors.forbidden(&Path::new(field), IMMUTABLE);
            }
        }
    }
    errors
}
