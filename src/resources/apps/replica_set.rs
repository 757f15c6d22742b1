//! ReplicaSet: keeps a number of equal pods.

use super::replicas::{SPEC, counts, same_selector, selector_and_template};
use crate::api::{ErrorList, Fields, FieldsMut, Report};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::template;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["rs".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::scale(".spec.selector"), Subresource::status()],
        columns: vec![
            Column::name(),
            Column::integer("Desired"),
            Column::integer("Current"),
            Column::integer("Ready"),
            Column::string("Age"),
            Column::string("Containers").wide(),
            Column::string("Images").wide(),
            Column::string("Selector").wide(),
        ],
        strategy: Arc::new(ReplicaSet),
        ..Resource::new("apps", "v1", "ReplicaSet", "replicasets")
    }
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default("replicas", 1);
        template::default(spec, "template");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "replicas": 0 }));
        template::drop_disabled(object.object_mut("spec").set_mut("template"), None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        let before = old.at("spec").at("template");
        template::drop_disabled(object.object_mut("spec").set_mut("template"), Some(before));
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

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("status.replicas", |set| set.at("status").int_at("replicas").to_string())]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let [names, images] = cells::containers(spec.at("template").at("spec"));
        Some(vec![
            cells::name(object),
            spec.int_at("replicas").into(),
            status.int_at("replicas").into(),
            status.int_at("readyReplicas").into(),
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
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let all = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ];
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        counts(object.at("status"), &all, &parts, "readyReplicas", &mut errors);
        errors
    }
}

fn validate(spec: &Value, options: &Options, errors: &mut ErrorList) {
    errors.not_negative(&SPEC.child("replicas"), spec.int_at("replicas"));
    errors.not_negative(&SPEC.child("minReadySeconds"), spec.int_at("minReadySeconds"));
    selector_and_template(spec, options, errors);
}
