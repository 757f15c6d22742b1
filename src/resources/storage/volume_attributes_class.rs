//! VolumeAttributesClass: properties of volumes that may change later.

use super::parameters;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["vac".into()],
        namespaced: false,
        columns: Column::strings(&["DriverName", "Age"]),
        strategy: Arc::new(VolumeAttributesClass),
        ..Resource::new("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses")
    }
}

struct VolumeAttributesClass;

const DRIVER_NAME: Path<'static> = Path::new("driverName");
const PARAMETERS: Path<'static> = Path::new("parameters");

impl Strategy for VolumeAttributesClass {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        parameters::driver(object.str_at("driverName"), &DRIVER_NAME, &mut errors);
        parameters::validate(object.at("parameters"), &PARAMETERS, &mut errors);
        if object.map_at("parameters").is_empty() {
            errors.required(&PARAMETERS, "must contain at least one key/value pair");
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for (path, field) in [(DRIVER_NAME, "driverName"), (PARAMETERS, "parameters")] {
            if !same(object.at(field), old.at(field)) {
                errors.forbidden(&path, format!("updates to {field} are forbidden."));
            }
        }
        errors.extend(self.validate(object));
        errors
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), object.str_at("driverName").into(), cells::age(object, now)])
    }
}
