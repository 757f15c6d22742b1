//! ResourceSlice: some of the devices that a driver has.

use crate::api::{ErrorList, Fields, Path, Report, names};
use crate::resources::core::pod_spec::affinity;
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        generation: true,
        columns: Column::strings(&["Node", "Driver", "Pool", "Age"]),
        strategy: Arc::new(ResourceSlice),
        ..Resource::new("resource.k8s.io", "v1", "ResourceSlice", "resourceslices")
    }
}

struct ResourceSlice;

const SPEC: Path<'static> = Path::new("spec");
const DEVICES_LIMIT: usize = 128;
const POOL_NAME_LIMIT: usize = 253;
const ONE_PLACE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

impl Strategy for ResourceSlice {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        let (spec, before) = (object.at("spec"), old.at("spec"));
        for field in ["driver", "nodeName"] {
            errors.immutable(&SPEC.child(field), spec.at(field), before.at(field));
        }
        let pool = |spec: &Value| spec.at("pool").at("name").clone();
        errors.immutable(&SPEC.child("pool.name"), &pool(spec), &pool(before));
        errors
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[
            ("spec.nodeName", |slice| slice.at("spec").str_at("nodeName").to_owned()),
            ("spec.driver", |slice| slice.at("spec").str_at("driver").to_owned()),
        ]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        Some(vec![
            cells::name(object),
            spec.optional_str("nodeName").unwrap_or("<unset>").into(),
            spec.str_at("driver").into(),
            spec.at("pool").str_at("name").into(),
            cells::age(object, now),
        ])
    }
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    csi_driver_name(spec.str_at("driver"), &SPEC.child("driver"), errors);
    pool(spec.at("pool"), &SPEC.child("pool"), errors);
    let places = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let set = places.iter().filter(|field| spec.has(field)).count();
    if set == 0 {
        errors.required(&SPEC, ONE_PLACE);
    } else if set > 1 {
        let detail = format!("{ONE_PLACE}, but multiple fields are set");
        errors.push(crate::api::FieldError::invalid_omitted(&SPEC, detail));
    }
    if let Some(name) = spec.optional_str("nodeName") {
        errors.check(&SPEC.child("nodeName"), name, names::dns_subdomain(name));
    }
    if let Some(selector) = spec.get_set("nodeSelector") {
        affinity::node_selector(selector, false, &SPEC.child("nodeSelector"), errors);
    }
    let list = SPEC.child("devices");
    let devices = spec.list_at("devices");
    if devices.len() > DEVICES_LIMIT {
        errors.too_many(&list, devices.len(), DEVICES_LIMIT as i64);
    }
    let mut known = BTreeSet::new();
    for (index, device) in devices.iter().enumerate() {
        let path = list.index(index);
        let name = device.str_at("name");
        errors.check(&path.child("name"), name, names::dns_label(name));
        if !known.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = pool.str_at("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        if name.len() > POOL_NAME_LIMIT {
            errors.too_long(&path.child("name"), POOL_NAME_LIMIT as i64);
        }
        for part in name.split('/') {
            errors.check(&path.child("name"), part, names::dns_subdomain(part));
        }
    }
    let count = pool.int_at("resourceSliceCount");
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if pool.int_at("generation") < 0 {
        errors.not_negative(&path.child("generation"), pool.int_at("generation"));
    }
}
