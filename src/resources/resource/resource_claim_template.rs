//! ResourceClaimTemplate: the claim that each pod gets for itself.

use super::requests;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Resource, Strategy, cells, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Age"]),
        strategy: Arc::new(ResourceClaimTemplate),
        ..Resource::new("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates")
    }
}

struct ResourceClaimTemplate;

const SPEC: Path<'static> = Path::new("spec");

impl Strategy for ResourceClaimTemplate {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default("metadata", json!({}));
        requests::default(spec.object_mut("spec"));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let template = object.at("spec");
        labels::template(template.at("metadata"), &SPEC.child("metadata"), &mut errors);
        requests::validate(template.at("spec"), &SPEC.child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        errors.immutable(&SPEC, object.at("spec"), old.at("spec"));
        errors
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), cells::age(object, now)])
    }
}
