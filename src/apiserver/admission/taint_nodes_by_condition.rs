//! TaintNodesByCondition: a new node takes no pods until it is ready.

use super::{Attributes, Operation, Plugin, is_core, items, list_mut};
use crate::api::{GroupVersionResource, Status};
use async_trait::async_trait;
use serde_json::json;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_core(resource, "nodes")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = attributes.object.as_deref_mut() else { return Ok(()) };
        let known = |taint: &serde_json::Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
        if !items(&node["spec"]["taints"]).iter().any(known)
            && let Some(taints) = list_mut(&mut node["spec"], "taints")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
