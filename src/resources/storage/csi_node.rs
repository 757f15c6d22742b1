//! CSINode: the storage drivers on a node.

use crate::api::names;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        columns: vec![Column::name(), Column::integer("Drivers"), Column::string("Age")],
        strategy: Arc::new(CsiNode),
        ..Resource::new("storage.k8s.io", "v1", "CSINode", "csinodes")
    }
}

struct CsiNode;

const SPEC: Path<'static> = Path::new("spec");
const NODE_ID_LIMIT: usize = 256;

impl Strategy for CsiNode {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let list = SPEC.child("drivers");
        let mut known = BTreeSet::new();
        for (index, driver) in object.at("spec").list_at("drivers").iter().enumerate() {
            let path = list.index(index);
            validate(driver, &path, &mut errors);
            if !known.insert(driver.str_at("name")) {
                errors.duplicate(&path.child("name"), driver.str_at("name"));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        // A driver may come and go; one that is there stays as it is, its allocatable count aside.
        for before in old.at("spec").list_at("drivers") {
            let drivers = object.at("spec").list_at("drivers").iter();
            for driver in drivers.filter(|driver| driver.str_at("name") == before.str_at("name")) {
                if !["nodeID", "topologyKeys"].iter().all(|field| same(before.at(field), driver.at(field))) {
                    errors.invalid(&SPEC.child("drivers"), driver.clone(), "field is immutable");
                }
            }
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let drivers = object.at("spec").list_at("drivers").len();
        Some(vec![cells::name(object), drivers.into(), cells::age(object, now)])
    }
}

fn validate(driver: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    csi_driver_name(driver.str_at("name"), &path.child("name"), errors);
    let id = driver.str_at("nodeID");
    if id.is_empty() {
        errors.required(&path.child("nodeID"), "");
    }
    if id.len() > NODE_ID_LIMIT {
        errors.invalid(&path.child("nodeID"), id, format!("must be {NODE_ID_LIMIT} characters or less"));
    }
    if let Some(count) = driver.at("allocatable").optional_int("count").filter(|count| *count < 0) {
        errors.invalid(&path.child("allocatable.count"), count, "must be greater than or equal to 0");
    }
    let mut known = BTreeSet::new();
    // Kubernetes names the driver, not the key.
    for key in driver.strs_at("topologyKeys") {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !known.insert(key) {
            errors.duplicate(path, key);
        }
        errors.check(path, key, names::qualified_name(key));
    }
}
