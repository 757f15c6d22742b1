//! ClusterRoleBinding: gives a ClusterRole everywhere.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        columns: Column::strings(&["Role", "Age", "+Users", "+Groups", "+ServiceAccounts"]),
        ..Resource::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
    }
}
