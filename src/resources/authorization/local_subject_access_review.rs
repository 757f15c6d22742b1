//! LocalSubjectAccessReview: may somebody do something in this namespace.

use crate::resources::{Resource, Verb};

pub fn resource() -> Resource {
    Resource {
        verbs: &[Verb::Create],
        ..Resource::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")
    }
}
