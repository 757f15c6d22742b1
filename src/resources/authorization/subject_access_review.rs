//! SubjectAccessReview: may somebody do something.

use super::attributes;
use crate::api::{ErrorList, Fields};
use crate::resources::{Resource, Strategy, Verb};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        verbs: &[Verb::Create],
        strategy: Arc::new(SubjectAccessReview),
        ..Resource::new("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews")
    }
}

struct SubjectAccessReview;

impl Strategy for SubjectAccessReview {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        attributes::validate(object.at("spec"), true, &mut errors);
        attributes::empty_metadata(object, &[], "must be empty", &mut errors);
        errors
    }
}
