//! PodTemplate: a pod to be.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        generation: true,
        columns: Column::strings(&["Containers", "Images", "Pod Labels"]),
        ..Resource::new("", "v1", "PodTemplate", "podtemplates")
    }
}
