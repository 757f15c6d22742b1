//! SelfSubjectRulesReview: what may I do in a namespace.

use crate::resources::{Resource, Verb};

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        verbs: &[Verb::Create],
        ..Resource::new("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")
    }
}
