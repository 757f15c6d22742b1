//! PriorityClass: a name for a pod priority.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["pc".into()],
        namespaced: false,
        columns: vec![
            Column::name(),
            Column::integer("Value"),
            Column::boolean("Global-Default"),
            Column::string("Age"),
            Column::string("PreemptionPolicy"),
        ],
        ..Resource::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
    }
}
