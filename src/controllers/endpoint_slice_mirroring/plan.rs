//! The slices that say what an Endpoints object says: pure.

use crate::api::names;
use crate::client::{kinds, typed};
use crate::controllers::endpoints::Endpoints;
use crate::controllers::ownership::controller_reference;
use crate::controllers::service_pods::LAST_CHANGE;
use crate::controllers::slices::Change;
use crate::runtime::views::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Addresses of one subset; the others are left out, and an event says so.
pub const CAPACITY: usize = 1000;

/// The content of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub address_type: &'static str,
    pub ports: Vec<EndpointPort>,
    /// As on the wire: references to targets keep all their fields.
    pub endpoints: Vec<Value>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Desired {
    pub slices: Vec<Content>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses without a place, those too.
    pub skipped: usize,
}

/// An address and the UID of what it leads to.
type Key<'a> = (&'a str, &'a str);

pub fn desired(subsets: &[Value]) -> Desired {
    let mut addresses: BTreeMap<Key<'_>, &Value> = BTreeMap::new();
    let mut by_port: BTreeMap<Option<EndpointPort>, BTreeMap<Key<'_>, bool>> = BTreeMap::new();
    for subset in subsets {
        let list = |field: &str| subset[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut ports: Vec<_> = list("ports").iter().map(|port| typed::<EndpointPort>(port).ok()).collect();
        if ports.is_empty() {
            ports.push(None);
        }
        for (field, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for address in list(field) {
                let (ip, uid) = (&address["ip"], &address["targetRef"]["uid"]);
                let key = (ip.as_str().unwrap_or_default(), uid.as_str().unwrap_or_default());
                addresses.entry(key).or_insert(address);
                for port in &ports {
                    // Not ready anywhere is not ready.
                    *by_port.entry(port.clone()).or_default().entry(key).or_insert(true) &= ready;
                }
            }
        }
    }
    // Ports with the same addresses go together.
    let mut groups: BTreeMap<BTreeMap<Key<'_>, bool>, Vec<EndpointPort>> = BTreeMap::new();
    for (port, addresses) in by_port {
        groups.entry(addresses).or_default().extend(port);
    }
    let mut desired = Desired::default();
    for (states, ports) in groups {
        let mut families: [(&str, Vec<Value>); 2] = [("IPv4", Vec::new()), ("IPv6", Vec::new())];
        let mut count = 0;
        for ready in [true, false] {
            for (key, _) in states.iter().filter(|(_, is_ready)| **is_ready == ready) {
                if count == CAPACITY {
                    break;
                }
                match key.0.parse::<IpAddr>() {
                    Ok(ip) => {
                        families[usize::from(ip.is_ipv6())].1.push(endpoint(ip, addresses[key], ready));
                        count += 1;
                    }
                    Err(_) => desired.invalid += 1,
                }
            }
        }
        desired.skipped += states.len() - count;
        let filled = families.into_iter().filter(|(_, endpoints)| !endpoints.is_empty());
        desired.slices.extend(filled.map(|(address_type, endpoints)| Content {
            address_type,
            ports: ports.clone(),
            endpoints,
        }));
    }
    desired
}

fn endpoint(ip: IpAddr, address: &Value, ready: bool) -> Value {
    let mut endpoint = json!({ "addresses": [ip.to_string()], "conditions": { "ready": ready } });
    for (field, value) in
        [("hostname", &address["hostname"]), ("nodeName", &address["nodeName"]), ("targetRef", &address["targetRef"])]
    {
        if !value.is_null() && value.as_str() != Some("") {
            endpoint[field] = value.clone();
        }
    }
    endpoint
}

/// From what is there to what should be: one slice for each set of ports and address type.
/// `existing`: the slices of this controller for the Endpoints.
pub fn plan(endpoints: &Endpoints, desired: Vec<Content>, existing: &[Arc<EndpointSlice>]) -> Vec<Change<Value>> {
    let mut labels = endpoints.meta.labels.clone();
    labels.insert(EndpointSlice::SERVICE_LABEL.to_owned(), endpoints.meta.name.to_string());
    labels.insert(EndpointSlice::MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut annotations = endpoints.meta.annotations.clone();
    annotations.retain(|key, _| key != LAST_CHANGE && key != LAST_APPLIED);
    let prefix = format!("{}-", endpoints.meta.name);
    let prefix =
        if names::dns_subdomain(&format!("{prefix}x")).is_empty() { prefix } else { endpoints.meta.name.to_string() };
    let slice = |content: Content| {
        json!({
            "metadata": {
                "generateName": prefix,
                "namespace": &*endpoints.meta.namespace,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [controller_reference(&kinds::ENDPOINTS, &endpoints.meta)],
            },
            "addressType": content.address_type,
            "ports": content.ports,
            "endpoints": content.endpoints,
        })
    };
    let mut left: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    let mut changes = Vec::new();
    let mut missing = Vec::new();
    for content in desired {
        let place = left.iter().position(|slice| {
            let mut ports = slice.ports.clone();
            ports.sort();
            *slice.address_type == *content.address_type && ports == content.ports
        });
        let Some(place) = place else {
            missing.push(content);
            continue;
        };
        let old = left.remove(place);
        let same = old.meta.labels == labels
            && old.meta.annotations == annotations
            && old.meta.is_controlled_by(&endpoints.meta.uid)
            && same_endpoints(&old.endpoints, &content.endpoints);
        if !same {
            changes.push(Change::Update(old.clone(), slice(content)));
        }
    }
    for content in missing {
        // One that would be deleted is used again; its address type never changes.
        match left.iter().position(|slice| *slice.address_type == *content.address_type) {
            Some(place) => changes.push(Change::Update(left.remove(place).clone(), slice(content))),
            None => changes.push(Change::Create(slice(content))),
        }
    }
    changes.extend(left.into_iter().map(|old| Change::Delete(old.clone())));
    changes
}

fn same_endpoints(existing: &[Endpoint], desired: &[Value]) -> bool {
    let by_address = |one: &Endpoint| (one.addresses.clone(), one.target_ref.as_ref().map(|target| target.uid.clone()));
    let mut existing = existing.to_vec();
    let mut desired: Vec<Endpoint> = desired.iter().filter_map(|one| typed(one).ok()).collect();
    existing.sort_by_key(by_address);
    desired.sort_by_key(by_address);
    existing == desired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        let object = json!({
            "metadata": { "name": "db", "namespace": "default", "uid": "e", "labels": { "tier": "back" },
                          "annotations": { LAST_APPLIED: "{}", LAST_CHANGE: "now", "note": "kept" } },
            "subsets": subsets,
        });
        serde_json::from_value(object).expect("Endpoints")
    }

    fn contents(subsets: Value) -> Desired {
        desired(subsets.as_array().expect("a list"))
    }

    /// As the server stores it.
    fn stored(slice: &Value) -> Arc<EndpointSlice> {
        Arc::new(typed(slice).expect("a slice"))
    }

    #[test]
    fn ports_with_the_same_addresses_share_a_slice() {
        let desired = contents(json!([
            { "addresses": [{ "ip": "192.0.2.1" }, { "ip": "192.0.2.2" }],
              "ports": [{ "name": "a", "port": 1, "protocol": "TCP" }, { "name": "b", "port": 2, "protocol": "TCP" }] },
            { "addresses": [{ "ip": "192.0.2.2" }], "notReadyAddresses": [{ "ip": "2001:db8::1" }, { "ip": "no" }],
              "ports": [{ "name": "c", "port": 3, "protocol": "TCP" }] },
        ]));
        let shown: Vec<String> = desired
            .slices
            .iter()
            .map(|slice| {
                let ports: Vec<&str> = slice.ports.iter().map(|port| &*port.name).collect();
                let addresses: Vec<String> = slice
                    .endpoints
                    .iter()
                    .map(|one| format!("{}:{}", one["addresses"][0], one["conditions"]["ready"]))
                    .collect();
                format!("{} {} {}", slice.address_type, ports.join("+"), addresses.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"IPv4 a+b "192.0.2.1":true "192.0.2.2":true"#,
                r#"IPv4 c "192.0.2.2":true"#,
                r#"IPv6 c "2001:db8::1":false"#,
            ]
        );
        assert_eq!((desired.invalid, desired.skipped), (1, 1));
    }

    #[test]
    fn an_address_that_is_not_ready_anywhere_is_not_ready() {
        let desired = contents(json!([
            { "addresses": [{ "ip": "192.0.2.1" }], "notReadyAddresses": [{ "ip": "192.0.2.1" }] },
        ]));
        assert_eq!(desired.slices.len(), 1);
        assert!(desired.slices[0].ports.is_empty());
        assert_eq!(desired.slices[0].endpoints[0]["conditions"]["ready"], false);
    }

    #[test]
    fn a_subset_beyond_the_bound_is_cut() {
        let addresses: Vec<Value> =
            (0..1100).map(|n| json!({ "ip": format!("10.0.{}.{}", n / 250, n % 250) })).collect();
        let desired = contents(json!([{ "addresses": addresses, "ports": [{ "port": 1, "protocol": "TCP" }] }]));
        assert_eq!(desired.slices[0].endpoints.len(), CAPACITY);
        assert_eq!((desired.invalid, desired.skipped), (0, 100));
    }

    #[test]
    fn slices_rest_change_and_are_used_again() {
        let subset = |port: i32, address: &str| {
            json!([{ "addresses": [{ "ip": address, "nodeName": "n1", "hostname": "db-0",
                                     "targetRef": { "kind": "Pod", "name": "db-0", "uid": "p", "fieldPath": "x" } }],
                     "ports": [{ "port": port, "protocol": "TCP" }] }])
        };
        let object = endpoints(subset(5432, "192.0.2.1"));
        let wanted = |subsets: Value| contents(subsets).slices;
        let created = plan(&object, wanted(subset(5432, "192.0.2.1")), &[]);
        let [Change::Create(slice)] = created.as_slice() else { panic!("creates: {created:?}") };
        assert_eq!(slice["endpoints"][0]["targetRef"]["fieldPath"], "x");
        assert_eq!(slice["metadata"]["generateName"], "db-");
        assert_eq!(slice["metadata"]["labels"]["tier"], "back");
        let slice = stored(slice);
        assert_eq!(slice.meta.annotations, BTreeMap::from([("note".to_owned(), "kept".to_owned())]));
        assert_eq!(plan(&object, wanted(subset(5432, "192.0.2.1")), &[slice.clone()]), []);
        let moved = plan(&object, wanted(subset(5432, "192.0.2.9")), &[slice.clone()]);
        assert!(matches!(moved.as_slice(), [Change::Update(..)]), "{moved:?}");
        let other_port = plan(&object, wanted(subset(5433, "192.0.2.1")), &[slice.clone()]);
        assert!(matches!(other_port.as_slice(), [Change::Update(..)]), "{other_port:?}");
        let other_family = plan(&object, wanted(subset(5432, "2001:db8::1")), &[slice.clone()]);
        assert!(matches!(other_family.as_slice(), [Change::Create(_), Change::Delete(_)]), "{other_family:?}");
        assert!(matches!(plan(&object, Vec::new(), &[slice]).as_slice(), [Change::Delete(_)]));
    }
}
