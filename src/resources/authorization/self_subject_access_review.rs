//! SelfSubjectAccessReview: may I do something.

use super::attributes;
use crate::api::{ErrorList, Fields};
use crate::resources::{Resource, Strategy, Verb};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        verbs: &[Verb::Create],
        strategy: Arc::new(SelfSubjectAccessReview),
        ..Resource::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
    }
}

struct SelfSubjectAccessReview;

impl Strategy for SelfSubjectAccessReview {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        attributes::validate(object.at("spec"), false, &mut errors);
        attributes::empty_metadata(object, &[], "must be empty", &mut errors);
        errors
    }
}
