//! PodDisruptionBudget: how many pods of a kind may be evicted.

use crate::api::time::seconds;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::apps::replicas::{at_most_all, int_or_percent};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, conditions, labels};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["pdb".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: vec![
            Column::name(),
            Column::string("Min Available"),
            Column::string("Max Unavailable"),
            Column::integer("Allowed Disruptions"),
            Column::string("Age"),
        ],
        strategy: Arc::new(PodDisruptionBudget),
        ..Resource::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
    }
}

struct PodDisruptionBudget;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const COUNTS: &[&str] = &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

/// Whether pods may be evicted, and why not.
pub const CONDITION: &str = "DisruptionAllowed";
/// The reason when that is not known.
pub const SYNC_FAILED: &str = "SyncFailed";

/// Status and reason of the condition.
pub fn verdict(disruptions_allowed: i64) -> (&'static str, &'static str) {
    if disruptions_allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") }
}

/// Write the condition; its time changes with its status.
pub fn set_condition(status: &mut Value, (state, reason): (&str, &str), message: &str, now: Timestamp) {
    let generation = status["observedGeneration"].as_i64().unwrap_or_default();
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    let mut next = json!({
        "type": CONDITION,
        "status": state,
        "observedGeneration": generation,
        "lastTransitionTime": seconds(now),
        "reason": reason,
        "message": message,
    });
    match conditions.iter_mut().find(|condition| condition["type"] == CONDITION) {
        Some(old) => {
            if old["status"] == next["status"] {
                next["lastTransitionTime"] = old["lastTransitionTime"].take();
            }
            *old = next;
        }
        None => conditions.push(next),
    }
}

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set(
            "status",
            json!({ "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 }),
        );
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        if spec.has("minAvailable") && spec.has("maxUnavailable") {
            errors.invalid(&SPEC, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if let Some(amount) = spec.get_set(field) {
                int_or_percent(amount, &SPEC.child(field), &mut errors);
                at_most_all(amount, &SPEC.child(field), &mut errors);
            }
        }
        labels::selector(spec.at("selector"), false, &SPEC.child("selector"), &mut errors);
        if let Some(policy) = spec.optional_str("unhealthyPodEvictionPolicy") {
            let known = &["AlwaysAllow", "IfHealthyBudget"];
            errors.one_of(&SPEC.child("unhealthyPodEvictionPolicy"), policy, known);
        }
        errors
    }

    fn validates_metadata(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let amount = |field: &str| match object.at("spec").at(field) {
            Value::String(text) => text.clone(),
            Value::Null => "N/A".to_owned(),
            number => number.to_string(),
        };
        Some(vec![
            cells::name(object),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            object.at("status").int_at("disruptionsAllowed").into(),
            cells::age(object, now),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = object.at("status");
        conditions::validate(status.list_at("conditions"), &STATUS.child("conditions"), &mut errors);
        for field in COUNTS {
            errors.not_negative(&STATUS.child(field), status.int_at(field));
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
