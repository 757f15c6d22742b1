//! ResourceSlice: some of the devices that a driver has.

use super::device;
use super::limits::{each_once, named, pool_name};
use crate::api::field::go_quote;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, time};
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::Value;
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
/// Of slices whose devices have taints, or take of counters.
const ADVANCED_DEVICES_LIMIT: usize = 64;
const COUNTER_SETS_LIMIT: usize = 8;
const ONE_PLACE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

impl Strategy for ResourceSlice {
    fn default(&self, object: &mut Value) {
        for device in object.object_mut("spec").items_mut("devices") {
            for taint in device.items_mut("taints") {
                if !taint.has("timeAdded") {
                    taint.set("timeAdded", time::seconds(jiff::Timestamp::now()));
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.object_mut("spec").items_mut("devices").for_each(device::clear_not_served);
    }

    fn prepare_update(&self, object: &mut Value, _: &Value, _: &Context) {
        object.object_mut("spec").items_mut("devices").for_each(device::clear_not_served);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), Some(old.at("spec")), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let driver = object.at("spec").str_at("driver");
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        let shown = go_quote(driver);
        vec![format!("spec.driver: driver names should be lowercase; {shown} contains uppercase characters")]
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

fn validate(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    csi_driver_name(spec.str_at("driver"), &SPEC.child("driver"), errors);
    pool(spec.at("pool"), &SPEC.child("pool"), errors);
    if let Some(before) = old {
        let name = |spec: &Value| spec.at("pool").at("name").clone();
        errors.immutable(&SPEC.child("pool.name"), &name(spec), &name(before));
        for field in ["driver", "nodeName"] {
            errors.immutable(&SPEC.child(field), spec.at(field), before.at(field));
        }
    }
    let places = device::node_fields(spec, "must be either unset or set to a non-empty string", &SPEC, errors);
    if let Some(selector) = spec.get_set("nodeSelector")
        && selector.list_at("nodeSelectorTerms").len() != 1
    {
        let path = SPEC.child("nodeSelector.nodeSelectorTerms");
        let terms = selector.at("nodeSelectorTerms").clone();
        errors.invalid(&path, terms, "must have exactly one node selector term");
    }
    match places.len() {
        0 => errors.required(&SPEC, ONE_PLACE),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", places.join(", "));
            errors.invalid(&SPEC, shown, format!("{ONE_PLACE}, but multiple fields are set"));
        }
    }
    if spec.has("sharedCounters") && spec.has("devices") {
        errors.invalid(&SPEC, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = spec.list_at("devices");
    let limit = if devices.iter().any(device::is_advanced) { ADVANCED_DEVICES_LIMIT } else { DEVICES_LIMIT };
    let placed = spec.bool_at("perDeviceNodeSelection");
    each_once(devices, limit, &SPEC.child("devices"), errors, named, |device, path, errors| {
        let before = old.map(|old| old.list_at("devices")).unwrap_or_default();
        let before = before.iter().find(|before| before.at("name") == device.at("name"));
        device::validate(device, before, placed, path, errors);
    });
    let list = SPEC.child("sharedCounters");
    each_once(spec.list_at("sharedCounters"), COUNTER_SETS_LIMIT, &list, errors, named, |set, path, errors| {
        device::counters(set, "name", path, errors);
    });
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    pool_name(pool.str_at("name"), &path.child("name"), errors);
    let count = pool.int_at("resourceSliceCount");
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    let generation = pool.int_at("generation");
    if generation < 0 {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to zero");
    }
}
