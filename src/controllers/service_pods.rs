//! How a Service sees its pods: shared by Endpoints and EndpointSlice.

use crate::api::time::seconds;
use crate::runtime::views::{IntOrString, Pod, Service, ServicePort};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const HEADLESS: &str = "service.kubernetes.io/headless";
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Whether labels satisfy a Service's selector.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    service
        .selector
        .as_ref()
        .is_some_and(|selector| selector.iter().all(|(key, value)| pod.meta.label(key) == Some(value)))
}

/// The container port that a service port leads to. None: the pod has no port of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Number(0)) => Some(port.port),
        Some(IntOrString::Number(number)) => Some(*number),
        Some(IntOrString::Text(name)) => pod
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .find(|candidate| {
                let protocol = if candidate.protocol.is_empty() { "TCP" } else { &candidate.protocol };
                *candidate.name == **name && protocol == &*port.protocol
            })
            .map(|candidate| candidate.container_port),
    }
}

/// The pod's own name within the Service's domain.
pub fn hostname(service: &Service, pod: &Pod) -> Option<Box<str>> {
    let named = !pod.hostname.is_empty()
        && *pod.subdomain == *service.meta.name
        && pod.meta.namespace == service.meta.namespace;
    named.then(|| pod.hostname.clone())
}

/// The pod's address of a family.
pub fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    pod.ips.iter().map(|ip| &**ip).find(|ip| ip.contains(':') == (family == "IPv6"))
}

/// Labels that the endpoints of a Service take over.
pub fn labels(service: &Service, reserved: &[&str]) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = service
        .meta
        .labels
        .iter()
        .filter(|(key, _)| !reserved.contains(&key.as_str()) && *key != HEADLESS)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if service.is_headless() {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// When what the endpoints show last changed: the newest readiness change, or the Service's birth.
pub fn last_change(service: &Service, pods: &[Arc<Pod>]) -> Option<String> {
    let readiness = pods.iter().filter_map(|pod| {
        crate::runtime::Condition::find(&pod.conditions, "Ready").and_then(|condition| condition.last_transition_time)
    });
    readiness.chain(service.meta.creation_timestamp).max().map(seconds)
}

/// Whether a change of a pod can change the endpoints of a Service.
pub fn is_relevant(old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    old.meta.labels != new.meta.labels
        || old.ips != new.ips
        || old.node != new.node
        || old.is_ready() != new.is_ready()
        || old.is_terminal() != new.is_terminal()
        || old.meta.is_deleting() != new.meta.is_deleting()
        || old.hostname != new.hostname
        || old.subdomain != new.subdomain
        || old.meta.uid != new.meta.uid
}
