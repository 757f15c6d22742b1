//! EndpointSlice: some of a Service's backends.

use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::core::endpoint_address;
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        generation: true,
        columns: Column::strings(&["AddressType", "Ports", "Endpoints", "Age"]),
        strategy: Arc::new(EndpointSlice),
        ..Resource::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
    }
}

struct EndpointSlice;

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TOPOLOGY_LIMIT: usize = 16;
const ADDRESSES_LIMIT: usize = 100;
const PORTS_LIMIT: usize = 20000;
const ENDPOINTS_LIMIT: usize = 1000;
const HINTS_LIMIT: usize = 8;
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLERS: &[&str] = &["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
/// Ports and addresses shown in a Table.
const SHOWN: usize = 3;

impl Strategy for EndpointSlice {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        for port in object.items_mut("ports") {
            port.set_default("name", "");
            port.set_default("protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        drop_topology(object, &Value::Null);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        if !same(object.at("metadata").at("labels"), old.at("metadata").at("labels")) {
            let generation = old.at("metadata").int_at("generation") + 1;
            object.object_mut("metadata").set("generation", generation);
        }
        if !same(object.at("endpoints"), old.at("endpoints")) {
            drop_topology(object, old);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, Some(old), &mut errors);
        if object.str_at("addressType") != old.str_at("addressType") {
            errors.invalid(&Path::new("addressType"), object.str_at("addressType"), "field is immutable");
        }
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() && object.str_at("addressType") == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        if CONTROLLERS.contains(&object.at("metadata").at("labels").str_at(MANAGED_BY)) {
            return out;
        }
        for (index, endpoint) in object.list_at("endpoints").iter().enumerate() {
            for (place, address) in endpoint.strs_at("addresses").enumerate() {
                out.extend(ip::ip_warning(&format!("endpoints[{index}].addresses[{place}]"), address));
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let ports = object.list_at("ports").iter().map(|port| match port.optional_int("port") {
            Some(number) => number.to_string(),
            None => port.optional_str("name").unwrap_or("*").to_owned(),
        });
        let endpoints = object.list_at("endpoints").iter();
        let addresses = endpoints.flat_map(|endpoint| endpoint.strs_at("addresses")).map(str::to_owned);
        Some(vec![
            cells::name(object),
            object.str_at("addressType").into(),
            some_of(ports.collect()).into(),
            some_of(addresses.collect()).into(),
            cells::age(object, now),
        ])
    }
}

/// `80,443,8080 + 2 more...`
fn some_of(all: Vec<String>) -> String {
    let text = all[..all.len().min(SHOWN)].join(",");
    match (all.len(), text.is_empty()) {
        (count, _) if count > SHOWN => format!("{text} + {} more...", count - SHOWN),
        (_, true) => "<unset>".to_owned(),
        _ => text,
    }
}

/// Topology is not written any more; a node name in it that was there before is kept as nodeName.
fn drop_topology(object: &mut Value, old: &Value) {
    let known: BTreeSet<&str> = old
        .list_at("endpoints")
        .iter()
        .map(|endpoint| endpoint.at("deprecatedTopology").str_at(HOSTNAME_LABEL))
        .filter(|name| !name.is_empty())
        .collect();
    for endpoint in object.items_mut("endpoints") {
        let node = endpoint.at("deprecatedTopology").str_at(HOSTNAME_LABEL).to_owned();
        if !endpoint.has("nodeName") && known.contains(node.as_str()) && names::dns_subdomain(&node).is_empty() {
            endpoint.set("nodeName", node);
        }
        endpoint.clear("deprecatedTopology");
    }
}

fn validate(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    match object.str_at("addressType") {
        "" => errors.required(&Path::new("addressType"), ""),
        kind => errors.one_of(&Path::new("addressType"), kind, ADDRESS_TYPES),
    }
    ports(object, &Path::new("ports"), errors);
    if !old.is_some_and(|old| same(old.at("endpoints"), object.at("endpoints"))) {
        endpoints(object, &Path::new("endpoints"), errors);
    }
}

fn ports(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let ports = object.list_at("ports");
    if ports.len() > PORTS_LIMIT {
        return errors.too_many(path, ports.len(), PORTS_LIMIT as i64);
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.str_at("name");
        if !name.is_empty() {
            errors.check(&path.child("name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        match port.optional_str("protocol") {
            None => errors.required(&path.child("protocol"), ""),
            Some(protocol) => errors.one_of(&path.child("protocol"), protocol, PROTOCOLS),
        }
        if let Some(protocol) = port.optional_str("appProtocol") {
            errors.check(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn endpoints(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let endpoints = object.list_at("endpoints");
    if endpoints.len() > ENDPOINTS_LIMIT {
        return errors.too_many(path, endpoints.len(), ENDPOINTS_LIMIT as i64);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let list = path.child("addresses");
        match endpoint.list_at("addresses").len() {
            0 => errors.required(&list, "must contain at least 1 address"),
            count if count > ADDRESSES_LIMIT => errors.too_many(&list, count, ADDRESSES_LIMIT as i64),
            _ => {}
        }
        for (index, text) in endpoint.strs_at("addresses").enumerate() {
            address(text, object.str_at("addressType"), &list, index, errors);
        }
        if let Some(node) = endpoint.optional_str("nodeName") {
            errors.check(&path.child("nodeName"), node, names::dns_subdomain(node));
        }
        let topology = endpoint.map_at("deprecatedTopology").len();
        let at_topology = path.child("deprecatedTopology");
        if topology > TOPOLOGY_LIMIT {
            errors.too_many(&at_topology, topology, TOPOLOGY_LIMIT as i64);
        }
        crate::resources::labels::labels(endpoint.at("deprecatedTopology"), &at_topology, errors);
        if let Some(hostname) = endpoint.optional_str("hostname") {
            errors.check(&path.child("hostname"), hostname, names::dns_label(hostname));
        }
        hints(endpoint.at("hints"), &path.child("hints"), errors);
    }
}

fn address(text: &str, kind: &str, list: &Path<'_>, index: usize, errors: &mut ErrorList) {
    let path = list.index(index);
    let (messages, wanted) = match kind {
        "IPv4" => (ip::legacy_ip(text), "must be an IPv4 address"),
        "IPv6" => (ip::ip(text), "must be an IPv6 address"),
        "FQDN" => return domain(text, &path, errors),
        _ => return,
    };
    if !messages.is_empty() {
        return errors.check(&path, text, messages);
    }
    if ip::parse_sloppy(text).is_some_and(|address| address.is_ipv4() != (kind == "IPv4")) {
        errors.invalid(list, text, wanted);
    }
    errors.check(&path, text, endpoint_address::check(text));
}

/// A domain of two labels or more, with or without a dot at its end.
fn domain(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let messages = names::dns_subdomain(name);
    if !messages.is_empty() {
        return errors.invalid(path, name, messages.join(","));
    }
    if !name.contains('.') {
        return errors.invalid(path, name, "should be a domain with at least two segments separated by dots");
    }
    for label in name.split('.') {
        let messages = names::dns_label(label);
        if !messages.is_empty() {
            return errors.invalid(path, label, messages.join(","));
        }
    }
}

fn hints(hints: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let checks: [(&str, fn(&str) -> names::Messages); 2] =
        [("forZones", names::label_value), ("forNodes", names::dns_subdomain)];
    for (field, check) in checks {
        let list = path.child(field);
        let count = hints.list_at(field).len();
        if count > HINTS_LIMIT {
            return errors.too_many(&list, count, HINTS_LIMIT as i64);
        }
        let mut seen = BTreeSet::new();
        for (index, hint) in hints.list_at(field).iter().enumerate() {
            let path = list.index(index);
            let name = hint.str_at("name");
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.check(&path.child("name"), name, check(name));
        }
    }
}
