//! The requests for devices in a claim or its template.

use super::selectors;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Report, names};
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use serde_json::Value;
use std::collections::BTreeSet;

const REQUESTS_LIMIT: usize = 32;
const ALTERNATIVES_LIMIT: usize = 8;
const MODES: &[&str] = &["All", "ExactCount"];

/// Of the spec of a claim.
pub fn default(spec: &mut Value) {
    for request in spec.object_mut("devices").items_mut("requests") {
        if let Some(exactly) = request.set_mut("exactly") {
            one_default(exactly);
        }
        request.items_mut("firstAvailable").for_each(one_default);
    }
}

fn one_default(request: &mut Value) {
    request.set_default_str("allocationMode", "ExactCount");
    if request.str_at("allocationMode") == "ExactCount" {
        request.set_default_int("count", 1);
    }
    for toleration in request.items_mut("tolerations") {
        toleration.set_default_str("operator", "Equal");
    }
}

pub fn validate(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let devices = spec.at("devices");
    let path = path.child("devices");
    let list = path.child("requests");
    let requests = devices.list_at("requests");
    if requests.len() > REQUESTS_LIMIT {
        errors.too_many(&list, requests.len(), REQUESTS_LIMIT as i64);
    }
    let mut known = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let path = list.index(index);
        self::request(request, &path, errors);
        if !known.insert(request.str_at("name")) {
            errors.duplicate(&path, request.str_at("name"));
        }
    }
    let list = path.child("constraints");
    for (index, constraint) in devices.list_at("constraints").iter().enumerate() {
        let path = list.index(index);
        requests_exist(constraint, &known, &path, errors);
        if !constraint.has("matchAttribute") && !constraint.has("distinctAttribute") {
            errors.required(&path, "exactly one of `matchAttribute` or `distinctAttribute` is required");
        }
    }
    let list = path.child("config");
    for (index, config) in devices.list_at("config").iter().enumerate() {
        let path = list.index(index);
        requests_exist(config, &known, &path, errors);
        configuration(config, &path, errors);
    }
}

fn requests_exist(holder: &Value, known: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, name) in holder.strs_at("requests").enumerate() {
        let main = name.split('/').next().unwrap_or_default();
        if !known.contains(main) {
            let detail =
                "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            errors.invalid(&path.child("requests").index(index), name, detail);
        }
    }
}

/// Parameters for a driver, nobody else's business.
pub fn configuration(config: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("opaque");
    match config.get_set("opaque") {
        None => errors.required(&path, ""),
        Some(opaque) => {
            csi_driver_name(opaque.str_at("driver"), &path.child("driver"), errors);
            match opaque.at("parameters") {
                Value::Null => errors.required(&path.child("parameters"), ""),
                Value::Object(_) => {}
                other => {
                    let detail = "parameters must be a valid JSON object";
                    errors.invalid(&path.child("parameters"), other.clone(), detail);
                }
            }
        }
    }
}

fn request(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = request.str_at("name");
    errors.check(&path.child("name"), name, names::dns_label(name));
    match (request.get_set("exactly"), request.list_at("firstAvailable")) {
        (None, []) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(exactly), []) => one(exactly, &path.child("exactly"), errors),
        (None, alternatives) => {
            let list = path.child("firstAvailable");
            if alternatives.len() > ALTERNATIVES_LIMIT {
                errors.too_many(&list, alternatives.len(), ALTERNATIVES_LIMIT as i64);
            }
            let mut known = BTreeSet::new();
            for (index, alternative) in alternatives.iter().enumerate() {
                let path = list.index(index);
                let name = alternative.str_at("name");
                errors.check(&path.child("name"), name, names::dns_label(name));
                if !known.insert(name) {
                    errors.duplicate(&path, name);
                }
                one(alternative, &path, errors);
            }
        }
        (Some(_), _) => errors.push(FieldError::invalid_omitted(
            path,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
    }
}

fn one(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match request.str_at("deviceClassName") {
        "" => errors.required(&path.child("deviceClassName"), ""),
        class => errors.check(&path.child("deviceClassName"), class, names::dns_subdomain(class)),
    }
    selectors::validate(request.list_at("selectors"), &path.child("selectors"), errors);
    let (mode, count) = (request.str_at("allocationMode"), request.int_at("count"));
    let at_count = path.child("count");
    match mode {
        "ExactCount" if count <= 0 => errors.invalid(&at_count, count, "must be greater than zero"),
        "All" if count != 0 => {
            errors.invalid(&at_count, count, "must not be specified when allocationMode is 'All'");
        }
        _ => {}
    }
    errors.one_of(&path.child("allocationMode"), mode, MODES);
}
