//! DeviceClass: devices of a kind, chosen by expressions.

use super::{requests, selectors};
use crate::api::{ErrorList, Fields, Path, Report, names};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        generation: true,
        columns: Column::strings(&["Age"]),
        strategy: Arc::new(DeviceClass),
        ..Resource::new("resource.k8s.io", "v1", "DeviceClass", "deviceclasses")
    }
}

struct DeviceClass;

const SPEC: Path<'static> = Path::new("spec");
const CONFIGURATIONS_LIMIT: usize = 32;

impl Strategy for DeviceClass {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        selectors::validate(spec.list_at("selectors"), &SPEC.child("selectors"), &mut errors);
        let list = SPEC.child("config");
        let config = spec.list_at("config");
        if config.len() > CONFIGURATIONS_LIMIT {
            errors.too_many(&list, config.len(), CONFIGURATIONS_LIMIT as i64);
        }
        for (index, config) in config.iter().enumerate() {
            requests::configuration(config, &list.index(index), &mut errors);
        }
        if let Some(name) = spec.optional_str("extendedResourceName") {
            errors.check(&SPEC.child("extendedResourceName"), name, names::qualified_name(name));
        }
        errors
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), cells::age(object, now)])
    }
}
