//! Endpoints: the older form of a Service's backends.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ep".into()],
        columns: Column::strings(&["Endpoints", "Age"]),
        ..Resource::new("", "v1", "Endpoints", "endpoints")
    }
}
