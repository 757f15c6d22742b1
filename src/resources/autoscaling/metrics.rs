//! What a HorizontalPodAutoscaler looks at: its metrics, and how they are shown.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report, gvk};
use crate::resources::core::pod_spec::resource_requirements::container_resource_name;
use serde_json::Value;

type Check = fn(&Value, bool, &Path<'_>, &mut ErrorList);

/// What an apiVersion must say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A group and a version.
    Grouped,
    /// A version, with or without a group.
    Any,
    /// It is not looked at.
    Ignored,
}

/// Type, field, check; in the order in which Kubernetes looks at them.
pub const SOURCES: &[(&str, &str, Check)] = &[
    ("Object", "object", object),
    ("External", "external", |source, _, path, errors| external(source, path, errors)),
    ("Pods", "pods", |source, _, path, errors| pods(source, path, errors)),
    ("Resource", "resource", |source, _, path, errors| resource(source, path, errors)),
    ("ContainerResource", "containerResource", |source, _, path, errors| container_resource(source, path, errors)),
];
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const UNKNOWN: &str = "<unknown>";
/// Metrics shown in a Table.
const SHOWN: usize = 2;

/// `lenient`: references were wrong before, and may stay so.
pub fn validate(metrics: &[Value], lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, metric) in metrics.iter().enumerate() {
        let path = path.index(index);
        let kind = metric.str_at("type");
        if kind.is_empty() {
            errors.required(&path.child("type"), "must specify a metric source type");
        }
        errors.one_of(&path.child("type"), kind, TYPES);
        let present: Vec<_> = SOURCES.iter().filter(|(_, field, _)| metric.has(field)).collect();
        if let Some((_, field, check)) = present.first() {
            check(metric.at(field), lenient, &path.child(field), errors);
        }
        match SOURCES.iter().find(|(known, _, _)| *known == kind) {
            Some((_, field, _)) if !metric.has(field) => {
                errors.required(&path.child(field), "must populate information for the given metric source");
            }
            Some(_) => {}
            None => errors.not_supported(&path.child("type"), kind, TYPES),
        }
        if present.len() != 1 {
            for (_, field, _) in present.into_iter().filter(|(known, _, _)| *known != kind) {
                errors.forbidden(&path.child(field), "must populate the given metric source only");
            }
        }
    }
}

/// Why an apiVersion is refused.
pub fn version_error(api_version: &str, wanted: Version) -> Option<String> {
    let (group, version) = gvk::split_api_version(api_version);
    match wanted {
        Version::Ignored => None,
        _ if version.contains('/') => Some(format!("unexpected GroupVersion string: {api_version}")),
        Version::Grouped if group.is_empty() => Some("apiVersion must specify API group".to_owned()),
        _ => None,
    }
}

/// A reference to an object of any version.
pub fn reference(reference: &Value, version: Version, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        match reference.str_at(field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.check(&path.child(field), value, names::path_segment(value)),
        }
    }
    let api_version = reference.str_at("apiVersion");
    if let Some(detail) = version_error(api_version, version) {
        errors.invalid(&path.child("apiVersion"), api_version, detail);
    }
}

fn identifier(metric: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match metric.str_at("name") {
        "" => errors.required(&path.child("name"), "must specify a metric name"),
        name => errors.check(&path.child("name"), name, names::path_segment(name)),
    }
}

fn target(target: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = target.str_at("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(amount) = target.get_set(field).map(Quantity::of).filter(|amount| *amount <= Quantity::ZERO) {
            errors.invalid(&path.child(field), amount.to_string(), "must be positive");
        }
    }
    if let Some(percent) = target.optional_int("averageUtilization").filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}

fn object(source: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let version = if lenient { Version::Ignored } else { Version::Any };
    reference(source.at("describedObject"), version, &path.child("describedObject"), errors);
    identifier(source.at("metric"), &path.child("metric"), errors);
    let path = path.child("target");
    let wanted = source.at("target");
    target(wanted, &path, errors);
    if !wanted.has("value") && !wanted.has("averageValue") {
        errors.required(&path.child("averageValue"), "must set either a target value or averageValue");
    }
}

fn external(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    identifier(source.at("metric"), &path.child("metric"), errors);
    let path = path.child("target");
    let wanted = source.at("target");
    target(wanted, &path, errors);
    match (wanted.has("value"), wanted.has("averageValue")) {
        (false, false) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&path.child("averageValue"), detail);
        }
        (true, true) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&path.child("value"), detail);
        }
        _ => {}
    }
}

fn pods(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    identifier(source.at("metric"), &path.child("metric"), errors);
    let path = path.child("target");
    let wanted = source.at("target");
    target(wanted, &path, errors);
    if !wanted.has("averageValue") {
        errors.required(&path.child("averageValue"), "must specify a positive target averageValue");
    }
}

fn resource(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if source.str_at("name").is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    }
    resource_target(source.at("target"), &path.child("target"), errors);
}

fn container_resource(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match source.str_at("name") {
        "" => errors.required(&path.child("name"), "must specify a resource name"),
        name => container_resource_name(name, &path.child("name"), errors),
    }
    match source.str_at("container") {
        "" => errors.required(&path.child("container"), "must specify a container"),
        name => errors.check(&path.child("container"), name, names::dns_label(name)),
    }
    resource_target(source.at("target"), &path.child("target"), errors);
}

fn resource_target(wanted: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    target(wanted, path, errors);
    match (wanted.has("averageUtilization"), wanted.has("averageValue")) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), detail);
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&path.child("averageValue"), detail);
        }
        _ => {}
    }
}

/// `cpu: 10%/80%, memory: <unknown>/1Gi`: what is and what is wanted.
pub fn shown(autoscaler: &Value) -> String {
    let metrics = autoscaler.at("spec").list_at("metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = autoscaler.at("status").list_at("currentMetrics");
    let texts: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, metric)| one(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    let text = texts.join(", ");
    if metrics.len() > SHOWN { format!("{text} + {} more...", metrics.len() - SHOWN) } else { text }
}

fn one(metric: &Value, current: &Value) -> String {
    let kind = metric.str_at("type");
    let Some((_, field, _)) = SOURCES.iter().find(|(known, _, _)| *known == kind) else {
        return "<unknown type>".to_owned();
    };
    let (wanted, now) = (metric.at(field).at("target"), current.at(field).at("current"));
    let amount = |values: &Value, field: &str| match values.at(field) {
        Value::Null => UNKNOWN.to_owned(),
        Value::String(text) => text.clone(),
        number => format!("{number}%"),
    };
    let name = match *field {
        "resource" | "containerResource" => format!("{}: ", metric.at(field).str_at("name")),
        _ => String::new(),
    };
    let average = if matches!(*field, "object" | "external") { " (avg)" } else { "" };
    if wanted.has("averageValue") {
        format!("{name}{}/{}{average}", amount(now, "averageValue"), amount(wanted, "averageValue"))
    } else if wanted.has("averageUtilization") {
        format!("{name}{}/{}", amount(now, "averageUtilization"), amount(wanted, "averageUtilization"))
    } else {
        format!("{name}{}/{}", amount(now, "value"), amount(wanted, "value"))
    }
}
