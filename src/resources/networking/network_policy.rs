//! NetworkPolicy: who may talk to pods, and whom they may talk to.

use crate::api::ip::Cidr;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::{Column, Resource, Strategy, cells, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["netpol".into()],
        generation: true,
        columns: Column::strings(&["Pod-Selector", "Age"]),
        strategy: Arc::new(NetworkPolicy),
        ..Resource::new("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
    }
}

struct NetworkPolicy;

const SPEC: Path<'static> = Path::new("spec");
const DIRECTIONS: &[(&str, &str)] = &[("ingress", "from"), ("egress", "to")];

impl Strategy for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.object_mut("podSelector");
        for (direction, _) in DIRECTIONS {
            for rule in spec.items_mut(direction) {
                for port in rule.items_mut("ports") {
                    port.set_default("protocol", "TCP");
                }
            }
        }
        if spec.list_at("policyTypes").is_empty() {
            let types =
                if spec.list_at("egress").is_empty() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
            spec.set("policyTypes", types);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        labels::selector(spec.at("podSelector"), false, &SPEC.child("podSelector"), &mut errors);
        for (direction, peers) in DIRECTIONS {
            let list = SPEC.child(direction);
            for (index, rule) in spec.list_at(direction).iter().enumerate() {
                let path = list.index(index);
                let ports = path.child("ports");
                for (index, port) in rule.list_at("ports").iter().enumerate() {
                    self::port(port, &ports.index(index), &mut errors);
                }
                let at_peers = path.child(peers);
                for (index, peer) in rule.list_at(peers).iter().enumerate() {
                    self::peer(peer, &at_peers.index(index), &mut errors);
                }
            }
        }
        let path = SPEC.child("policyTypes");
        if spec.list_at("policyTypes").len() > 2 {
            let types = spec.at("policyTypes").clone();
            errors.invalid(&path, types, "may not specify more than two policyTypes");
            return errors;
        }
        for (index, kind) in spec.strs_at("policyTypes").enumerate() {
            errors.one_of(&path.index(index), kind, &["Ingress", "Egress"]);
        }
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for (index, rule) in object.at("spec").list_at(direction).iter().enumerate() {
                for (place, peer) in rule.list_at(peers).iter().enumerate() {
                    let Some(block) = peer.get_set("ipBlock") else { continue };
                    let at = format!("spec.{direction}[{index}].{peers}[{place}].ipBlock");
                    out.extend(ip::cidr_warnings(&format!("{at}.cidr"), block.str_at("cidr")));
                    for (index, except) in block.strs_at("except").enumerate() {
                        out.extend(ip::cidr_warnings(&format!("{at}.except[{index}]"), except));
                    }
                }
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let selector = cells::selector(object.at("spec").at("podSelector"));
        Some(vec![cells::name(object), selector.into(), cells::age(object, now)])
    }
}

fn port(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(protocol) = port.optional_str("protocol") {
        errors.one_of(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (at_port, at_end) = (path.child("port"), path.child("endPort"));
    let end = port.optional_int("endPort");
    match (port.at("port"), end) {
        (Value::Null, Some(end)) => errors.invalid(&at_end, end, "may not be specified when `port` is not specified"),
        (Value::Null, None) => {}
        (Value::String(name), end) => {
            if let Some(end) = end {
                errors.invalid(&at_end, end, "may not be specified when `port` is non-numeric");
            }
            errors.check(&at_port, name, names::port_name(name));
        }
        (number, end) => {
            let number = number.as_i64().unwrap_or_default();
            errors.check_number(&at_port, number, names::port_number(number));
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&at_end, number, "must be greater than or equal to `port`");
                }
                errors.check_number(&at_end, end, names::port_number(end));
            }
        }
    }
}

fn peer(peer: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get_set(field) {
            selectors += 1;
            labels::selector(selector, false, &path.child(field), errors);
        }
    }
    if let Some(block) = peer.get_set("ipBlock") {
        ip_block(block, &path.child("ipBlock"), errors);
    }
    if selectors == 0 && !peer.has("ipBlock") {
        errors.required(path, "must specify a peer");
    } else if selectors > 0 && peer.has("ipBlock") {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let range = block.str_at("cidr");
    if range.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let messages = ip::legacy_cidr(range);
    let Some(range) = Cidr::parse_sloppy(range).filter(|_| messages.is_empty()) else {
        return errors.check(&path.child("cidr"), range, messages);
    };
    let list = path.child("except");
    for (index, text) in block.strs_at("except").enumerate() {
        let path = list.index(index);
        let messages = ip::legacy_cidr(text);
        let Some(except) = Cidr::parse_sloppy(text).filter(|_| messages.is_empty()) else {
            errors.check(&path, text, messages);
            continue;
        };
        if !range.contains(except.address) || range.prefix >= except.prefix {
            errors.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}
