//! What objects count against a ResourceQuota: pure functions of objects and quotas.

use crate::api::{Fields, GroupResource, Quantity, quantity::Format};
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by the names that a quota's `hard` uses.
pub type Amounts = BTreeMap<String, Quantity>;

/// Core resources that are also counted by their own name.
const NAMED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// What pods ask for that a quota bounds without and with its prefix.
const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// `count/deployments.apps`.
pub fn count_name(resource: &GroupResource) -> String {
    if resource.group.is_empty() {
        format!("count/{}", resource.resource)
    } else {
        format!("count/{}.{}", resource.resource, resource.group)
    }
}

/// The resource whose objects a name in `hard` is about.
pub fn resource_of(name: &str) -> GroupResource {
    let core = |plural: &str| GroupResource::new("", plural);
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return GroupResource::new(group, plural);
    }
    if NAMED.contains(&name) {
        return core(name);
    }
    if name.starts_with("services.") {
        return core("services");
    }
    if name == "requests.storage" || name.contains(CLASS_SUFFIX) {
        return core("persistentvolumeclaims");
    }
    core("pods")
}

/// Whether the amount is more than a number of objects: they must be looked at.
pub fn needs_objects(name: &str, spec: &Value) -> bool {
    let scoped = !spec.list_at("scopes").is_empty() || spec.get_set("scopeSelector").is_some();
    let plain = name.starts_with("count/") || NAMED.contains(&name);
    // Pods that are over are counted as objects, not as pods.
    scoped || !plain || name == "pods"
}

/// What one object uses.
pub fn usage(resource: &GroupResource, object: &Value) -> Amounts {
    let mut used = Amounts::from([(count_name(resource), one())]);
    if !resource.group.is_empty() {
        return used;
    }
    let plural = resource.resource.as_str();
    if NAMED.contains(&plural) && plural != "pods" {
        used.insert(plural.to_owned(), one());
    }
    match plural {
        "pods" if is_charged(object) => pod(object, &mut used),
        "services" => service(object, &mut used),
        "persistentvolumeclaims" => claim(object, &mut used),
        _ => {}
    }
    used
}

/// A pod that is over, or should be gone already, uses nothing but its name.
fn is_charged(pod: &Value) -> bool {
    if matches!(pod.at("status").str_at("phase"), "Failed" | "Succeeded") {
        return false;
    }
    let metadata = pod.at("metadata");
    let deleted: Option<jiff::Timestamp> =
        metadata.optional_str("deletionTimestamp").and_then(|text| text.parse().ok());
    match (deleted, metadata.optional_int("deletionGracePeriodSeconds")) {
        (Some(deleted), Some(seconds)) => {
            let end = deleted.checked_add(jiff::SignedDuration::from_secs(seconds));
            end.is_ok_and(|end| jiff::Timestamp::now() <= end)
        }
        _ => true,
    }
}

fn pod(pod: &Value, used: &mut Amounts) {
    used.insert("pods".to_owned(), one());
    for (name, amount) in pod_amounts(pod, "requests") {
        if COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount.clone());
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_amounts(pod, "limits") {
        if COMPUTE.contains(&name.as_str()) {
            used.insert(format!("limits.{name}"), amount);
        }
    }
}

/// What the containers of a pod ask for in all: `requests` or `limits`.
pub fn container_amounts(pod: &Value, field: &str) -> Amounts {
    let spec = pod.at("spec");
    let of = |container: &Value| amounts(container.at("resources").at(field));
    let mut total = Amounts::new();
    for container in spec.list_at("containers") {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.list_at("initContainers") {
        let own = of(container);
        if container.str_at("restartPolicy") == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own);
            raise(&mut starting, &together);
        }
    }
    raise(&mut total, &starting);
    for (name, amount) in amounts(spec.at("resources").at(field)) {
        total.insert(name, amount);
    }
    total
}

/// What a pod takes, the overhead of its runtime included.
pub fn pod_amounts(pod: &Value, field: &str) -> Amounts {
    let mut total = container_amounts(pod, field);
    for (name, amount) in amounts(pod.at("spec").at("overhead")) {
        match total.get_mut(&name) {
            Some(own) => own.add(&amount),
            None if field == "requests" => {
                total.insert(name, amount);
            }
            None => {}
        }
    }
    total
}

pub fn amounts(list: &Value) -> Amounts {
    list.as_object().into_iter().flatten().map(|(name, amount)| (name.clone(), Quantity::of(amount))).collect()
}

pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match total.get_mut(name) {
            Some(own) => own.add(amount),
            None => {
                total.insert(name.clone(), amount.clone());
            }
        }
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if total.get(name).is_none_or(|own| own < amount) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = service.at("spec");
    let count = |number: usize| Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi);
    let ports = spec.list_at("ports");
    let allocates = spec["allocateLoadBalancerNodePorts"] != false;
    let (node_ports, balancers) = match spec.str_at("type") {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if allocates => (ports.len(), 1),
        "LoadBalancer" => (ports.iter().filter(|port| port.optional_int("nodePort").unwrap_or(0) != 0).count(), 1),
        _ => (0, 0),
    };
    used.insert("services.nodeports".to_owned(), count(node_ports));
    used.insert("services.loadbalancers".to_owned(), count(balancers));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let spec = claim.at("spec");
    let class = claim.at("metadata").at("annotations").str_at("volume.beta.kubernetes.io/storage-class");
    let class = if class.is_empty() { spec.str_at("storageClassName") } else { class };
    let storage = spec.at("resources").at("requests").get_set("storage").map(Quantity::of);
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"), one());
    }
    if let Some(storage) = storage {
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), storage.clone());
        }
        used.insert("requests.storage".to_owned(), storage);
    }
}

