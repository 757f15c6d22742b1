//! EndpointSlice: some of a Service's backends.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["AddressType", "Ports", "Endpoints", "Age"]),
        ..Resource::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
    }
}
