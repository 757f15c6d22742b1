//! PodTopologyLabels: a pod carries the zone and the region of its node.

use super::{Attributes, Operation, Plugin, Sources, is_core, text};
use crate::api::{Fields, FieldsMut, GroupResource, GroupVersionResource, Status};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels {
    storage: Arc<dyn Storage>,
}

impl PodTopologyLabels {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }
}

/// Where the pod goes; empty: nowhere yet.
fn node<'a>(subresource: &str, object: &'a Value) -> &'a str {
    match subresource {
        "binding" if text(object, "/target/kind") == "Node" => text(object, "/target/name"),
        "binding" => "",
        _ => text(object, "/spec/nodeName"),
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && is_core(resource, "pods") && matches!(subresource, "" | "binding")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(object) = attributes.object.as_deref_mut() else { return Ok(()) };
        let node = node(attributes.subresource, object);
        if node.is_empty() {
            return Ok(());
        }
        let Some(entry) = self.storage.get(&Key::new(&GroupResource::new("", "nodes"), "", node)) else {
            return Ok(());
        };
        let node = entry.body.parse();
        for label in LABELS {
            if let Some(value) = node.at("metadata").at("labels").get_set(label) {
                object.object_mut("metadata").object_mut("labels").set(label, value.clone());
            }
        }
        Ok(())
    }
}
