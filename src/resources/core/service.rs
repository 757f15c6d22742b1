//! Service: a stable address before a set of pods.

use crate::resources::{Column, Resource, Subresource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["svc".into()],
        categories: vec!["all".into()],
        status: true,
        subresources: vec![Subresource::proxy("ServiceProxyOptions"), Subresource::status()],
        columns: Column::strings(&["Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"]),
        ..Resource::new("", "v1", "Service", "services")
    }
}
