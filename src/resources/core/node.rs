//! Node: a machine that runs pods.

use crate::resources::{Column, Resource, Subresource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["no".into()],
        namespaced: false,
        status: true,
        subresources: vec![Subresource::proxy("NodeProxyOptions"), Subresource::status()],
        columns: Column::strings(&[
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ]),
        ..Resource::new("", "v1", "Node", "nodes")
    }
}
