//! Endpoints: the older form of a Service's backends.

use super::endpoint_address;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ep".into()],
        columns: Column::strings(&["Endpoints", "Age"]),
        strategy: Arc::new(Endpoints),
        deprecated: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into()),
        ..Resource::new("", "v1", "Endpoints", "endpoints")
    }
}

struct Endpoints;

const SUBSETS: Path<'static> = Path::new("subsets");
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ADDRESS_LISTS: &[&str] = &["addresses", "notReadyAddresses"];
/// Addresses shown in a Table.
const SHOWN: usize = 3;

impl Strategy for Endpoints {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        for subset in object.items_mut("subsets") {
            for port in subset.items_mut("ports") {
                port.set_default_str("protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for (index, subset) in object.list_at("subsets").iter().enumerate() {
            self::subset(subset, &SUBSETS.index(index), &mut errors);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        if same(object.at("subsets"), old.at("subsets")) { ErrorList::new() } else { self.validate(object) }
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let managed = object.at("metadata").at("labels").str_at("endpoints.kubernetes.io/managed-by");
        if managed == "endpoint-controller" {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (index, subset) in object.list_at("subsets").iter().enumerate() {
            for list in ADDRESS_LISTS {
                for (place, address) in subset.list_at(list).iter().enumerate() {
                    let field = format!("subsets[{index}].{list}[{place}].ip");
                    out.extend(ip::ip_warning(&field, address.str_at("ip")));
                }
            }
        }
        out
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), summary(object).into(), cells::age(object, now)])
    }
}

fn subset(subset: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if ADDRESS_LISTS.iter().all(|list| subset.list_at(list).is_empty()) {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for field in ADDRESS_LISTS {
        let list = path.child(field);
        for (index, address) in subset.list_at(field).iter().enumerate() {
            self::address(address, &list.index(index), errors);
        }
    }
    let list = path.child("ports");
    let ports = subset.list_at("ports");
    for (index, port) in ports.iter().enumerate() {
        self::port(port, ports.len() > 1, &list.index(index), errors);
    }
}

fn address(address: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (text, hostname) = (address.str_at("ip"), address.str_at("hostname"));
    errors.check(&path.child("ip"), text, ip::legacy_ip(text));
    if !hostname.is_empty() {
        errors.check(&path.child("hostname"), hostname, names::dns_label(hostname));
    }
    if let Some(node) = address.optional_str("nodeName") {
        errors.check(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    errors.check(&path.child("ip"), text, endpoint_address::check(text));
}

fn port(port: &Value, needs_name: bool, path: &Path<'_>, errors: &mut ErrorList) {
    match port.str_at("name") {
        "" if needs_name => errors.required(&path.child("name"), ""),
        "" => {}
        name => errors.check(&path.child("name"), name, names::dns_label(name)),
    }
    let number = port.int_at("port");
    errors.check_number(&path.child("port"), number, names::port_number(number));
    super::pod_spec::one_of_required(port, "protocol", PROTOCOLS, path, errors);
    if let Some(protocol) = port.optional_str("appProtocol") {
        errors.check(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

/// `10.0.0.1:80,10.0.0.2:80 + 3 more...`
fn summary(object: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    for subset in object.list_at("subsets") {
        let addresses = || subset.list_at("addresses").iter().map(|address| address.str_at("ip"));
        if subset.list_at("ports").is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in subset.list_at("ports") {
            let number = port.int_at("port");
            all.extend(addresses().map(|address| {
                if address.contains(':') { format!("[{address}]:{number}") } else { format!("{address}:{number}") }
            }));
        }
    }
    if object.list_at("subsets").is_empty() {
        return cells::NONE.to_owned();
    }
    let text = all[..all.len().min(SHOWN)].join(",");
    if all.len() > SHOWN { format!("{text} + {} more...", all.len() - SHOWN) } else { text }
}
