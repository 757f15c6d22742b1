//! PodMetrics: what the containers of a pod use.

use crate::api::Fields;
use crate::api::quantity::{Format, Quantity};
use crate::resources::{Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

/// The name of who answers.
pub const HANDLER: &str = "pods.metrics.k8s.io";

pub fn resource() -> Resource {
    Resource {
        singular: "".into(),
        verbs: super::VERBS,
        columns: super::columns(),
        strategy: Arc::new(PodMetrics),
        ..Resource::new(super::GROUP, super::VERSION, "PodMetrics", "pods")
    }
}

struct PodMetrics;

impl Strategy for PodMetrics {
    fn handler(&self) -> Option<&'static str> {
        Some(HANDLER)
    }

    fn cells(&self, object: &Value, _now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        let sum = |resource: &str, format: Format| {
            let mut sum = Quantity::new(0, format);
            for container in object.list_at("containers") {
                sum.add(&Quantity::of(container.at("usage").at(resource)));
            }
            Value::String(sum.to_string())
        };
        Some(super::cells(object, sum("cpu", Format::DecimalSi), sum("memory", Format::BinarySi)))
    }
}
