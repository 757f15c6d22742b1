//! RuntimeClass: a way to run containers.

use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::{Options, defaults, placement, resource_requirements};
use crate::resources::{Column, Resource, Strategy, cells, labels};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        columns: Column::strings(&["Handler", "Age"]),
        strategy: Arc::new(RuntimeClass),
        ..Resource::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
    }
}

struct RuntimeClass;

const HANDLER: Path<'static> = Path::new("handler");
const OVERHEAD: Path<'static> = Path::new("overhead");
const SCHEDULING: Path<'static> = Path::new("scheduling");

impl Strategy for RuntimeClass {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        if let Some(overhead) = object.set_mut("overhead") {
            defaults::resource_list(overhead, "podFixed");
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        match object.str_at("handler") {
            "" => errors.required(&HANDLER, ""),
            handler => errors.check(&HANDLER, handler, names::dns_label(handler)),
        }
        if let Some(overhead) = object.get_set("overhead") {
            let limits = json!({ "limits": overhead.at("podFixed") });
            let options = Options::create(false);
            resource_requirements::container(&limits, &BTreeSet::new(), &OVERHEAD, &options, &mut errors);
        }
        if let Some(scheduling) = object.get_set("scheduling") {
            labels::labels(scheduling.at("nodeSelector"), &SCHEDULING.child("nodeSelector"), &mut errors);
            let path = SCHEDULING.child("tolerations");
            let tolerations = scheduling.list_at("tolerations");
            placement::tolerations(tolerations, &path, &mut errors);
            for (index, toleration) in tolerations.iter().enumerate() {
                if tolerations[..index].contains(toleration) {
                    errors.duplicate(&path.index(index), toleration.clone());
                }
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        errors.immutable_text(&HANDLER, object.at("handler"), old.at("handler"));
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), object.str_at("handler").into(), cells::age(object, now)])
    }
}
