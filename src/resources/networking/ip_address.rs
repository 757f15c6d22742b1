//! IPAddress: an address of a Service, taken.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ip".into()],
        namespaced: false,
        columns: Column::strings(&["ParentRef"]),
        ..Resource::new("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
    }
}
