//! From a name to its records, by the Kubernetes DNS specification 1.1.0: pure.
//!
//! Names come in lower case and without the final dot.

use super::views::{Endpoint, ServiceAddress, ServiceView, SliceView, dashed};
use crate::runtime::Projection;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The version of the specification that `dns-version.<domain>` states.
const SPECIFICATION: &str = "1.1.0";

/// Where the records come from.
pub trait Source: Send + Sync {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceView>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<SliceView>>;
    fn has_namespace(&self, namespace: &str) -> bool;
    /// The Service that owns a cluster address.
    fn service_at(&self, address: Ipv4Addr) -> Option<Arc<ServiceView>>;
    /// The slices that hold an address.
    fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<SliceView>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(Ipv4Addr),
    Alias(String),
    /// Name of the target and port; the weight is the same for all.
    Service {
        target: String,
        port: u16,
    },
    Pointer(String),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Address,
    Service,
    Pointer,
    Text,
    /// A type of which there are no records here (AAAA among them).
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is there; it may have no record of this type.
    Found(Vec<Record>),
    /// The name is of the cluster and is not there.
    Missing,
    /// Not a name of the cluster: ask upstream.
    Elsewhere,
}

/// Answer a question about `name` in the cluster's `domain`.
pub fn answer(source: &dyn Source, domain: &str, name: &str, question: Question) -> Answer {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        return pointer(source, domain, reversed, question);
    }
    if name == domain {
        return Answer::Found(Vec::new());
    }
    let Some(rest) = name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')) else {
        return Answer::Elsewhere;
    };
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        ["dns-version"] => Answer::Found(only(question == Question::Text, Record::Text(SPECIFICATION.to_owned()))),
        // Empty non-terminals are there, without records.
        ["svc" | "pod"] => Answer::Found(Vec::new()),
        [namespace, "svc" | "pod"] => found_if(source.has_namespace(namespace)),
        [address, namespace, "pod"] => pod(source, address, namespace, question),
        [service, namespace, "svc"] => of_service(source, service, namespace, question),
        [first, service, namespace, "svc"] => below(source, first, service, namespace, question),
        [port, protocol, service, namespace, "svc"] => {
            named_port(source, domain, [port, protocol, service, namespace], question)
        }
        _ => Answer::Missing,
    }
}

fn only(wanted: bool, record: Record) -> Vec<Record> {
    if wanted { vec![record] } else { Vec::new() }
}

fn found_if(there: bool) -> Answer {
    if there { Answer::Found(Vec::new()) } else { Answer::Missing }
}

/// `10-42-0-7.default.pod`.
fn pod(source: &dyn Source, address: &str, namespace: &str, question: Question) -> Answer {
    match address.replace('-', ".").parse() {
        Ok(address) if source.has_namespace(namespace) => {
            Answer::Found(only(question == Question::Address, Record::Address(address)))
        }
        _ => Answer::Missing,
    }
}

/// The endpoints that a headless Service shows.
fn shown<'a>(service: &'a ServiceView, slice: &'a SliceView) -> impl Iterator<Item = &'a Endpoint> {
    slice.endpoints.iter().filter(|endpoint| endpoint.ready || service.publish_not_ready)
}

fn of_service(source: &dyn Source, service: &str, namespace: &str, question: Question) -> Answer {
    let Some(view) = source.service(namespace, service) else { return Answer::Missing };
    match &view.address {
        ServiceAddress::Cluster(address) => {
            Answer::Found(only(question == Question::Address, Record::Address(*address)))
        }
        ServiceAddress::External(name) => Answer::Found(vec![Record::Alias(name.clone())]),
        ServiceAddress::Headless => {
            let slices = source.slices(namespace, service);
            let mut addresses: Vec<Ipv4Addr> =
                slices.iter().flat_map(|slice| shown(&view, slice)).map(|endpoint| endpoint.address).collect();
            addresses.sort();
            addresses.dedup();
            if addresses.is_empty() {
                return Answer::Missing;
            }
            if question != Question::Address {
                addresses.clear();
            }
            Answer::Found(addresses.into_iter().map(Record::Address).collect())
        }
    }
}

