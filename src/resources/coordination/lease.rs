//! Lease: who holds what until when.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Holder", "Age"]),
        ..Resource::new("coordination.k8s.io", "v1", "Lease", "leases")
    }
}
