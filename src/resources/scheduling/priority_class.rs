//! PriorityClass: a name for a pod priority.

use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::one_of_required;
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["pc".into()],
        namespaced: false,
        columns: vec![
            Column::name(),
            Column::integer("Value"),
            Column::boolean("Global-Default"),
            Column::string("Age"),
            Column::string("PreemptionPolicy"),
        ],
        strategy: Arc::new(PriorityClass),
        ..Resource::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
    }
}

struct PriorityClass;

const SYSTEM_PREFIX: &str = "system-";
/// The classes that Kubernetes itself has.
pub const SYSTEM_CLASSES: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const USER_LIMIT: i64 = 1_000_000_000;

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        object.set_default("preemptionPolicy", "PreemptLowerPriority");
    }

    /// Nothing but metadata and texts may change, and that is not counted.
    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.object_mut("metadata").set("generation", 1);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (name, value) = (object.at("metadata").str_at("name"), object.int_at("value"));
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(problem) = system_problem(object, name, value) {
                let detail = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
                );
                let path = Path::new("metadata");
                errors.forbidden(&path.child("name"), detail);
            }
        } else if value > USER_LIMIT {
            let detail = format!("maximum allowed value of a user defined priority is {USER_LIMIT}");
            errors.forbidden(&Path::new("value"), detail);
        }
        if object.has("preemptionPolicy") {
            let policies = &["PreemptLowerPriority", "Never"];
            one_of_required(object, "preemptionPolicy", policies, &Path::root(), &mut errors);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if object.int_at("value") != old.int_at("value") {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let policy = object.at("preemptionPolicy");
        if policy != old.at("preemptionPolicy") {
            errors.invalid(&Path::new("preemptionPolicy"), policy.clone(), "field is immutable");
        }
        errors
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![
            cells::name(object),
            object.int_at("value").into(),
            object.bool_at("globalDefault").into(),
            cells::age(object, now),
            object.str_at("preemptionPolicy").into(),
        ])
    }
}

fn system_problem(object: &Value, name: &str, value: i64) -> Option<String> {
    let Some((_, wanted)) = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *wanted {
        return Some(format!("value of {name} PriorityClass must be {wanted}"));
    }
    object.bool_at("globalDefault").then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
