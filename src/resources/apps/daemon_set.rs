//! DaemonSet: a pod on every node.

use super::deployment::not_decremented;
use super::replicas::{SPEC, STATUS, at_most_all, int_or_percent, int_or_percent_value, same_selector};
use crate::api::value::equal;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::template;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ds".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: vec![
            Column::name(),
            Column::integer("Desired"),
            Column::integer("Current"),
            Column::integer("Ready"),
            Column::integer("Up-to-date"),
            Column::integer("Available"),
            Column::string("Node Selector"),
            Column::string("Age"),
            Column::string("Containers").wide(),
            Column::string("Images").wide(),
            Column::string("Selector").wide(),
        ],
        strategy: Arc::new(DaemonSet),
        ..Resource::new("apps", "v1", "DaemonSet", "daemonsets")
    }
}

struct DaemonSet;

/// Counts the changes of the template, where older versions had a field for it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

fn template_generation(object: &Value) -> i64 {
    object.at("metadata").at("annotations").str_at(TEMPLATE_GENERATION).parse().unwrap_or_default()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = object.object_mut("metadata").object_mut("annotations");
    annotations.set(TEMPLATE_GENERATION, generation.to_string());
}

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        if !object.at("metadata").at("annotations").has(TEMPLATE_GENERATION) {
            set_template_generation(object, 0);
        }
        let spec = object.object_mut("spec");
        let strategy = spec.object_mut("updateStrategy");
        strategy.set_default_str("type", "RollingUpdate");
        if strategy.str_at("type") == "RollingUpdate" {
            let rolling = strategy.object_mut("rollingUpdate");
            rolling.set_default("maxUnavailable", 1);
            rolling.set_default("maxSurge", 0);
        }
        spec.set_default("revisionHistoryLimit", 10);
        template::default(spec, "template");
    }

    fn field_annotations(&self) -> &'static [&'static str] {
        &[TEMPLATE_GENERATION]
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set(
            "status",
            json!({
                "currentNumberScheduled": 0,
                "numberMisscheduled": 0,
                "desiredNumberScheduled": 0,
                "numberReady": 0,
            }),
        );
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
        template::drop_disabled(object.object_mut("spec").set_mut("template"), None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        let before = old.at("spec").at("template");
        template::drop_disabled(object.object_mut("spec").set_mut("template"), Some(before));
        let changed = !equal(object.at("spec").at("template"), before);
        set_template_generation(object, template_generation(old) + i64::from(changed));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &template::options(None), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = template::options(Some(old.at("spec").at("template")));
        same_selector(object, old, &mut errors);
        validate(object.at("spec"), &options, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        template::template_warnings(object, old)
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let pod = spec.at("template").at("spec");
        let [names, images] = cells::containers(pod);
        Some(vec![
            cells::name(object),
            status.int_at("desiredNumberScheduled").into(),
            status.int_at("currentNumberScheduled").into(),
            status.int_at("numberReady").into(),
            status.int_at("updatedNumberScheduled").into(),
            status.int_at("numberAvailable").into(),
            cells::labels(pod.at("nodeSelector")).into(),
            cells::age(object, now),
            names,
            images,
            cells::selector(spec.at("selector")).into(),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        set_template_generation(object, template_generation(old));
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = object.at("status");
        for field in COUNTS {
            errors.not_negative(&STATUS.child(field), status.int_at(field));
        }
        not_decremented(status, old.at("status"), &mut errors);
        errors
    }
}

fn validate(spec: &Value, options: &Options, errors: &mut ErrorList) {
    let path = SPEC.child("selector");
    let selector = spec.at("selector");
    labels::selector(selector, false, &path, errors);
    let at_template = SPEC.child("template");
    let template = spec.at("template");
    let template_labels = template.at("metadata").at("labels");
    let empty = selector.map_at("matchLabels").is_empty() && selector.list_at("matchExpressions").is_empty();
    let selects = (empty && !selector.is_null()) || labels::selector_matches(selector, template_labels);
    if labels::selector_is_usable(selector) && !selects {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&at_template.child("metadata.labels"), template_labels.clone(), detail);
    }
    if empty && !selector.is_null() {
        errors.invalid(&path, selector.clone(), "empty selector is invalid for daemonset");
    }
    template::validate_running(template, true, "DaemonSet", &at_template, options, errors);
    errors.not_negative(&SPEC.child("minReadySeconds"), spec.int_at("minReadySeconds"));
    strategy(spec.at("updateStrategy"), &SPEC.child("updateStrategy"), errors);
    errors.not_negative(&SPEC.child("revisionHistoryLimit"), spec.int_at("revisionHistoryLimit"));
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    let path_rolling = path.child("rollingUpdate");
    match strategy.str_at("type") {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_null() => errors.required(&path_rolling, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            for (amount, field) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
                int_or_percent(amount, &path_rolling.child(field), errors);
                at_most_all(amount, &path_rolling.child(field), errors);
            }
            match (int_or_percent_value(unavailable) != 0, int_or_percent_value(surge) != 0) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&path_rolling.child("maxSurge"), surge.clone(), detail);
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.required(&path_rolling.child("maxUnavailable"), detail);
                }
                _ => {}
            }
        }
        _ => errors.not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]),
    }
}
