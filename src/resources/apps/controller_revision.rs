//! ControllerRevision: a snapshot of a template.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Controller", "Revision", "Age"]),
        ..Resource::new("apps", "v1", "ControllerRevision", "controllerrevisions")
    }
}
