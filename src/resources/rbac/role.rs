//! Role: what may be done in a namespace.

use crate::resources::Resource;

pub fn resource() -> Resource {
    Resource { ..Resource::new("rbac.authorization.k8s.io", "v1", "Role", "roles") }
}
