//! ServiceCIDR: a range of Service addresses.

use crate::resources::{Column, Resource, Subresource};

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["CIDRs", "Age"]),
        ..Resource::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
    }
}
