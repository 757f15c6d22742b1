//! ReplicationController: what came before ReplicaSets.

use super::template;
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::apps::replicas::{SPEC, counts};
use crate::resources::core::pod_spec::{Options, warnings};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["rc".into()],
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
        strategy: Arc::new(ReplicationController),
        ..Resource::new("", "v1", "ReplicationController", "replicationcontrollers")
    }
}

struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        let labels = object.at("spec").at("template").at("metadata").at("labels").clone();
        if labels.is_object() {
            if object.at("spec").map_at("selector").is_empty() {
                object.object_mut("spec").set("selector", labels.clone());
            }
            if object.at("metadata").map_at("labels").is_empty() {
                object.object_mut("metadata").set("labels", labels);
            }
        }
        let spec = object.object_mut("spec");
        spec.set_default("replicas", 1);
        if spec.has("template") {
            template::default(spec, "template");
        }
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
        errors
    }

    /// A name that is too long is measured in bytes here.
    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        if prefix {
            return names::path_segment(name);
        }
        let messages = names::dns_subdomain(name);
        messages.into_iter().map(|message| message.replace("253 characters", "253 bytes")).collect()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        // An update is told of the template that was there: Kubernetes does so, too.
        let at = Path::new("spec");
        template::workload_warnings_of(object, old, |out, object| {
            let spec = old.unwrap_or(object).at("spec");
            warnings::template(spec.at("template"), &at.child("template"), out);
        })
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("status.replicas", |set| set.at("status").int_at("replicas").to_string())]
    }

    fn orphans_dependents(&self) -> bool {
        true
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
            cells::labels(spec.at("selector")).into(),
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
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        let all = ["replicas", parts[0], parts[1], parts[2], "observedGeneration"];
        counts(object.at("status"), &all, &parts, "readyReplicas", &mut errors);
        errors
    }
}

fn validate(spec: &Value, options: &Options, errors: &mut ErrorList) {
    errors.not_negative(&SPEC.child("minReadySeconds"), spec.int_at("minReadySeconds"));
    let selector = spec.map_at("selector");
    if selector.is_empty() {
        errors.required(&SPEC.child("selector"), "");
    }
    errors.not_negative(&SPEC.child("replicas"), spec.int_at("replicas"));
    let path = SPEC.child("template");
    let Some(pods) = spec.get_set("template") else { return errors.required(&path, "") };
    let labels = pods.at("metadata").at("labels");
    let selects = selector.iter().all(|(key, value)| labels.get_set(key) == Some(value));
    template::validate_running(pods, selects, "ReplicationController", &path, options, errors);
}
