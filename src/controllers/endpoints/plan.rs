//! The subsets of an Endpoints object: pure.

use crate::controllers::service_pods::{address, hostname, target_port};
use crate::runtime::views::{Pod, Service};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// More addresses are left out, and an annotation says so.
pub const CAPACITY: usize = 1000;

/// A port as subsets are grouped by it: name, number, protocol, application protocol.
type Port = (Box<str>, i32, Box<str>, Option<Box<str>>);

struct Address {
    ready: bool,
    value: Value,
    ports: Vec<Port>,
}

/// Addresses with the same ports together; true: some were left out.
pub fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<Value>, bool) {
    let family = service.ip_families.first().map_or("IPv4", |family| family);
    let mut addresses: BTreeMap<IpAddr, Address> = BTreeMap::new();
    for pod in pods {
        let counts = !pod.is_terminal() && (service.publish_not_ready_addresses || !pod.meta.is_deleting());
        let Some(ip) = address(pod, family).filter(|_| counts).and_then(|ip| ip.parse::<IpAddr>().ok()) else {
            continue;
        };
        let ports: Vec<Port> = service
            .ports
            .iter()
            .filter_map(|port| {
                Some((port.name.clone(), target_port(pod, port)?, port.protocol.clone(), port.app_protocol.clone()))
            })
            .collect();
        // All its ports have names that this pod does not know.
        if ports.is_empty() && !service.ports.is_empty() {
            continue;
        }
        let ready = service.publish_not_ready_addresses || pod.is_ready();
        addresses.insert(ip, Address { ready, value: entry(service, pod, ip), ports });
    }
    let cut = addresses.len() > CAPACITY;
    if cut {
        // Ready ones stay.
        let mut order: Vec<(bool, IpAddr)> = addresses.iter().map(|(ip, address)| (!address.ready, *ip)).collect();
        order.sort();
        for (_, ip) in order.into_iter().skip(CAPACITY) {
            addresses.remove(&ip);
        }
    }
    let mut groups: BTreeMap<Vec<Port>, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for mut address in addresses.into_values() {
        address.ports.sort();
        let group = groups.entry(address.ports).or_default();
        if address.ready { group.0.push(address.value) } else { group.1.push(address.value) }
    }
    (groups.into_iter().map(|(ports, (ready, not_ready))| subset(ports, ready, not_ready)).collect(), cut)
}

fn entry(service: &Service, pod: &Pod, ip: IpAddr) -> Value {
    let mut entry = json!({
        "ip": ip.to_string(),
        "targetRef": {
            "kind": "Pod", "namespace": &*pod.meta.namespace, "name": &*pod.meta.name, "uid": &*pod.meta.uid,
        },
    });
    if !pod.node.is_empty() {
        entry["nodeName"] = (*pod.node).into();
    }
    if let Some(hostname) = hostname(service, pod) {
        entry["hostname"] = (*hostname).into();
    }
    entry
}

fn subset(ports: Vec<Port>, ready: Vec<Value>, not_ready: Vec<Value>) -> Value {
    let mut subset = Map::new();
    if !ready.is_empty() {
        subset.insert("addresses".to_owned(), ready.into());
    }
    if !not_ready.is_empty() {
        subset.insert("notReadyAddresses".to_owned(), not_ready.into());
    }
    if !ports.is_empty() {
        let ports = ports.into_iter().map(|(name, port, protocol, app_protocol)| {
            let mut value = json!({ "port": port, "protocol": &*protocol });
            if !name.is_empty() {
                value["name"] = (*name).into();
            }
            if let Some(app_protocol) = app_protocol {
                value["appProtocol"] = (*app_protocol).into();
            }
            value
        });
        subset.insert("ports".to_owned(), ports.collect());
    }
    subset.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;

    fn service(publish: bool) -> Service {
        let service = json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "selector": { "app": "web" }, "publishNotReadyAddresses": publish,
                      "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "web" },
                                { "name": "admin", "protocol": "TCP", "port": 81, "targetPort": 9000 }] },
        });
        Service::project(serde_json::from_value(service).expect("a Service"))
    }

    fn pod(ip: &str, ready: &str, port: i32) -> Arc<Pod> {
        let pod = json!({
            "metadata": { "name": ip, "namespace": "default", "uid": ip },
            "spec": { "nodeName": "n1", "containers": [{ "name": "a", "ports": [
                { "name": "web", "containerPort": port, "protocol": "TCP" }] }] },
            "status": { "phase": "Running", "podIP": ip, "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    }

    #[test]
    fn ready_and_not_ready_with_the_same_ports_share_a_subset() {
        let pods = [pod("10.42.0.10", "True", 8080), pod("10.42.0.9", "True", 8080), pod("10.42.0.3", "False", 8080)];
        let (subsets, cut) = subsets(&service(false), &pods);
        assert!(!cut);
        let [subset] = subsets.as_slice() else { panic!("one subset: {subsets:?}") };
        let ips = |field: &str| -> Vec<&str> {
            subset[field].as_array().into_iter().flatten().filter_map(|entry| entry["ip"].as_str()).collect()
        };
        assert_eq!(ips("addresses"), ["10.42.0.9", "10.42.0.10"], "in numeric order");
        assert_eq!(ips("notReadyAddresses"), ["10.42.0.3"]);
        assert_eq!(
            subset["ports"],
            json!([{ "name": "admin", "port": 9000, "protocol": "TCP" }, { "name": "http", "port": 8080, "protocol": "TCP" }])
        );
    }

    #[test]
    fn another_port_number_is_another_subset() {
        let pods = [pod("10.42.0.1", "True", 8080), pod("10.42.0.2", "True", 8081)];
        assert_eq!(subsets(&service(false), &pods).0.len(), 2);
    }

    #[test]
    fn published_addresses_count_as_ready() {
        let (subsets, _) = subsets(&service(true), &[pod("10.42.0.1", "False", 8080)]);
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.42.0.1");
    }

    #[test]
    fn beyond_the_capacity_ready_ones_stay() {
        let mut pods: Vec<_> =
            (0..CAPACITY).map(|number| pod(&format!("10.42.{}.{}", number / 250, number % 250), "True", 80)).collect();
        pods.push(pod("10.41.0.1", "False", 80));
        let (subsets, cut) = subsets(&service(false), &pods);
        assert!(cut);
        assert_eq!(subsets[0].get("notReadyAddresses"), None);
    }
}
