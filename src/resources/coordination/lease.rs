//! Lease: who holds what until when.

use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        columns: Column::strings(&["Holder", "Age"]),
        strategy: Arc::new(Lease),
        ..Resource::new("coordination.k8s.io", "v1", "Lease", "leases")
    }
}

struct Lease;

const SPEC: Path<'static> = Path::new("spec");

/// Behind a feature that is off unless it is asked for.
const NOT_SERVED: &[&str] = &["strategy", "preferredHolder"];

impl Strategy for Lease {
    fn prepare_create(&self, object: &mut Value, _: &Context) {
        for field in NOT_SERVED {
            object.object_mut("spec").clear(field);
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        for field in NOT_SERVED.iter().filter(|field| !old.at("spec").has(field)) {
            object.object_mut("spec").clear(field);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        if let Some(seconds) = spec.optional_int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            errors.invalid(&SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(count) = spec.optional_int("leaseTransitions") {
            errors.not_negative(&SPEC.child("leaseTransitions"), count);
        }
        strategy(spec, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let holder = object.at("spec").str_at("holderIdentity");
        Some(vec![cells::name(object), holder.into(), cells::age(object, now)])
    }
}

/// How candidates are chosen among: a known word, or one with a domain.
fn strategy(spec: &Value, errors: &mut ErrorList) {
    let strategy = spec.optional_str("strategy");
    if let Some(strategy) = strategy {
        let path = SPEC.child("strategy");
        let parts: Vec<&str> = strategy.split('/').collect();
        match parts.as_slice() {
            ["OldestEmulationVersion"] => {}
            [_] => errors.not_supported(&path, strategy, &["OldestEmulationVersion"]),
            [_, _] => errors.check(&path, strategy, crate::api::names::qualified_name(strategy)),
            _ => errors.invalid(&path, strategy, "must be a fully qualified name"),
        }
    }
    let preferred = spec.str_at("preferredHolder");
    if !preferred.is_empty() && strategy.unwrap_or_default().is_empty() {
        errors.forbidden(&SPEC.child("preferredHolder"), "may only be specified if `strategy` is defined");
    }
}
