//! ReplicaSet: keeps a number of equal pods.

use crate::resources::{Column, Resource, Subresource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["rs".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::scale(".spec.selector"), Subresource::status()],
        columns: columns(),
        ..Resource::new("apps", "v1", "ReplicaSet", "replicasets")
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::string("Age"),
        Column::string("Containers").wide(),
        Column::string("Images").wide(),
        Column::string("Selector").wide(),
    ]
}
