//! What StorageClasses and VolumeAttributesClasses share: who provisions, and with what.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const SIZE_LIMIT: usize = 256 << 10;
const COUNT_LIMIT: usize = 512;

/// The name of a provisioner or driver.
pub fn driver(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let name = name.to_lowercase();
    errors.check(path, &name, names::qualified_name(&name));
}

pub fn validate(parameters: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let entries = parameters.entries();
    if entries.len() > COUNT_LIMIT {
        errors.too_long(path, COUNT_LIMIT as i64);
        return;
    }
    if entries.keys().any(String::is_empty) {
        errors.invalid(path, "", "field can not be empty.");
    }
    let size: usize = entries.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > SIZE_LIMIT {
        errors.too_long(path, SIZE_LIMIT as i64);
    }
}
