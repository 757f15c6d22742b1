//! ExtendedResourceToleration: who asks for a device tolerates the taint of the nodes that have it.

use super::{Attributes, Operation, Plugin, is_write, list_mut};
use crate::api::{Fields, FieldsMut, GroupVersionResource, Status};
use crate::resources::core::pod_spec::resource_requirements::is_extended;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeSet;

pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        is_write(operation, resource, subresource, "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let spec = pod.object_mut("spec");
        let containers = ["containers", "initContainers"].map(|list| spec.list_at(list)).concat();
        let requests = containers.iter().flat_map(|container| container.at("resources").map_at("requests").keys());
        let names: BTreeSet<&String> = requests.filter(|name| is_extended(name)).collect();
        for name in names {
            let toleration = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
            if let Some(list) = list_mut(spec, "tolerations")
                && !list.contains(&toleration)
            {
                list.push(toleration);
            }
        }
        Ok(())
    }
}
