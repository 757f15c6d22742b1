//! RoleBinding: gives a role in a namespace.

use crate::resources::{Column, Resource};

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Role", "Age", "+Users", "+Groups", "+ServiceAccounts"]),
        ..Resource::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
    }
}
