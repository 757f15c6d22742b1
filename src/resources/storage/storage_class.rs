//! StorageClass: how volumes of a kind are provisioned.

use super::parameters;
use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::warnings::deprecated_node_label;
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["sc".into()],
        namespaced: false,
        columns: Column::strings(&["Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"]),
        strategy: Arc::new(StorageClass),
        ..Resource::new("storage.k8s.io", "v1", "StorageClass", "storageclasses")
    }
}

struct StorageClass;

const PROVISIONER: Path<'static> = Path::new("provisioner");
const PARAMETERS: Path<'static> = Path::new("parameters");
const RECLAIM_POLICY: Path<'static> = Path::new("reclaimPolicy");
const BINDING_MODE: Path<'static> = Path::new("volumeBindingMode");
const DEFAULT_CLASS: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Claims without a class get this one.
pub fn is_default(class: &Value) -> bool {
    let annotations = class.at("metadata").at("annotations");
    DEFAULT_CLASS.iter().any(|name| annotations.str_at(name) == "true")
}

impl Strategy for StorageClass {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        object.set_default("reclaimPolicy", "Delete");
        object.set_default("volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        parameters::driver(object.str_at("provisioner"), &PROVISIONER, &mut errors);
        parameters::validate(object.at("parameters"), &PARAMETERS, &mut errors);
        match object.str_at("reclaimPolicy") {
            "" => {}
            policy => errors.one_of(&RECLAIM_POLICY, policy, &["Delete", "Retain"]),
        }
        match object.optional_str("volumeBindingMode") {
            None => errors.required(&BINDING_MODE, ""),
            Some(mode) => errors.one_of(&BINDING_MODE, mode, &["Immediate", "WaitForFirstConsumer"]),
        }
        topologies(object.list_at("allowedTopologies"), &Path::new("allowedTopologies"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        errors.immutable(&PARAMETERS, object.at("parameters"), old.at("parameters"));
        errors.immutable_text(&PROVISIONER, object.at("provisioner"), old.at("provisioner"));
        errors.immutable(&RECLAIM_POLICY, object.at("reclaimPolicy"), old.at("reclaimPolicy"));
        errors.immutable(&BINDING_MODE, object.at("volumeBindingMode"), old.at("volumeBindingMode"));
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (index, term) in object.list_at("allowedTopologies").iter().enumerate() {
            for (place, expression) in term.list_at("matchLabelExpressions").iter().enumerate() {
                if let Some(message) = deprecated_node_label(expression.str_at("key")) {
                    out.push(format!("allowedTopologies[{index}].matchLabelExpressions[{place}].key: {message}"));
                }
            }
        }
        out
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let mark = if is_default(object) { " (default)" } else { "" };
        Some(vec![
            format!("{}{mark}", object.at("metadata").str_at("name")).into(),
            object.str_at("provisioner").into(),
            object.str_at("reclaimPolicy").into(),
            object.str_at("volumeBindingMode").into(),
            object.bool_at("allowVolumeExpansion").into(),
            cells::age(object, now),
        ])
    }
}

fn topologies(terms: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    // Kubernetes compares with as many empty ones as there are terms, too.
    let mut seen: Vec<Vec<(&str, BTreeSet<&str>)>> = vec![Vec::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index);
        let list = path.child("matchLabelExpressions");
        let mut expressions: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (index, expression) in term.list_at("matchLabelExpressions").iter().enumerate() {
            let path = list.index(index);
            let values = path.child("values");
            let mut known = BTreeSet::new();
            if expression.list_at("values").is_empty() {
                errors.required(&values, "");
            }
            for (index, value) in expression.strs_at("values").enumerate() {
                if !known.insert(value) {
                    errors.duplicate(&values.index(index), value);
                }
            }
            let key = expression.str_at("key");
            errors.check(&path.child("key"), key, names::qualified_name(key));
            match expressions.iter_mut().find(|(earlier, _)| *earlier == key) {
                Some(earlier) => {
                    errors.duplicate(&path.child("key"), key);
                    earlier.1 = known;
                }
                None => expressions.push((key, known)),
            }
        }
        expressions.sort();
        for _ in seen.iter().filter(|earlier| **earlier == expressions) {
            errors.duplicate(&list, "");
        }
        seen.push(expressions);
    }
}
