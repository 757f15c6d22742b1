//! PodResizeValidator: a pod that runs grows no larger than its node.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::field::go_quote;
use crate::api::status::StatusCause;
use crate::api::{Fields, GroupResource, GroupVersionResource, Quantity, Status};
use crate::resources::quota::pod_amounts;
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

pub struct PodResizeValidator {
    storage: Arc<dyn Storage>,
}

impl PodResizeValidator {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }
}

#[async_trait]
impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Update && is_core(resource, "pods") && subresource == "resize"
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (Some(pod), Some(old)) = (attributes.object.as_deref(), attributes.old_object) else { return Ok(()) };
        let name = pod.at("spec").str_at("nodeName");
        // The generation counts changes of the spec.
        let generation = |pod: &Value| pod.at("metadata").int_at("generation");
        if name.is_empty() || generation(pod) == generation(old) {
            return Ok(());
        }
        let Some(entry) = self.storage.get(&Key::new(&GroupResource::new("", "nodes"), "", name)) else {
            return Err(attributes.forbidden(&format!("node {} not found", go_quote(name))));
        };
        let node = entry.body.parse();
        let (reason, cause) = match too_large(pod, &node) {
            _ if !is_linux(&node) => {
                let system = node.at("metadata").at("labels").str_at(SYSTEM);
                let (name, system) = (go_quote(name), go_quote(system));
                let reason = format!("pod resize is only supported on linux nodes, node {name} is {system}");
                (reason, "UnsupportedPlatform")
            }
            None => return Ok(()),
            Some(reason) => (reason, "NodeCapacity"),
        };
        let mut status = attributes.forbidden(&reason);
        let cause = StatusCause { reason: cause.to_owned(), message: String::new(), field: String::new() };
        status.details.get_or_insert_default().causes.push(cause);
        Err(status)
    }
}

const SYSTEM: &str = "kubernetes.io/os";

fn is_linux(node: &Value) -> bool {
    node.at("metadata").at("labels").optional_str(SYSTEM).is_none_or(|system| system == "linux")
}

fn too_large(pod: &Value, node: &Value) -> Option<String> {
    let requests = pod_amounts(pod, "requests");
    let measures: [(&str, fn(&Quantity) -> i64); 2] = [("cpu", Quantity::milli_value), ("memory", Quantity::value)];
    let mut short = Vec::new();
    for (name, measure) in measures {
        let allocatable = Quantity::of(node.at("status").at("allocatable").at(name));
        if let Some(requested) = requests.get(name)
            && *requested > allocatable
        {
            let (requested, allocatable) = (measure(requested), measure(&allocatable));
            short.push(format!("{name}, requested: {requested}, allocatable: {allocatable}"));
        }
    }
    (!short.is_empty()).then(|| format!("node didn't have enough allocatable resources: {}", short.join("; ")))
}
