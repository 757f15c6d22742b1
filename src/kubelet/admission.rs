//! Whether a pod that was bound to this node can run on it: pure.
//!
//! The scheduler has decided already; this guards against what bypasses it (`nodeName` set by
//! hand, a race, a static pod). Reasons and messages are the kubelet's.

use super::pod;
use super::resources::{self, ResourceList};
use super::status::Verdict;
use crate::resources::core::pod_spec::resource_requirements::is_extended;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use std::collections::BTreeMap;

/// The node as pods are measured against it.
pub struct NodeView<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub allocatable: &'a ResourceList,
    /// Extended resources that its object has; one that it lacks is the cluster's, and not the node's to give.
    pub extended: &'a ResourceList,
}

/// None: it fits. `others`: the pods that were admitted before and have not ended.
pub fn refuse<'a>(pod: &Pod, node: &NodeView, others: impl Iterator<Item = &'a Pod> + Clone) -> Option<Verdict> {
    if let Some(verdict) = wrong_system(pod) {
        return Some(verdict);
    }
    if !matches_node(pod, node) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Some(rejected("NodeAffinity", message));
    }
    if let Some(port) = taken_port(pod, others.clone()) {
        let message =
            format!("Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports ({port})");
        return Some(rejected("NodePorts", &message));
    }
    if pod::is_static(pod) {
        return None;
    }
    let count = others.clone().count() as i64;
    let capacity = node.allocatable.get("pods").map_or(i64::MAX, resources::value);
    if count + 1 > capacity {
        return Some(insufficient("pods", 1, count, capacity));
    }
    for resource in requested(pod) {
        let in_units = |milli: i64| if resource == "cpu" { milli } else { (milli + 999) / 1000 };
        let wanted = in_units(resources::pod_total(pod, &resource, false));
        if wanted == 0 {
            continue;
        }
        let used: i64 = others.clone().map(|other| in_units(resources::pod_total(other, &resource, false))).sum();
        let capacity = match node.allocatable.get(&resource).or_else(|| node.extended.get(&resource)) {
            Some(quantity) if resource == "cpu" => resources::milli_value(quantity),
            Some(quantity) => resources::value(quantity),
            None if is_extended(&resource) => continue,
            None => 0,
        };
        if wanted + used > capacity {
            return Some(insufficient(&resource, wanted, used, capacity));
        }
    }
    None
}

fn rejected(reason: &str, message: &str) -> Verdict {
    Verdict {
        reason: reason.to_owned(),
        message: format!("Pod was rejected: {message}"),
        disruption: false,
        rejected: true,
    }
}

fn insufficient(resource: &str, requested: i64, used: i64, capacity: i64) -> Verdict {
    let message = format!(
        "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
    );
    rejected(&format!("OutOf{resource}"), &message)
}

fn wrong_system(pod: &Pod) -> Option<Verdict> {
    let system = pod.spec.as_ref()?.os.as_ref()?.name.as_str();
    (system != "linux")
        .then(|| rejected("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"))
}

fn requested(pod: &Pod) -> Vec<String> {
    let mut names = vec!["cpu".to_owned(), "memory".to_owned(), "ephemeral-storage".to_owned()];
    for (_, container) in pod::all_containers(pod) {
        for name in
            container.resources.iter().flat_map(|resources| resources.requests.iter().flatten()).map(|(name, _)| name)
        {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

fn matches_node(pod: &Pod, node: &NodeView) -> bool {
    let spec = pod::spec(pod);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

/// An empty term matches nothing.
fn matches_term(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| matches_requirement(requirement, node.labels.get(&requirement.key)))
        && fields.iter().all(|requirement| {
            let name = node.name.to_owned();
            requirement.key == "metadata.name" && matches_requirement(requirement, Some(&name))
        })
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |greater: bool| {
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
        match (number(value), number(values.first())) {
            (Some(value), Some(bound)) => {
                if greater {
                    value > bound
                } else {
                    value < bound
                }
            }
            _ => false,
        }
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(true),
        "Lt" => compare(false),
        _ => false,
    }
}

/// (host port, protocol, address) that the pod wants of the node.
fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let mut out = Vec::new();
    for (_, container) in pod::all_containers(pod) {
        for port in container.ports.iter().flatten() {
            if let Some(number) = port.host_port.filter(|&number| number > 0) {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
                out.push((number, protocol, address));
            }
        }
    }
    out
}

fn taken_port<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>) -> Option<i32> {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return None;
    }
    for other in others {
        for (number, protocol, address) in host_ports(other) {
            let clash = wanted.iter().find(|(port, kind, ip)| {
                *port == number && *kind == protocol && (*ip == address || ip == "0.0.0.0" || address == "0.0.0.0")
            });
            if let Some((port, _, _)) = clash {
                return Some(*port);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    fn check(spec: Value, others: &[Pod]) -> String {
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("cores".to_owned(), "4".to_owned())]);
        let allocatable: ResourceList = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")]
            .into_iter()
            .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())))
            .collect();
        let extended = ResourceList::from([("example.com/gpu".to_owned(), Quantity("2".to_owned()))]);
        let node = NodeView { name: "n1", labels: &labels, allocatable: &allocatable, extended: &extended };
        match refuse(&pod(spec), &node, others.iter()) {
            Some(verdict) => format!("{}: {}", verdict.reason, verdict.message),
            None => "fits".to_owned(),
        }
    }

    fn requests(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    #[test]
    fn resources_and_count() {
        assert_eq!(check(requests("2"), &[]), "fits");
        assert_eq!(
            check(requests("1500m"), &[pod(requests("600m"))]),
            "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000"
        );
        let three = vec![pod(json!({"containers": []})); 3];
        assert!(check(json!({"containers": []}), &three).starts_with("OutOfpods: "));
        let device =
            |name: &str, count: &str| json!({"containers": [{"name": "c", "resources": {"requests": {name: count}}}]});
        let gpu = |count| device("example.com/gpu", count);
        assert_eq!(check(gpu("1"), &[pod(gpu("1"))]), "fits");
        assert!(check(gpu("1"), &[pod(gpu("2"))]).starts_with("OutOfexample.com/gpu: "));
        assert_eq!(check(device("example.com/licence", "1"), &[]), "fits", "the cluster's, and not the node's");
        assert!(check(device("hugepages-2Mi", "2Mi"), &[]).starts_with("OutOfhugepages-2Mi: "));
    }

    #[test]
    fn affinity() {
        assert_eq!(check(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &[]), "fits");
        assert!(check(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), &[]).starts_with("NodeAffinity: "));
        let term = |term: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
        };
        let expression = |operator: &str, values: Value| {
            term(json!({"matchExpressions": [{"key": "cores", "operator": operator, "values": values}]}))
        };
        assert_eq!(check(expression("Gt", json!(["3"])), &[]), "fits");
        assert!(check(expression("Lt", json!(["3"])), &[]).starts_with("NodeAffinity"));
        assert!(check(term(json!({})), &[]).starts_with("NodeAffinity"));
        let field = term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}));
        assert_eq!(check(field, &[]), "fits");
    }

    #[test]
    fn host_ports_meet_only_on_the_same_address() {
        let with = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
        let other = [pod(with("192.0.2.1"))];
        assert_eq!(check(with("192.0.2.2"), &other), "fits");
        assert!(check(with("192.0.2.1"), &other).starts_with("NodePorts: "));
        assert!(check(with(""), &other).starts_with("NodePorts: "));
    }
}
