//! ComponentStatus: whether a component of the control plane is healthy, looked at when it is asked for.

use crate::api::Fields;
use crate::resources::{Column, Resource, Strategy, Verb, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["cs".into()],
        singular: "componentstatus".into(),
        namespaced: false,
        verbs: &[Verb::Get, Verb::List],
        columns: Column::strings(&["Status", "Message", "Error"]),
        strategy: Arc::new(ComponentStatus),
        deprecated: Some("v1 ComponentStatus is deprecated in v1.19+".into()),
        ..Resource::new("", "v1", "ComponentStatus", "componentstatuses")
    }
}

struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn cells(&self, object: &Value, _now: &cells::Clock) -> Option<Vec<Value>> {
        let healthy = object.list_at("conditions").iter().find(|condition| condition.str_at("type") == "Healthy");
        let (status, message, error) = match healthy {
            Some(condition) => {
                let status = if condition.str_at("status") == "True" { "Healthy" } else { "Unhealthy" };
                (status, condition.str_at("message"), condition.str_at("error"))
            }
            None => ("Unknown", "", ""),
        };
        Some(vec![object.at("metadata").at("name").clone(), status.into(), message.into(), error.into()])
    }
}
