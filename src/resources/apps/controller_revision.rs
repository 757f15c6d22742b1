//! ControllerRevision: a snapshot of a template.

use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path, Report, gvk};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Controller", "Revision", "Age"]),
        strategy: Arc::new(ControllerRevision),
        ..Resource::new("apps", "v1", "ControllerRevision", "controllerrevisions")
    }
}

struct ControllerRevision;

const DATA: Path<'static> = Path::new("data");

impl Strategy for ControllerRevision {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.not_negative(&Path::new("revision"), object.int_at("revision"));
        match object.at("data") {
            Value::Null => errors.required(&DATA, "data is mandatory"),
            Value::Object(_) => {}
            _ => errors.required(&DATA, "data must be a valid JSON object"),
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.not_negative(&Path::new("revision"), object.int_at("revision"));
        if !same(object.at("data"), old.at("data")) {
            errors.invalid(&DATA, object.at("data").clone(), "field is immutable");
        }
        errors
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let owners = object.at("metadata").list_at("ownerReferences");
        let owner = owners.iter().find(|owner| owner.bool_at("controller")).map(|owner| {
            let (group, _) = gvk::split_api_version(owner.str_at("apiVersion"));
            let kind = owner.str_at("kind").to_lowercase();
            let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
            format!("{kind}/{}", owner.str_at("name"))
        });
        Some(vec![
            cells::name(object),
            owner.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            object.int_at("revision").into(),
            cells::age(object, now),
        ])
    }
}
