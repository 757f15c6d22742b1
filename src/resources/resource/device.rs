//! A device in a ResourceSlice: attributes, capacities, taints, where it is, what it takes of counters.

use super::limits::{self, each, each_once};
use super::{capacity, taints};
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names, regular};
use crate::resources::core::pod_spec::affinity;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const ENTRIES_LIMIT: usize = 32;
const VALUES_LIMIT: usize = 48;
const VALUE_LENGTH: usize = 64;
const TAINTS_LIMIT: usize = 16;
const CONSUMPTIONS_LIMIT: usize = 2;
const COUNTERS_LIMIT: usize = 32;
/// Characters of a domain, a slash and a name.
const KEY_LENGTH: usize = 63 + 1 + 32;
const SINGLE: &[&str] = &["bool", "int", "string", "version"];
/// Behind features that are off unless they are asked for.
const LISTS: &[&str] = &["bools", "ints", "strings", "versions"];
const MAPPINGS: &str = "nodeAllocatableResourceMappings";
static SEMANTIC_VERSION: LazyLock<Result<Regex, String>> = LazyLock::new(|| {
    regular::regular_expression(
        r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$",
    )
});

/// Fields that are not served go.
pub fn clear_not_served(device: &mut Value) {
    device.clear(MAPPINGS);
    if let Some(attributes) = device.get_mut("attributes").and_then(Value::as_object_mut) {
        for attribute in attributes.values_mut() {
            LISTS.iter().for_each(|field| attribute.clear(field));
        }
    }
}

/// What makes a slice with many devices too dear.
pub fn is_advanced(device: &Value) -> bool {
    !device.list_at("taints").is_empty() || !device.list_at("consumesCounters").is_empty()
}

/// `placed`: each device says where it is.
pub fn validate(device: &Value, old: Option<&Value>, placed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let name = device.str_at("name");
    errors.check(&path.child("name"), name, names::dns_label(name));
    let (attributes, capacities) = (device.map_at("attributes"), device.map_at("capacity"));
    let entries = attributes.len() + capacities.len();
    if entries > ENTRIES_LIMIT {
        let detail = format!("the total number of attributes and capacities must not exceed {ENTRIES_LIMIT}");
        errors.invalid(path, entries, detail);
    }
    if attributes.len() > VALUES_LIMIT {
        let detail = format!("the total number of attribute values must not exceed {VALUES_LIMIT}");
        errors.invalid(path, attributes.len(), detail);
    }
    let at_attributes = path.child("attributes");
    for (name, value) in attributes {
        limits::qualified_name(name, &at_attributes, errors);
        attribute(value, &at_attributes.key(&shortened(name, KEY_LENGTH)), errors);
    }
    let shared = device.bool_at("allowMultipleAllocations");
    let at_capacity = path.child("capacity");
    for (name, value) in capacities {
        limits::qualified_name(name, &at_capacity, errors);
        capacity::validate(value, shared, &at_capacity.key(&shortened(name, KEY_LENGTH)), errors);
    }
    if old.is_none_or(|old| !same(old.at("taints"), device.at("taints"))) {
        each(device.list_at("taints"), TAINTS_LIMIT, &path.child("taints"), errors, taints::taint);
    }
    let list = path.child("consumesCounters");
    let key = |consumption: &Value| consumption.str_at("counterSet").into();
    let consumptions = device.list_at("consumesCounters");
    each_once(consumptions, CONSUMPTIONS_LIMIT, &list, errors, key, |consumption, path, errors| {
        counters(consumption, "counterSet", path, errors);
    });
    place(device, placed, path, errors);
    limits::binding_conditions(device, path, errors);
}

/// A set of counters, or what is taken of one; `name`: the field that names it.
pub fn counters(holder: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match holder.str_at(name) {
        "" => errors.required(&path.child(name), ""),
        set => errors.check(&path.child(name), set, names::dns_label(set)),
    }
    let at_counters = path.child("counters");
    let counters = holder.map_at("counters");
    if counters.is_empty() {
        errors.required(&at_counters, "");
    } else if counters.len() > COUNTERS_LIMIT {
        errors.too_many(&at_counters, counters.len(), COUNTERS_LIMIT as i64);
    } else {
        for name in counters.keys() {
            errors.check(&at_counters, name, names::dns_label(name));
        }
    }
}

/// A key with its middle left out.
fn shortened(key: &str, limit: usize) -> String {
    if key.len() <= limit {
        return key.to_owned();
    }
    let kept = limit - 3;
    let (head, tail) = (kept.div_ceil(2), key.len() - kept / 2);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}...{}", text(&key.as_bytes()[..head]), text(&key.as_bytes()[tail..]))
}

fn attribute(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let too_long = |text: &str, path: &Path<'_>, errors: &mut ErrorList| {
        if text.len() > VALUE_LENGTH {
            errors.too_long(path, VALUE_LENGTH as i64);
        }
    };
    if let Some(text) = value.optional_str("string") {
        too_long(text, &path.child("string"), errors);
    }
    if let Some(text) = value.optional_str("version") {
        if !SEMANTIC_VERSION.as_ref().is_ok_and(|version| version.is_match(text)) {
            errors.invalid(&path.child("version"), text, "must be a string compatible with semver.org spec 2.0.0");
        }
        too_long(text, &path.child("version"), errors);
    }
    const ONE_VALUE: &str = "exactly one value must be specified";
    match SINGLE.iter().filter(|field| value.has(field)).count() {
        0 => errors.invalid(path, "", ONE_VALUE),
        1 => {}
        _ => errors.invalid(path, value.clone(), ONE_VALUE),
    }
}

fn place(device: &Value, placed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    const FIELDS: &[&str] = &["nodeName", "nodeSelector", "allNodes"];
    if !placed {
        if FIELDS.iter().any(|field| device.has(field)) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.invalid(path, Value::Null, detail);
        }
        return;
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let set = node_fields(device, "must not be empty", path, errors);
    match set.len() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", set.join(", ")), ONE),
    }
}

/// The fields by which a slice or a device says where it is.
pub fn node_fields(holder: &Value, empty: &str, path: &Path<'_>, errors: &mut ErrorList) -> Vec<String> {
    let mut set = Vec::new();
    match holder.optional_str("nodeName") {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", empty),
        Some(name) => {
            set.push("`nodeName`".to_owned());
            errors.check(&path.child("nodeName"), name, names::dns_subdomain(name));
        }
    }
    if let Some(selector) = holder.get_set("nodeSelector") {
        set.push("`nodeSelector`".to_owned());
        affinity::node_selector(selector, false, &path.child("nodeSelector"), errors);
    }
    for field in ["allNodes", "perDeviceNodeSelection"] {
        match holder.optional_bool(field) {
            None => {}
            Some(true) => set.push(format!("`{field}`")),
            Some(false) => errors.invalid(&path.child(field), false, "must be either unset or set to true"),
        }
    }
    set
}