/// `web-0.web.default.svc`, or the protocol part of a port's name: `_tcp.web.default.svc`.
fn below(source: &dyn Source, first: &str, service: &str, namespace: &str, question: Question) -> Answer {
    let Some(view) = source.service(namespace, service) else { return Answer::Missing };
    if let Some(protocol) = first.strip_prefix('_') {
        return found_if(view.ports.iter().any(|(_, other, _)| other == protocol));
    }
    if view.address != ServiceAddress::Headless {
        return Answer::Missing;
    }
    let slices = source.slices(namespace, service);
    let mut addresses: Vec<Ipv4Addr> = slices
        .iter()
        .flat_map(|slice| shown(&view, slice))
        .filter(|endpoint| endpoint.hostname == first)
        .map(|endpoint| endpoint.address)
        .collect();
    addresses.sort();
    addresses.dedup();
    match addresses.is_empty() {
        true => Answer::Missing,
        false if question != Question::Address => Answer::Found(Vec::new()),
        false => Answer::Found(addresses.into_iter().map(Record::Address).collect()),
    }
}

/// `_http._tcp.web.default.svc`.
fn named_port(source: &dyn Source, domain: &str, labels: [&str; 4], question: Question) -> Answer {
    let [port, protocol, service, namespace] = labels;
    let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
        return Answer::Missing;
    };
    let Some(view) = source.service(namespace, service) else { return Answer::Missing };
    let base = format!("{service}.{namespace}.svc.{domain}");
    let is = |(name, other, number): &(String, String, u16)| (name == port && other == protocol).then_some(*number);
    let mut records = Vec::new();
    match view.address {
        ServiceAddress::Cluster(_) => {
            records.extend(view.ports.iter().find_map(is).map(|port| Record::Service { target: base, port }));
        }
        ServiceAddress::Headless => {
            for slice in source.slices(namespace, service) {
                let Some(port) = slice.ports.iter().find_map(is) else { continue };
                records.extend(
                    shown(&view, &slice)
                        .map(|endpoint| Record::Service { target: format!("{}.{base}", endpoint.hostname), port }),
                );
            }
        }
        ServiceAddress::External(_) => {}
    }
    match records.is_empty() {
        true => Answer::Missing,
        false if question != Question::Service => Answer::Found(Vec::new()),
        false => Answer::Found(records),
    }
}

