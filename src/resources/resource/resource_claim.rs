//! ResourceClaim: the wish for devices, and what came of it.

use super::{allocation, requests};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["State", "Age"]),
        strategy: Arc::new(ResourceClaim),
        ..Resource::new("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
    }
}

struct ResourceClaim;

const SPEC: Path<'static> = Path::new("spec");

impl Strategy for ResourceClaim {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        requests::default(object.object_mut("spec"));
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        requests::validate(object.at("spec"), &SPEC, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.immutable(&SPEC, object.at("spec"), old.at("spec"));
        errors
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let status = object.at("status");
        let deleted = object.at("metadata").has("deletionTimestamp");
        let mut states = Vec::new();
        if deleted {
            states.push("deleted");
        }
        if status.has("allocation") {
            states.push("allocated");
            if !status.list_at("reservedFor").is_empty() {
                states.push("reserved");
            }
        } else if !deleted {
            states.push("pending");
        }
        Some(vec![cells::name(object), states.join(",").into(), cells::age(object, now)])
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        keep_metadata(object, old);
        allocation::forget_devices(object, old);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        allocation::validate(object, old, &mut errors);
        errors
    }
}
