//! Deployment: rolls ReplicaSets from one template to the next.

use crate::resources::{Column, Resource, Subresource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["deploy".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::scale(".spec.selector"), Subresource::status()],
        columns: Column::strings(&["Ready", "Up-to-date", "Available", "Age", "+Containers", "+Images", "+Selector"]),
        ..Resource::new("apps", "v1", "Deployment", "deployments")
    }
}
