//! `metrics.k8s.io/v1beta1`: what nodes and pods use at the moment. Never stored: each reply is
//! measured. Not among the built-in rows, since an extension server may serve the group instead.

pub mod node_metrics;
pub mod pod_metrics;

use super::{Column, Resource, Verb};
use crate::api::Fields;
use serde_json::Value;

/// Both, to be added to a registry by who can measure.
pub const RESOURCES: &[fn() -> Resource] = &[node_metrics::resource, pod_metrics::resource];

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

const VERBS: &[Verb] = &[Verb::Get, Verb::List];

fn columns() -> Vec<Column> {
    let quantity = |name| Column { format: "quantity".into(), ..Column::string(name) };
    vec![
        Column { description: "Name of the resource".into(), ..Column::name() },
        quantity("cpu"),
        quantity("memory"),
        Column { format: "duration".into(), ..Column::string("Window") },
    ]
}

fn cells(object: &Value, cpu: Value, memory: Value) -> Vec<Value> {
    vec![object.at("metadata").at("name").clone(), cpu, memory, object.at("window").clone()]
}
