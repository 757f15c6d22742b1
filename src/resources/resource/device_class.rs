//! DeviceClass: devices of a kind, chosen by expressions.

use super::requests::{self, CONFIGURATIONS_LIMIT};
use super::{limits, selectors};
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::core::pod_spec::resource_requirements::is_extended;
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

impl Strategy for DeviceClass {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    /// The prefix of a name is not looked at: the name that is made of it is.
    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        if prefix { Messages::new() } else { names::dns_subdomain(name) }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        selectors::validate(spec.list_at("selectors"), &SPEC.child("selectors"), &mut errors);
        let list = SPEC.child("config");
        limits::each(spec.list_at("config"), CONFIGURATIONS_LIMIT, &list, &mut errors, requests::configuration);
        if let Some(name) = spec.optional_str("extendedResourceName").filter(|name| !is_extended(name)) {
            errors.invalid(&SPEC.child("extendedResourceName"), name, "must be a valid extended resource name");
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
