//! The slices of a Service: pure.
//!
//! Endpoints stay in the slice they are in; new ones fill slices that change anyway, then slices
//! with room, then new slices. So a rollout touches few of many slices.

use crate::controllers::service_pods::{address, hostname, target_port};
use crate::controllers::slices::Change;
use crate::runtime::views::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Node, Pod, Service, TargetReference,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Endpoints of one slice.
const CAPACITY: usize = 100;
const ZONE: &str = "topology.kubernetes.io/zone";

/// The content of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub address_type: Box<str>,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
    pub labels: BTreeMap<String, String>,
}

/// Ports to endpoints: pods with another number behind the same named port go to slices of their own.
type Desired = BTreeMap<Vec<EndpointPort>, Vec<Endpoint>>;

pub fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    family: &str,
) -> Desired {
    let mut desired = Desired::new();
    for pod in pods {
        let Some(address) = address(pod, family).filter(|_| !pod.is_terminal()) else { continue };
        let mut ports: Vec<EndpointPort> = service
            .ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone(),
                    protocol: port.protocol.clone(),
                    port: Some(target_port(pod, port)?),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        ports.sort();
        let serving = pod.is_ready();
        let terminating = pod.meta.is_deleting();
        let node = (!pod.node.is_empty()).then(|| node(&pod.node)).flatten();
        desired.entry(ports).or_default().push(Endpoint {
            addresses: vec![address.into()],
            conditions: EndpointConditions {
                ready: Some(service.publish_not_ready_addresses || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            },
            hostname: hostname(service, pod),
            target_ref: Some(TargetReference {
                kind: "Pod".into(),
                namespace: (&*pod.meta.namespace).into(),
                name: (&*pod.meta.name).into(),
                uid: (&*pod.meta.uid).into(),
            }),
            node_name: (!pod.node.is_empty()).then(|| (&*pod.node).into()),
            zone: node.and_then(|node| node.meta.label(ZONE).map(Into::into)),
        });
    }
    desired
}

/// From what is there to what should be, for one address type. `existing`: the slices of this
/// controller for the Service and address type.
pub fn plan(
    address_type: &str,
    labels: &BTreeMap<String, String>,
    mut desired: Desired,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Change<Content>> {
    if desired.is_empty() {
        // A Service without endpoints has one empty slice, so that "none" can be told from "not yet".
        desired.insert(Vec::new(), Vec::new());
    }
    let content = |ports: &[EndpointPort], endpoints: Vec<Endpoint>| Content {
        address_type: address_type.into(),
        ports: ports.to_vec(),
        endpoints,
        labels: labels.clone(),
    };
    let mut changes = Vec::new();
    for slice in existing {
        let mut ports = slice.ports.clone();
        ports.sort();
        if !desired.contains_key(&ports) {
            changes.push(Change::Delete(slice.clone()));
        }
    }
    for (ports, endpoints) in desired {
        let own: Vec<&Arc<EndpointSlice>> = existing
            .iter()
            .filter(|slice| {
                let mut of = slice.ports.clone();
                of.sort();
                of == ports
            })
            .collect();
        let mut left: BTreeMap<String, Endpoint> = BTreeMap::new();
        for endpoint in endpoints {
            left.insert(identity(&endpoint), endpoint);
        }
        let empty = left.is_empty();
        let mut kept: Vec<Vec<Endpoint>> = own
            .iter()
            .map(|slice| slice.endpoints.iter().filter_map(|endpoint| left.remove(&identity(endpoint))).collect())
            .collect();
        let mut left: Vec<Endpoint> = left.into_values().collect();
        let changed = |index: usize, kept: &[Vec<Endpoint>]| {
            kept[index] != own[index].endpoints || own[index].meta.labels != *labels
        };
        for pass in [true, false] {
            for index in 0..own.len() {
                if changed(index, &kept) == pass && !left.is_empty() {
                    let room = CAPACITY.saturating_sub(kept[index].len());
                    let taken = left.split_off(left.len() - room.min(left.len()));
                    kept[index].extend(taken);
                }
            }
        }
        let mut placeholder = empty;
        for (index, endpoints) in kept.iter().enumerate() {
            let slice = own[index];
            if endpoints.is_empty() && !std::mem::take(&mut placeholder) {
                changes.push(Change::Delete(slice.clone()));
            } else if changed(index, &kept) {
                changes.push(Change::Update(slice.clone(), content(&ports, endpoints.clone())));
            }
        }
        while !left.is_empty() || placeholder {
            placeholder = false;
            let rest = left.split_off(left.len().min(CAPACITY));
            changes.push(Change::Create(content(&ports, std::mem::replace(&mut left, rest))));
        }
    }
    changes
}

/// The same endpoint in another state.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().map_or("", |target| &target.uid);
    format!("{target} {}", endpoint.addresses.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;
    use serde_json::{Value, json};

    fn service(change: impl FnOnce(&mut Value)) -> Service {
        let mut service = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "s" },
            "spec": { "selector": { "app": "web" }, "clusterIP": "10.43.0.5",
                      "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "http" }] },
        });
        change(&mut service);
        Service::project(serde_json::from_value(service).expect("a Service"))
    }

    fn pod(number: usize, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": format!("web-{number}"), "namespace": "default", "uid": format!("u{number}") },
            "spec": { "nodeName": "n1", "containers": [
                { "name": "a", "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }] }] },
            "status": { "phase": "Running", "podIP": format!("10.42.0.{number}"),
                        "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        change(&mut pod);
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    }

    fn stored(change: &Change<Content>, number: usize) -> Arc<EndpointSlice> {
        let Change::Create(content) = change else { panic!("creates: {change:?}") };
        let mut slice = EndpointSlice {
            address_type: content.address_type.clone(),
            endpoints: content.endpoints.clone(),
            ports: content.ports.clone(),
            ..EndpointSlice::default()
        };
        slice.meta.name = format!("web-{number}").into();
        slice.meta.labels = content.labels.clone();
        Arc::new(slice)
    }

    fn run(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Vec<Change<Content>> {
        plan("IPv4", &BTreeMap::new(), desired(service, pods, |_| None, "IPv4"), existing)
    }

    #[test]
    fn endpoints_say_what_their_pods_are() {
        let service = service(|_| {});
        let pods = [
            pod(1, |_| {}),
            pod(2, |pod| pod["status"]["conditions"][0]["status"] = "False".into()),
            pod(3, |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()),
            pod(4, |pod| pod["status"]["phase"] = "Failed".into()),
            pod(5, |pod| pod["status"]["podIP"] = "".into()),
        ];
        let desired = desired(&service, &pods, |_| None, "IPv4");
        let (ports, endpoints) = desired.first_key_value().expect("one");
        assert_eq!(ports[0].port, Some(8080));
        let conditions: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let EndpointConditions { ready, serving, terminating } = endpoint.conditions;
                (ready, serving, terminating)
            })
            .collect();
        assert_eq!(
            conditions,
            [
                (Some(true), Some(true), Some(false)),
                (Some(false), Some(false), Some(false)),
                (Some(false), Some(true), Some(true)),
            ]
        );
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let service = service(|_| {});
        let changes = run(&service, &[], &[]);
        assert!(matches!(changes.as_slice(), [Change::Create(content)] if content.endpoints.is_empty()));
        let slice = stored(&changes[0], 1);
        assert_eq!(run(&service, &[], &[slice.clone()]), []);
        // With the first pod it goes, since its ports are others.
        let changes = run(&service, &[pod(1, |_| {})], &[slice.clone()]);
        assert!(matches!(changes.as_slice(), [Change::Delete(_), Change::Create(_)]), "{changes:?}");
    }

    #[test]
    fn slices_are_filled_and_rest() {
        let service = service(|_| {});
        let pods: Vec<_> = (0..250).map(|number| pod(number, |_| {})).collect();
        let changes = run(&service, &pods, &[]);
        let slices: Vec<_> = changes.iter().enumerate().map(|(number, change)| stored(change, number)).collect();
        let sizes: Vec<usize> = slices.iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert_eq!(run(&service, &pods, &slices), [], "a second reconcile changes nothing");
        // One goes, one comes: the slice that lost one takes it.
        let mut moved = pods.clone();
        moved[3] = pod(999, |pod| pod["status"]["podIP"] = "10.42.9.9".into());
        let changes = run(&service, &moved, &slices);
        assert!(matches!(changes.as_slice(), [Change::Update(_, content)] if content.endpoints.len() == 100));
    }

    #[test]
    fn pods_with_another_port_number_get_a_slice_of_their_own() {
        let service = service(|_| {});
        let other = pod(2, |pod| pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090.into());
        assert_eq!(run(&service, &[pod(1, |_| {}), other], &[]).len(), 2);
    }

    #[test]
    fn not_ready_addresses_are_published_on_request() {
        let service = service(|service| service["spec"]["publishNotReadyAddresses"] = true.into());
        let unready = pod(2, |pod| pod["status"]["conditions"][0]["status"] = "False".into());
        let desired = desired(&service, &[unready], |_| None, "IPv4");
        let conditions = desired.values().next().expect("one")[0].conditions;
        assert_eq!((conditions.ready, conditions.serving), (Some(true), Some(false)));
    }
}
