//! RuntimeClass: a pod gets the overhead of its runtime class, and is scheduled where the class runs.

use super::{Attributes, Operation, Plugin, Sources, is_core, text};
use crate::api::field::go_quote;
use crate::api::value::same;
use crate::api::{Fields, FieldsMut, GroupResource, GroupVersionResource, Status, names};
use crate::resources::quota::amounts;
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

pub struct RuntimeClass {
    storage: Arc<dyn Storage>,
}

impl RuntimeClass {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }

    /// The class that the pod names; null: it names none.
    fn class(&self, attributes: &Attributes<'_>) -> Result<Value, Status> {
        let pod = attributes.object.as_deref();
        let Some(name) = pod.and_then(|pod| pod.at("spec").optional_str("runtimeClassName")) else {
            return Ok(Value::Null);
        };
        let key = Key::new(&GroupResource::new("node.k8s.io", "runtimeclasses"), "", name);
        match self.storage.get(&key) {
            Some(entry) => Ok(entry.body.parse()),
            // The client that Kubernetes asks with does not even send such a name.
            None if name.is_empty() => Err(Status::failure(500, "", "resource name may not be empty")),
            None if !names::path_segment(name).is_empty() => Err(Status::failure(500, "", names::refused(name))),
            None => Err(attributes.forbidden(&format!("pod rejected: RuntimeClass {} not found", go_quote(name)))),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const WITHOUT_CLASS: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_core(resource, "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let class = self.class(attributes)?;
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let spec = pod.object_mut("spec");
        let outcome = match class.get_set("overhead") {
            Some(overhead) => set_overhead(spec, overhead.at("podFixed")),
            None => Ok(()),
        };
        let outcome = outcome.and_then(|()| match class.get_set("scheduling") {
            Some(scheduling) => set_scheduling(spec, scheduling),
            None => Ok(()),
        });
        outcome.map_err(|reason| attributes.forbidden(&reason))
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let class = self.class(attributes)?;
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        let own = pod.at("spec").at("overhead");
        match class.get_set("overhead") {
            Some(overhead) if amounts(overhead.at("podFixed")) != amounts(own) => Err(attributes.forbidden(MISMATCH)),
            None if !own.entries().is_empty() => Err(attributes.forbidden(WITHOUT_CLASS)),
            _ => Ok(()),
        }
    }
}

fn set_overhead(spec: &mut Value, fixed: &Value) -> Result<(), String> {
    let own = spec.at("overhead");
    if !own.entries().is_empty() && amounts(own) != amounts(fixed) {
        return Err(MISMATCH.to_owned());
    }
    if !fixed.entries().is_empty() {
        spec.set("overhead", fixed.clone());
    }
    Ok(())
}

fn set_scheduling(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    for (key, value) in scheduling.map_at("nodeSelector") {
        let value = value.as_str().unwrap_or_default();
        match spec.at("nodeSelector").optional_str(key) {
            Some(own) if own != value => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            _ => spec.object_mut("nodeSelector").set(key, value),
        }
    }
    let merged = merge(spec.list_at("tolerations"), scheduling.list_at("tolerations"));
    if !merged.is_empty() {
        spec.set("tolerations", merged);
    }
    Ok(())
}

/// Both lists without those that another one covers.
fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::with_capacity(all.len());
    for (index, toleration) in all.iter().enumerate() {
        let covered = merged.iter().any(|known| covers(known, toleration))
            // Of equals the first stays.
            || all[index + 1..].iter().any(|later| !same(later, toleration) && covers(later, toleration));
        if !covered {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether `wide` tolerates all that `toleration` does.
fn covers(wide: &Value, toleration: &Value) -> bool {
    if same(wide, toleration) {
        return true;
    }
    let exists = text(wide, "/operator") == "Exists";
    let (key, effect) = (text(wide, "/key"), text(wide, "/effect"));
    if text(toleration, "/key") != key && !(key.is_empty() && exists)
        || text(toleration, "/effect") != effect && !effect.is_empty()
    {
        return false;
    }
    if effect == "NoExecute"
        && let Some(most) = wide.optional_int("tolerationSeconds")
        && toleration.optional_int("tolerationSeconds").is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match text(wide, "/operator") {
        "" | "Equal" => text(toleration, "/operator") == "Equal" && text(toleration, "/value") == text(wide, "/value"),
        _ => exists,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wider_toleration_stays() {
        let all = json!({"operator": "Exists"});
        let gpu = json!({"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"});
        let any_gpu = json!({"key": "gpu", "operator": "Exists"});
        let short = json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10});
        let long = json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20});
        for (first, second, merged) in [
            (vec![], vec![gpu.clone()], vec![gpu.clone()]),
            (vec![gpu.clone()], vec![gpu.clone()], vec![gpu.clone()]),
            (vec![gpu.clone()], vec![any_gpu.clone()], vec![any_gpu.clone()]),
            (vec![any_gpu.clone()], vec![gpu.clone()], vec![any_gpu.clone()]),
            (vec![gpu.clone(), short.clone()], vec![all.clone()], vec![all.clone()]),
            (vec![short.clone()], vec![long.clone()], vec![long.clone()]),
            (vec![gpu.clone()], vec![short.clone()], vec![gpu, short]),
        ] {
            assert_eq!(merge(&first, &second), merged);
        }
    }
}
