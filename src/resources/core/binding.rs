//! Binding: names the node of a pod; the collection takes what `pods/binding` takes.

use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::{Resource, Strategy, Verb};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource { verbs: &[Verb::Create], strategy: Arc::new(Binding), ..Resource::new("", "v1", "Binding", "bindings") }
}

pub struct Binding;

impl Strategy for Binding {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("target");
        let target = object.at("target");
        let kind = target.str_at("kind");
        if !["", "Node"].contains(&kind) {
            errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
        }
        if target.str_at("name").is_empty() {
            errors.required(&path.child("name"), "");
        }
        errors
    }
}
