//! LocalSubjectAccessReview: may somebody do something in this namespace.

use super::attributes;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::{Resource, Strategy, Verb};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        verbs: &[Verb::Create],
        strategy: Arc::new(LocalSubjectAccessReview),
        ..Resource::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")
    }
}

struct LocalSubjectAccessReview;

impl Strategy for LocalSubjectAccessReview {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        attributes::validate(spec, true, &mut errors);
        attributes::empty_metadata(object, &["namespace"], "must be empty except for namespace", &mut errors);
        if let Some(resource) = spec.get_set("resourceAttributes") {
            let namespace = resource.str_at("namespace");
            if namespace != object.at("metadata").str_at("namespace") {
                let path = Path::new("spec.resourceAttributes.namespace");
                errors.invalid(&path, namespace, "must match metadata.namespace");
            }
        }
        if let Some(url) = spec.get_set("nonResourceAttributes") {
            let path = Path::new("spec.nonResourceAttributes");
            errors.invalid(&path, url.clone(), "disallowed on this kind of request");
        }
        errors
    }
}
