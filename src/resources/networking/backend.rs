//! What Ingresses point at: a Service or another object.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

pub fn validate(backend: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (backend.get_set("resource"), backend.get_set("service")) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (Some(resource), None) => typed_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => self::service(service, path, errors),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at_service = path.child("service");
    match service.str_at("name") {
        "" => errors.required(&at_service.child("name"), ""),
        name => errors.check(&at_service.child("name"), name, names::dns_label(name)),
    }
    let at_port = at_service.child("port");
    let port = service.at("port");
    match (port.str_at("name"), port.int_at("number")) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => errors.check_number(&at_port.child("number"), number, names::port_number(number)),
        (name, 0) => errors.check(&at_port.child("name"), name, names::port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

/// A reference with a group, to an object of the same namespace.
pub fn typed_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(group) = reference.optional_str("apiGroup") {
        errors.check(&path.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for field in ["kind", "name"] {
        match reference.str_at(field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.check(&path.child(field), value, names::path_segment(value)),
        }
    }
}
