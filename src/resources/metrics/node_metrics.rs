//! NodeMetrics: what a node uses.

use crate::api::Fields;
use crate::resources::{Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

/// The name of who answers.
pub const HANDLER: &str = "nodes.metrics.k8s.io";

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        singular: "".into(),
        verbs: super::VERBS,
        columns: super::columns(),
        strategy: Arc::new(NodeMetrics),
        ..Resource::new(super::GROUP, super::VERSION, "NodeMetrics", "nodes")
    }
}

struct NodeMetrics;

impl Strategy for NodeMetrics {
    fn handler(&self) -> Option<&'static str> {
        Some(HANDLER)
    }

    fn cells(&self, object: &Value, _now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        let usage = object.at("usage");
        Some(super::cells(object, usage.at("cpu").clone(), usage.at("memory").clone()))
    }
}
