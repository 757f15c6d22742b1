//! Secret: bytes for pods that are kept from sight.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource { columns: Column::strings(&["Type", "Data", "Age"]), ..Resource::new("", "v1", "Secret", "secrets") }
}
