//! Deployment: rolls ReplicaSets from one template to the next.

use super::replicas::{SPEC, STATUS, at_most_all, counts, int_or_percent, int_or_percent_value};
use super::replicas::{same_selector, selector_and_template};
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::template;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["deploy".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::scale(".spec.selector"), Subresource::status()],
        columns: Column::strings(&["Ready", "Up-to-date", "Available", "Age", "+Containers", "+Images", "+Selector"]),
        strategy: Arc::new(Deployment),
        ..Resource::new("apps", "v1", "Deployment", "deployments")
    }
}

struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default("replicas", 1);
        let strategy = spec.object_mut("strategy");
        strategy.set_default_str("type", "RollingUpdate");
        if strategy.str_at("type") == "RollingUpdate" {
            let rolling = strategy.object_mut("rollingUpdate");
            rolling.set_default("maxUnavailable", "25%");
            rolling.set_default("maxSurge", "25%");
        }
        spec.set_default("revisionHistoryLimit", 10);
        spec.set_default("progressDeadlineSeconds", 600);
        template::default(spec, "template");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
        template::drop_disabled(object.object_mut("spec").set_mut("template"), None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        let before = old.at("spec").at("template");
        template::drop_disabled(object.object_mut("spec").set_mut("template"), Some(before));
        // Annotations are copied to the ReplicaSets, so they count.
        let annotations = |object: &Value| object.at("metadata").at("annotations").clone();
        if !same(&annotations(object), &annotations(old)) {
            let generation = old.at("metadata").int_at("generation") + 1;
            object.object_mut("metadata").set("generation", generation);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &template::options(None), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = template::options(Some(old.at("spec").at("template")));
        validate(object.at("spec"), &options, &mut errors);
        same_selector(object, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        template::workload_warnings(object, old)
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let [names, images] = cells::containers(spec.at("template").at("spec"));
        let selector = cells::selector(spec.at("selector"));
        let selector = if selector == cells::NONE { String::new() } else { selector };
        Some(vec![
            cells::name(object),
            format!("{}/{}", status.int_at("readyReplicas"), spec.int_at("replicas")).into(),
            status.int_at("updatedReplicas").into(),
            status.int_at("availableReplicas").into(),
            cells::age(object, now),
            names,
            images,
            selector.into(),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec", "metadata.labels"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        object.object_mut("metadata").copy("labels", old.at("metadata"));
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = object.at("status");
        let all = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        counts(status, &all, &["updatedReplicas", "readyReplicas", "availableReplicas"], "readyReplicas", &mut errors);
        not_decremented(status, old.at("status"), &mut errors);
        errors
    }
}

/// Collisions are only ever counted up.
pub fn not_decremented(status: &Value, old: &Value, errors: &mut ErrorList) {
    let count = status.int_at("collisionCount");
    if old.has("collisionCount") && count < old.int_at("collisionCount") {
        errors.invalid(&STATUS.child("collisionCount"), count, "cannot be decremented");
    }
}

fn validate(spec: &Value, options: &Options, errors: &mut ErrorList) {
    errors.not_negative(&SPEC.child("replicas"), spec.int_at("replicas"));
    selector_and_template(spec, options, errors);
    strategy(spec.at("strategy"), &SPEC.child("strategy"), errors);
    errors.not_negative(&SPEC.child("minReadySeconds"), spec.int_at("minReadySeconds"));
    errors.not_negative(&SPEC.child("revisionHistoryLimit"), spec.int_at("revisionHistoryLimit"));
    if let Some(deadline) = spec.optional_int("progressDeadlineSeconds") {
        let path = SPEC.child("progressDeadlineSeconds");
        errors.not_negative(&path, deadline);
        if deadline <= spec.int_at("minReadySeconds") {
            errors.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at_rolling = path.child("rollingUpdate");
    match (strategy.str_at("type"), strategy.get_set("rollingUpdate")) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&at_rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => errors.required(&at_rolling, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            let path = at_rolling.child("maxUnavailable");
            int_or_percent(unavailable, &path, errors);
            int_or_percent(surge, &at_rolling.child("maxSurge"), errors);
            if int_or_percent_value(unavailable) == 0 && int_or_percent_value(surge) == 0 {
                errors.invalid(&path, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(unavailable, &path, errors);
        }
        (kind, rolling) => {
            // As Go writes the internal type.
            let rolling = rolling.map_or_else(
                || "null".to_owned(),
                |rolling| {
                    format!(
                        "{{\"MaxUnavailable\":{},\"MaxSurge\":{}}}",
                        rolling.at("maxUnavailable"),
                        rolling.at("maxSurge")
                    )
                },
            );
            let kind = crate::api::field::go_quote(kind);
            let shown = format!("{{\"Type\":{kind},\"RollingUpdate\":{rolling}}}");
            let mut error = crate::api::FieldError::not_supported(path, "", &["Recreate", "RollingUpdate"]);
            error.shown = Some(shown);
            errors.push(error);
        }
    }
}
