//! Lists and names that the kinds of devices share.
//!
//! Source: `pkg/apis/resource/validation`.

use crate::api::{ErrorList, Fields, Path, Report, names};
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use serde_json::Value;

const POOL_NAME_LIMIT: usize = 253;
const IDENTIFIER_LIMIT: usize = 32;
const UUID_LENGTH: usize = 36;

/// Each item by itself; a list that is too long is not looked into.
pub fn each<'v>(
    list: &'v [Value],
    limit: usize,
    path: &Path<'_>,
    errors: &mut ErrorList,
    mut one: impl FnMut(&'v Value, &Path<'_>, &mut ErrorList),
) -> bool {
    if list.len() > limit {
        errors.too_many(path, list.len(), limit as i64);
        return false;
    }
    for (index, item) in list.iter().enumerate() {
        one(item, &path.index(index), errors);
    }
    true
}

/// As [`each`]; no two items have the same key.
pub fn each_once<'v>(
    list: &'v [Value],
    limit: usize,
    path: &Path<'_>,
    errors: &mut ErrorList,
    key: impl Fn(&'v Value) -> Value,
    one: impl FnMut(&'v Value, &Path<'_>, &mut ErrorList),
) {
    if !each(list, limit, path, errors, one) {
        return;
    }
    let mut known: Vec<Value> = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let key = key(item);
        if known.contains(&key) {
            errors.duplicate(&path.index(index), key);
        } else {
            known.push(key);
        }
    }
}

pub fn named(item: &Value) -> Value {
    item.str_at("name").into()
}

pub fn pool_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > POOL_NAME_LIMIT {
        errors.too_long(path, POOL_NAME_LIMIT as i64);
    }
    for part in name.split('/') {
        errors.check(path, part, names::dns_subdomain(part));
    }
}

fn identifier(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.len() > IDENTIFIER_LIMIT {
        errors.too_long(path, IDENTIFIER_LIMIT as i64);
    }
    errors.check(path, name, names::c_identifier(name));
}

/// `model` or `gpu.example.com/model`; Kubernetes lets more slashes be.
pub fn qualified_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [name] => identifier(name, path, errors),
        [domain, name] => {
            match *domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => csi_driver_name(domain, path, errors),
            }
            match *name {
                "" => errors.invalid(path, "", "the name must not be empty"),
                name => identifier(name, path, errors),
            }
        }
        _ => {}
    }
}

pub fn fully_qualified_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

/// The UUID of a share.
pub fn share(id: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let is_dash = |index: usize| matches!(index, 8 | 13 | 18 | 23);
    let good = |(index, byte): (usize, u8)| {
        if is_dash(index) { byte == b'-' } else { byte.is_ascii_digit() || matches!(byte, b'a'..=b'f') }
    };
    if id.len() == UUID_LENGTH && id.bytes().enumerate().all(good) {
        return;
    }
    let digits = id.bytes().filter(u8::is_ascii_hexdigit).count();
    if digits != 32 {
        let detail = format!("error validating uid: invalid UUID length: {}", id.len());
        return errors.invalid(path, id, detail);
    }
    let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
    errors.invalid(path, id, detail);
}

/// JSON of a driver's own.
pub fn raw(value: &Value, limit: usize, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        Value::Null => errors.required(path, ""),
        value if value.to_string().len() > limit => errors.too_long(path, limit as i64),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}

/// What has to be true of a device before a pod that has it starts, and what must not be.
pub fn binding_conditions(holder: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const LIMIT: usize = 4;
    let (wanted, failures) = ("bindingConditions", "bindingFailureConditions");
    for field in [wanted, failures] {
        each(holder.list_at(field), LIMIT, &path.child(field), errors, |condition, path, errors| {
            let condition = condition.as_str().unwrap_or_default();
            errors.check(path, condition, names::qualified_name(condition));
        });
    }
    for field in [wanted, failures] {
        let list = path.child(field);
        let conditions: Vec<&str> = holder.strs_at(field).collect();
        for (index, condition) in conditions.iter().enumerate() {
            if conditions[..index].contains(condition) {
                errors.duplicate(&list.index(index), *condition);
            }
            if field == failures && holder.strs_at(wanted).any(|other| other == *condition) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.invalid(&list.index(index), *condition, detail);
            }
        }
    }
    for (missing, there) in [(wanted, failures), (failures, wanted)] {
        if holder.list_at(missing).is_empty() && !holder.list_at(there).is_empty() {
            let detail = format!("{missing} are required to use {there}");
            errors.invalid(&path.child(missing), holder.at(missing).clone(), detail);
        }
    }
}
