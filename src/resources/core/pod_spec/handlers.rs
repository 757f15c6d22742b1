//! Probes and lifecycle hooks: what the kubelet asks a container, and how.

use super::{Scope, one_of_required};
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const SCHEMES: &[&str] = &["HTTP", "HTTPS"];
const PROBE_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

pub fn probes(container: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_set(field) else { continue };
        let path = path.child(field);
        handler(probe, PROBE_HANDLERS, scope, &path, errors);
        for bound in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            errors.not_negative(&path.child(bound), probe.int_at(bound));
        }
        let at_grace = path.child("terminationGracePeriodSeconds");
        let grace = probe.optional_int("terminationGracePeriodSeconds");
        if let Some(grace) = grace.filter(|grace| *grace <= 0) {
            errors.invalid(&at_grace, grace, "must be greater than 0");
        }
        if field == "readinessProbe" {
            if let Some(grace) = grace {
                errors.invalid(&at_grace, grace, "must not be set for readinessProbes");
            }
        } else if probe.int_at("successThreshold") != 1 {
            errors.invalid(&path.child("successThreshold"), probe.int_at("successThreshold"), "must be 1");
        }
    }
}

pub fn lifecycle(container: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let lifecycle = container.at("lifecycle");
    let path = path.child("lifecycle");
    for field in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.get_set(field) {
            handler(hook, HOOK_HANDLERS, scope, &path.child(field), errors);
        }
    }
}

fn handler(holder: &Value, kinds: &[&str], scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let mut count = 0;
    for kind in kinds {
        let Some(action) = holder.get_set(kind) else { continue };
        let path = path.child(kind);
        if count > 0 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        count += 1;
        match *kind {
            "exec" => {
                if action.list_at("command").is_empty() {
                    errors.required(&path.child("command"), "");
                }
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port_number_or_name(action.at("port"), &path.child("port"), errors),
            "grpc" => {
                let port = action.int_at("port");
                errors.check_number(&path.child("port"), port, names::port_number(port));
            }
            _ => sleep(action, scope, &path, errors),
        }
    }
    if count == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if action.str_at("path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port_number_or_name(action.at("port"), &path.child("port"), errors);
    errors.one_of(&path.child("scheme"), action.str_at("scheme"), SCHEMES);
    for header in action.list_at("httpHeaders") {
        let name = header.str_at("name");
        errors.check(&path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

fn sleep(action: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let seconds = action.int_at("seconds");
    if let Some(grace) = scope.grace_period.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(path, seconds, detail);
    }
}

/// An IntOrString that names a port.
pub fn port_number_or_name(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match port.as_str() {
        Some(name) => errors.check(path, name, names::port_name(name)),
        None => {
            let number = port.as_i64().unwrap_or_default();
            let messages: Messages = names::port_number(number);
            errors.check_number(path, number, messages);
        }
    }
}

/// Image volumes and containers pull alike.
pub fn pull_policy(holder: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    one_of_required(holder, "pullPolicy", super::containers::PULL_POLICIES, path, errors);
}
