//! The quality of service class of a pod.

use super::pod_resources::{Resources, add, read};
use crate::api::{Fields, Quantity};
use serde_json::Value;

const COMPUTE: &[&str] = &["cpu", "memory"];

/// `Guaranteed`: every container has limits for CPU and memory and asks for just that;
/// `BestEffort`: none asks for any; else `Burstable`.
pub fn class(spec: &Value) -> &'static str {
    let (mut requests, mut limits) = (Resources::new(), Resources::new());
    let mut guaranteed = true;
    let mut count = |resources: &Value| {
        add(&mut requests, &compute(resources.at("requests")));
        let own = compute(resources.at("limits"));
        guaranteed &= own.len() == COMPUTE.len();
        add(&mut limits, &own);
    };
    match spec.get_set("resources") {
        // Without limits of its own the pod is not held against those of its containers.
        Some(resources) if resources.map_at("limits").is_empty() => {
            add(&mut requests, &compute(resources.at("requests")));
        }
        Some(resources) => count(resources),
        None => spec
            .list_at("containers")
            .iter()
            .chain(spec.list_at("initContainers"))
            .for_each(|container| count(container.at("resources"))),
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal =
        requests.len() == limits.len() && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}

fn compute(list: &Value) -> Resources {
    let mut resources = read(list);
    resources.retain(|name, amount| COMPUTE.contains(&name.as_str()) && *amount > Quantity::ZERO);
    resources
}
