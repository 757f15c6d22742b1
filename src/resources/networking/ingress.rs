//! Ingress: HTTP from outside to Services.

use super::backend;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ing".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["Class", "Hosts", "Address", "Ports", "Age"]),
        strategy: Arc::new(Ingress),
        ..Resource::new("networking.k8s.io", "v1", "Ingress", "ingresses")
    }
}

struct Ingress;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const ABSOLUTE: &str = "must be an absolute path";
/// Hosts shown in a Table.
const SHOWN: usize = 3;
/// Characters of addresses shown in a Table.
const ADDRESS_WIDTH: usize = 16;

impl Strategy for Ingress {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "loadBalancer": {} }));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        validate(spec, None, &mut errors);
        if let (Some(annotation), Some(class)) = (class_annotation(object), spec.optional_str("ingressClassName"))
            && annotation != class
        {
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&Path::new("annotations").child(CLASS_ANNOTATION), annotation, detail);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), Some(old.at("spec")), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let class = object.at("spec").has("ingressClassName");
        if old.is_none() && class_annotation(object).is_some() && !class {
            let text =
                format!("annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead");
            return vec![text];
        }
        Vec::new()
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let ports = if spec.list_at("tls").is_empty() { "80" } else { "80, 443" };
        Some(vec![
            cells::name(object),
            spec.optional_str("ingressClassName").unwrap_or(cells::NONE).into(),
            hosts(spec.list_at("rules")).into(),
            addresses(object).into(),
            ports.into(),
            cells::age(object, now),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let list = STATUS.child("loadBalancer.ingress");
        for (index, ingress) in object.at("status").at("loadBalancer").list_at("ingress").iter().enumerate() {
            let path = list.index(index);
            let (address, hostname) = (ingress.str_at("ip"), ingress.str_at("hostname"));
            if !address.is_empty() {
                errors.check(&path.child("ip"), address, ip::legacy_ip(address));
            }
            if !hostname.is_empty() {
                errors.check(&path.child("hostname"), hostname, names::dns_subdomain(hostname));
                if ip::parse_sloppy(hostname).is_some() {
                    errors.invalid(&path.child("hostname"), hostname, "must be a DNS name, not an IP address");
                }
            }
        }
        errors
    }
}

fn class_annotation(object: &Value) -> Option<&str> {
    object.at("metadata").at("annotations").optional_str(CLASS_ANNOTATION)
}

fn hosts(rules: &[Value]) -> String {
    let named: Vec<&str> =
        rules.iter().map(|rule| rule.str_at("host")).filter(|host| !host.is_empty()).take(SHOWN).collect();
    if named.is_empty() {
        return "*".to_owned();
    }
    let text = named.join(",");
    if named.len() == SHOWN && rules.len() > SHOWN { format!("{text} + {} more...", rules.len() - SHOWN) } else { text }
}

fn addresses(object: &Value) -> String {
    let ingress = object.at("status").at("loadBalancer").list_at("ingress").iter();
    let mut all: Vec<&str> = ingress
        .map(|ingress| match ingress.str_at("ip") {
            "" => ingress.str_at("hostname"),
            address => address,
        })
        .filter(|address| !address.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    let text = all.join(",");
    match text.get(..ADDRESS_WIDTH - 3) {
        Some(head) if text.len() > ADDRESS_WIDTH => format!("{head}..."),
        _ => text,
    }
}

fn validate(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let rules = spec.list_at("rules");
    if rules.is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&SPEC, spec.at("rules").clone(), detail);
    }
    if let Some(backend) = spec.get_set("defaultBackend") {
        backend::validate(backend, &SPEC.child("defaultBackend"), errors);
    }
    let list = SPEC.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, &list.index(index), errors);
    }
    let list = SPEC.child("tls");
    // An invalid name of a Secret that was there before may stay.
    let secret_name_is_bad =
        |spec: &Value| spec.list_at("tls").iter().any(|tls| !secret_name_errors(tls.str_at("secretName")).is_empty());
    let lenient = old.is_some_and(secret_name_is_bad);
    for (index, tls) in spec.list_at("tls").iter().enumerate() {
        let path = list.index(index);
        let at_hosts = path.child("hosts");
        for (index, host) in tls.strs_at("hosts").enumerate() {
            errors.check(&at_hosts.index(index), host, host_errors(host));
        }
        if !lenient {
            let name = tls.str_at("secretName");
            errors.check(&path.child("secretName"), name, secret_name_errors(name));
        }
    }
    if let Some(class) = spec.optional_str("ingressClassName") {
        errors.check(&SPEC.child("ingressClassName"), class, names::dns_subdomain(class));
    }
}

fn secret_name_errors(name: &str) -> names::Messages {
    if name.is_empty() { names::Messages::new() } else { names::dns_subdomain(name) }
}

fn host_errors(host: &str) -> names::Messages {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns_subdomain(host) }
}

fn rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let host = rule.str_at("host");
    if !host.is_empty() {
        let at_host = path.child("host");
        if ip::parse_sloppy(host).is_some() {
            errors.invalid(&at_host, host, "must be a DNS name, not an IP address");
        }
        errors.check(&at_host, host, host_errors(host));
    }
    let Some(http) = rule.get_set("http") else { return };
    let list = path.child("http.paths");
    if http.list_at("paths").is_empty() {
        errors.required(&list, "");
    }
    for (index, path) in http.list_at("paths").iter().enumerate() {
        http_path(path, &list.index(index), errors);
    }
}

fn http_path(entry: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let text = entry.str_at("path");
    let at_path = path.child("path");
    match entry.optional_str("pathType") {
        None => return errors.required(&path.child("pathType"), "pathType must be specified"),
        Some("Exact" | "Prefix") => {
            if !text.starts_with('/') {
                errors.invalid(&at_path, text, ABSOLUTE);
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                errors.invalid(&at_path, text, format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| text.ends_with(end)) {
                errors.invalid(&at_path, text, format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&at_path, text, ABSOLUTE);
            }
        }
        Some(kind) => errors.not_supported(&path.child("pathType"), kind, PATH_TYPES),
    }
    backend::validate(entry.at("backend"), &path.child("backend"), errors);
}
