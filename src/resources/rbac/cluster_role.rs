//! ClusterRole: what may be done anywhere.

use crate::resources::Resource;

pub fn resource() -> Resource {
    Resource { namespaced: false, ..Resource::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles") }
}
