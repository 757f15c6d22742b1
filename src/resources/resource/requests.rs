//! The requests for devices in a claim or its template.

use super::limits::{self, each, each_once, named};
use super::{selectors, taints};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use serde_json::Value;

const REQUESTS_LIMIT: usize = 32;
const CONSTRAINTS_LIMIT: usize = 32;
pub const CONFIGURATIONS_LIMIT: usize = 32;
const ALTERNATIVES_LIMIT: usize = 8;
/// Bytes of what is a driver's own business.
pub const PARAMETERS_LIMIT: usize = 10 << 10;
const MODES: &[&str] = &["All", "ExactCount"];
const UNKNOWN_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const ONE_KIND: &str = "exactly one of `exactly` or `firstAvailable` is required";

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
    each_once(devices.list_at("requests"), REQUESTS_LIMIT, &list, errors, named, request);
    let list = path.child("constraints");
    each(devices.list_at("constraints"), CONSTRAINTS_LIMIT, &list, errors, |constraint, path, errors| {
        references(constraint, devices, path, errors);
        let by_name = |field| constraint.optional_str(field);
        match (by_name("matchAttribute"), by_name("distinctAttribute")) {
            (Some(name), _) => limits::fully_qualified_name(name, &path.child("matchAttribute"), errors),
            (None, Some(name)) => limits::fully_qualified_name(name, &path.child("distinctAttribute"), errors),
            (None, None) => {
                let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.required(path, detail);
            }
        }
    });
    let list = path.child("config");
    each(devices.list_at("config"), CONFIGURATIONS_LIMIT, &list, errors, |config, path, errors| {
        references(config, devices, path, errors);
        configuration(config, path, errors);
    });
}

/// `requests` of a constraint or a configuration.
pub fn references(holder: &Value, devices: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("requests");
    let key = |name: &Value| name.clone();
    each_once(holder.list_at("requests"), REQUESTS_LIMIT, &list, errors, key, |name, path, errors| {
        reference(name.as_str().unwrap_or_default(), devices, path, errors);
    });
}

/// The name of a request, or of one of its alternatives.
pub fn reference(name: &str, devices: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(path, name, UNKNOWN_REQUEST);
    }
    for part in &parts {
        errors.check(path, part, names::dns_label(part));
    }
    let is_named = |item: &&Value, name: &str| item.str_at("name") == name;
    let request = devices.list_at("requests").iter().rfind(|request| is_named(request, parts[0]));
    let found = match (request, parts.get(1)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(request), Some(part)) => request.list_at("firstAvailable").iter().any(|one| is_named(&one, part)),
    };
    if !found {
        errors.invalid(path, name, UNKNOWN_REQUEST);
    }
}

/// Parameters for a driver, nobody else's business.
pub fn configuration(config: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("opaque");
    match config.get_set("opaque") {
        None => errors.required(&path, ""),
        Some(opaque) => {
            csi_driver_name(opaque.str_at("driver"), &path.child("driver"), errors);
            limits::raw(opaque.at("parameters"), PARAMETERS_LIMIT, &path.child("parameters"), errors);
        }
    }
}

fn request(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = request.str_at("name");
    errors.check(&path.child("name"), name, names::dns_label(name));
    match (request.get_set("exactly"), request.list_at("firstAvailable")) {
        (None, []) => errors.required(path, ONE_KIND),
        (Some(exactly), []) => one(exactly, &path.child("exactly"), errors),
        (None, alternatives) => {
            let list = path.child("firstAvailable");
            each_once(alternatives, ALTERNATIVES_LIMIT, &list, errors, named, |alternative, path, errors| {
                let name = alternative.str_at("name");
                errors.check(&path.child("name"), name, names::dns_label(name));
                one(alternative, path, errors);
            });
        }
        (Some(_), _) => errors.invalid(path, Value::Null, format!("{ONE_KIND}, but multiple fields are set")),
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
    let list = path.child("tolerations");
    each(request.list_at("tolerations"), usize::MAX, &list, errors, taints::toleration);
}
