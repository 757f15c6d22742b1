//! ConfigMap: text and bytes for pods.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["cm".into()],
        columns: Column::strings(&["Data", "Age"]),
        ..Resource::new("", "v1", "ConfigMap", "configmaps")
    }
}
