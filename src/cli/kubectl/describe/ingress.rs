//! Ingresses and their classes.

use super::page::{Page, line};
use super::rows::Row::{Annotations, If, Labels, Or, Text};
use super::rows::{NAME, NAMESPACE};
use super::{Lists, Related, Select, service};
use crate::api::Fields;
use crate::client::kinds;
use serde_json::Value;
use std::collections::BTreeSet;

fn inside(ingress: &Value) -> Select {
    Select { namespace: ingress.at("metadata").str_at("namespace").to_owned(), ..Select::default() }
}

pub(super) const RELATED: &[Related] = &[
    Related { name: "services", kind: kinds::SERVICES, select: inside },
    Related { name: "slices", kind: kinds::ENDPOINT_SLICES, select: inside },
];

pub(super) fn print(ingress: &Value, lists: &Lists, page: &mut Page) {
    let spec = ingress.at("spec");
    let balancers = ingress.at("status").at("loadBalancer").list_at("ingress").iter();
    let addresses: BTreeSet<&str> = balancers
        .map(|one| if one.str_at("ip").is_empty() { one.str_at("hostname") } else { one.str_at("ip") })
        .filter(|address| !address.is_empty())
        .collect();
    page.rows(0, ingress, &[NAME, Labels, NAMESPACE]);
    line!(page, 0, "Address:\t{}", addresses.into_iter().collect::<Vec<_>>().join(","));
    page.rows(0, ingress, &[Or("Ingress Class", "/spec/ingressClassName", "<none>")]);
    let default = spec.get_set("defaultBackend");
    let default = default.map_or_else(|| "<default>".to_owned(), |default| backend(default, ingress, lists));
    line!(page, 0, "Default backend:\t{default}");
    if !spec.list_at("tls").is_empty() {
        line!(page, 0, "TLS:");
    }
    for tls in spec.list_at("tls") {
        let hosts = tls.strs_at("hosts").collect::<Vec<_>>().join(",");
        match tls.str_at("secretName") {
            "" => line!(page, 1, "SNI routes {hosts}"),
            secret => line!(page, 1, "{secret} terminates {hosts}"),
        }
    }
    line!(page, 0, "Rules:");
    line!(page, 1, "Host\tPath\tBackends");
    line!(page, 1, "----\t----\t--------");
    let mut rules = spec.list_at("rules").iter().filter(|rule| rule.has("http")).peekable();
    if rules.peek().is_none() {
        line!(page, 1, "*\t*\t{default}");
    }
    for rule in rules {
        line!(page, 1, "{}\t", if rule.str_at("host").is_empty() { "*" } else { rule.str_at("host") });
        for path in rule.at("http").list_at("paths") {
            line!(page, 2, "\t{} \t{}", path.str_at("path"), backend(path.at("backend"), ingress, lists));
        }
    }
    page.rows(0, ingress, &[Annotations]);
}

/// `web:80 (10.42.0.5:8080)`.
fn backend(backend: &Value, ingress: &Value, lists: &Lists) -> String {
    if let Some(resource) = backend.get_set("resource") {
        let group = resource.optional_str("apiGroup").unwrap_or("<none>");
        return format!("APIGroup: {group}, Kind: {}, Name: {}", resource.str_at("kind"), resource.str_at("name"));
    }
    let Some(target) = backend.get_set("service") else { return String::new() };
    let (name, port) = (target.str_at("name"), target.at("port"));
    let number = port.int_at("number");
    let text = if number == 0 { port.str_at("name").to_owned() } else { number.to_string() };
    let named = |object: &&Value| object.at("metadata").str_at("name") == name;
    let Some(found) = lists.items("services").iter().find(named) else {
        return format!("{name}:{text} (<error: services {} not found>)", super::quoted(name));
    };
    let wanted = found.at("spec").list_at("ports").iter().rfind(|one| match number {
        0 => !port.str_at("name").is_empty() && one.str_at("name") == port.str_at("name"),
        number => one.int_at("port") == number,
    });
    let own = |slice: &&Value| {
        slice.at("metadata").at("labels").str_at("kubernetes.io/service-name") == name
            && slice.at("metadata").str_at("namespace") == ingress.at("metadata").str_at("namespace")
    };
    let slices: Vec<&Value> = lists.items("slices").iter().filter(own).collect();
    format!("{name}:{text} ({})", service::endpoints(&slices, wanted.map_or("", |port| port.str_at("name"))))
}

pub(super) fn print_class(class: &Value, _: &Lists, page: &mut Page) {
    page.rows(0, class, &[NAME, Labels, Annotations, Text("Controller", "/spec/controller")]);
    if let Some(parameters) = class.at("spec").get_set("parameters") {
        line!(page, 0, "Parameters:");
        page.rows(1, parameters, &[If("APIGroup", "/apiGroup"), Text("Kind", "/kind"), Text("Name", "/name")]);
    }
}