/// Whether the scopes of a quota take an object in.
pub fn in_scope(spec: &Value, resource: &GroupResource, object: &Value) -> bool {
    let exists = |scope: &str| holds(scope, "Exists", &[], resource, object);
    spec.strs_at("scopes").all(exists)
        && spec.at("scopeSelector").list_at("matchExpressions").iter().all(|requirement| {
            let values: Vec<&str> = requirement.strs_at("values").collect();
            holds(requirement.str_at("scopeName"), requirement.str_at("operator"), &values, resource, object)
        })
}

fn holds(scope: &str, operator: &str, values: &[&str], resource: &GroupResource, object: &Value) -> bool {
    let spec = object.at("spec");
    let class = |name: &str| match operator {
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        "In" => !name.is_empty() && values.contains(&name),
        "NotIn" => !values.contains(&name),
        _ => false,
    };
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") => match scope {
            "Terminating" => is_terminating(object),
            "NotTerminating" => !is_terminating(object),
            "BestEffort" => is_best_effort(spec),
            "NotBestEffort" => !is_best_effort(spec),
            "PriorityClass" => class(spec.str_at("priorityClassName")),
            "CrossNamespacePodAffinity" => crosses_namespaces(spec),
            _ => false,
        },
        ("", "persistentvolumeclaims") if scope == "VolumeAttributesClass" => {
            class(spec.str_at("volumeAttributesClassName"))
        }
        _ => false,
    }
}

pub fn is_terminating(pod: &Value) -> bool {
    pod.at("spec").optional_int("activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(spec: &Value) -> bool {
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|field| {
            let list = amounts(resources.at(field));
            ["cpu", "memory"].iter().any(|name| list.get(*name).is_some_and(|amount| !amount.is_zero()))
        })
    };
    let containers = spec.list_at("containers").iter().chain(spec.list_at("initContainers"));
    !asks(spec.at("resources")) && !containers.map(|container| container.at("resources")).any(asks)
}

fn crosses_namespaces(spec: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = spec.at("affinity").at(kind);
        let required = affinity.list_at("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = affinity.list_at("preferredDuringSchedulingIgnoredDuringExecution").iter();
        required
            .chain(preferred.map(|weighted| weighted.at("podAffinityTerm")))
            .any(|term| !term.list_at("namespaces").is_empty() || term.get_set("namespaceSelector").is_some())
    })
}

/// The compute resources that a quota bounds and a pod's containers do not name:
/// `must specify limits.cpu for: c1,c2; requests.memory for: c1`.
pub fn unspecified(hard: &Amounts, pod: &Value) -> Option<String> {
    let spec = pod.at("spec");
    if spec.get_set("resources").is_some_and(|resources| resources.as_object().is_some_and(|fields| !fields.is_empty()))
    {
        return None;
    }
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in hard.keys() {
        let (field, resource) = match name.split_once('.') {
            Some(("requests", resource)) => ("requests", resource),
            Some(("limits", resource)) => ("limits", resource),
            _ => ("requests", name.as_str()),
        };
        if !matches!(resource, "cpu" | "memory") {
            continue;
        }
        for container in spec.list_at("containers").iter().chain(spec.list_at("initContainers")) {
            if container.at("resources").at(field).get_set(resource).is_none() {
                missing.entry(name).or_default().push(container.str_at("name"));
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let parts = missing.into_iter().map(|(name, mut containers)| {
        containers.sort_unstable();
        containers.dedup();
        format!("{name} for: {}", containers.join(","))
    });
    Some(format!("must specify {}", parts.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str) -> Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu }, "limits": { "cpu": cpu } } })
    }

    #[test]
    fn pods_are_charged_for_what_they_may_need_at_once() {
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({ "spec": {
            "containers": [container("200m"), container("300m")],
            "initContainers": [sidecar, container("700m")],
            "overhead": { "cpu": "10m" },
        }});
        let pods = GroupResource::new("", "pods");
        let used = usage(&pods, &pod);
        assert_eq!(used["requests.cpu"].to_string(), "810m");
        assert_eq!(used["cpu"].to_string(), "810m");
        assert_eq!((used["pods"].value(), used["count/pods"].value()), (1, 1));
        let over = json!({ "spec": pod["spec"], "status": { "phase": "Succeeded" } });
        assert_eq!(usage(&pods, &over).keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn scopes_tell_pods_apart() {
        let pods = GroupResource::new("", "pods");
        let best = json!({ "spec": { "containers": [{ "name": "c" }], "activeDeadlineSeconds": 5 } });
        let other = json!({ "spec": { "containers": [container("1")], "priorityClassName": "high" } });
        for (scope, first, second) in [
            (json!({ "scopes": ["BestEffort"] }), true, false),
            (json!({ "scopes": ["NotBestEffort"] }), false, true),
            (json!({ "scopes": ["Terminating"] }), true, false),
            (json!({ "scopes": ["NotTerminating"] }), false, true),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } }),
                false,
                true,
            ),
            (json!({}), true, true),
        ] {
            assert_eq!((in_scope(&scope, &pods, &best), in_scope(&scope, &pods, &other)), (first, second), "{scope}");
        }
        let hard = amounts(&json!({ "limits.memory": "1", "requests.cpu": "1" }));
        assert_eq!(unspecified(&hard, &other).as_deref(), Some("must specify limits.memory for: c"));
    }
}
