//! TokenReview: whose token is this.

use crate::resources::{Resource, Verb};

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        verbs: &[Verb::Create],
        ..Resource::new("authentication.k8s.io", "v1", "TokenReview", "tokenreviews")
    }
}