/// `5.0.43.10` of `5.0.43.10.in-addr.arpa`.
fn pointer(source: &dyn Source, domain: &str, reversed: &str, question: Question) -> Answer {
    let octets: Vec<&str> = reversed.split('.').rev().collect();
    let Ok(address) = octets.join(".").parse::<Ipv4Addr>() else { return Answer::Elsewhere };
    let mut names = Vec::new();
    if let Some(view) = source.service_at(address) {
        names.push(format!("{}.{}.svc.{domain}", view.meta().name, view.meta().namespace));
    } else {
        for slice in source.slices_at(address) {
            let namespace = slice.meta().namespace.to_string();
            let Some(name) = slice.meta().label("kubernetes.io/service-name") else { continue };
            let Some(view) = source.service(&namespace, name).filter(|view| view.address == ServiceAddress::Headless)
            else {
                continue;
            };
            let endpoints = shown(&view, &slice).filter(|endpoint| endpoint.address == address);
            // Only endpoints with a name of their own have one to point at.
            let named = endpoints.filter(|endpoint| endpoint.hostname != dashed(address));
            names.extend(named.map(|endpoint| format!("{}.{name}.{namespace}.svc.{domain}", endpoint.hostname)));
        }
    }
    if names.is_empty() {
        return Answer::Elsewhere;
    }
    let records =
        if question == Question::Pointer { names.into_iter().map(Record::Pointer).collect() } else { Vec::new() };
    Answer::Found(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Fixed {
        services: Vec<Arc<ServiceView>>,
        slices: Vec<Arc<SliceView>>,
    }

    impl Source for Fixed {
        fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceView>> {
            self.services
                .iter()
                .find(|view| (&*view.meta().namespace, &*view.meta().name) == (namespace, name))
                .cloned()
        }
        fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<SliceView>> {
            let of = |slice: &&Arc<SliceView>| {
                &*slice.meta().namespace == namespace
                    && slice.meta().label("kubernetes.io/service-name") == Some(service)
            };
            self.slices.iter().filter(of).cloned().collect()
        }
        fn has_namespace(&self, namespace: &str) -> bool {
            namespace == "default"
        }
        fn service_at(&self, address: Ipv4Addr) -> Option<Arc<ServiceView>> {
            self.services.iter().find(|view| view.address == ServiceAddress::Cluster(address)).cloned()
        }
        fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<SliceView>> {
            self.slices.iter().filter(|slice| slice.endpoints.iter().any(|e| e.address == address)).cloned().collect()
        }
    }

    fn source() -> Fixed {
        let service = |value| Arc::new(ServiceView::project(serde_json::from_value(value).unwrap()));
        let slice = |value| Arc::new(SliceView::project(serde_json::from_value(value).unwrap()));
        let meta = |name: &str| json!({"name": name, "namespace": "default"});
        Fixed {
            services: vec![
                service(
                    json!({"metadata": meta("web"), "spec": {"clusterIP": "10.43.0.5", "ports": [{"name": "http", "port": 80}]}}),
                ),
                service(
                    json!({"metadata": meta("db"), "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}),
                ),
                service(
                    json!({"metadata": meta("out"), "spec": {"type": "ExternalName", "externalName": "example.com"}}),
                ),
                service(json!({"metadata": meta("empty"), "spec": {"clusterIP": "None"}})),
            ],
            slices: vec![slice(json!({
                "metadata": {"name": "db-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
                "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
                "endpoints": [
                    {"addresses": ["10.42.0.7"], "hostname": "db-0", "conditions": {"ready": true}},
                    {"addresses": ["10.42.0.8"], "conditions": {"ready": true}},
                    {"addresses": ["10.42.0.9"], "hostname": "db-2", "conditions": {"ready": false}},
                ],
            }))],
        }
    }

    fn ask(name: &str, question: Question) -> Answer {
        answer(&source(), "cluster.local", name, question)
    }

    fn address(last: [u8; 4]) -> Record {
        Record::Address(Ipv4Addr::from(last))
    }

    #[test]
    fn services() {
        assert_eq!(
            ask("web.default.svc.cluster.local", Question::Address),
            Answer::Found(vec![address([10, 43, 0, 5])])
        );
        assert_eq!(ask("web.default.svc.cluster.local", Question::Other), Answer::Found(vec![]));
        assert_eq!(ask("nope.default.svc.cluster.local", Question::Address), Answer::Missing);
        assert_eq!(
            ask("out.default.svc.cluster.local", Question::Address),
            Answer::Found(vec![Record::Alias("example.com".into())])
        );
        let both = Answer::Found(vec![address([10, 42, 0, 7]), address([10, 42, 0, 8])]);
        assert_eq!(ask("db.default.svc.cluster.local", Question::Address), both);
        assert_eq!(ask("empty.default.svc.cluster.local", Question::Address), Answer::Missing);
        assert_eq!(ask("www.example.com", Question::Address), Answer::Elsewhere);
        assert_eq!(ask("notcluster.local", Question::Address), Answer::Elsewhere);
    }

    #[test]
    fn endpoints_of_headless_services() {
        assert_eq!(
            ask("db-0.db.default.svc.cluster.local", Question::Address),
            Answer::Found(vec![address([10, 42, 0, 7])])
        );
        assert_eq!(
            ask("10-42-0-8.db.default.svc.cluster.local", Question::Address),
            Answer::Found(vec![address([10, 42, 0, 8])])
        );
        assert_eq!(ask("db-2.db.default.svc.cluster.local", Question::Address), Answer::Missing);
        assert_eq!(ask("web-0.web.default.svc.cluster.local", Question::Address), Answer::Missing);
    }

    #[test]
    fn ports() {
        let web = Record::Service { target: "web.default.svc.cluster.local".into(), port: 80 };
        assert_eq!(ask("_http._tcp.web.default.svc.cluster.local", Question::Service), Answer::Found(vec![web]));
        assert_eq!(ask("_http._udp.web.default.svc.cluster.local", Question::Service), Answer::Missing);
        assert_eq!(ask("_tcp.web.default.svc.cluster.local", Question::Service), Answer::Found(vec![]));
        let Answer::Found(records) = ask("_sql._tcp.db.default.svc.cluster.local", Question::Service) else { panic!() };
        assert_eq!(records[0], Record::Service { target: "db-0.db.default.svc.cluster.local".into(), port: 5432 });
    }

    #[test]
    fn pods_and_pointers() {
        assert_eq!(
            ask("10-42-0-9.default.pod.cluster.local", Question::Address),
            Answer::Found(vec![address([10, 42, 0, 9])])
        );
        assert_eq!(ask("10-42-0-9.other.pod.cluster.local", Question::Address), Answer::Missing);
        let web = Record::Pointer("web.default.svc.cluster.local".into());
        assert_eq!(ask("5.0.43.10.in-addr.arpa", Question::Pointer), Answer::Found(vec![web]));
        let db = Record::Pointer("db-0.db.default.svc.cluster.local".into());
        assert_eq!(ask("7.0.42.10.in-addr.arpa", Question::Pointer), Answer::Found(vec![db]));
        assert_eq!(ask("1.0.0.192.in-addr.arpa", Question::Pointer), Answer::Elsewhere);
        assert_eq!(ask("dns-version.cluster.local", Question::Text), Answer::Found(vec![Record::Text("1.1.0".into())]));
    }
}
