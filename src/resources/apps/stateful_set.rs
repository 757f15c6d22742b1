//! StatefulSet: pods with names and storage of their own.

use super::deployment::not_decremented;
use super::replicas::{SPEC, at_most_all, counts, int_or_percent, int_or_percent_value};
use crate::api::names::{self, Messages};
use crate::api::value::equal;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::{persistent_volume_claim, template};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, labels, named};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["sts".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::scale(".spec.selector"), Subresource::status()],
        columns: Column::strings(&["Ready", "Age", "+Containers", "+Images"]),
        strategy: Arc::new(StatefulSet),
        ..Resource::new("apps", "v1", "StatefulSet", "statefulsets")
    }
}

struct StatefulSet;

const MAY_CHANGE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const MAY_NOT_CHANGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default_str("podManagementPolicy", "OrderedReady");
        let strategy = spec.object_mut("updateStrategy");
        if strategy.str_at("type").is_empty() {
            strategy.set("type", "RollingUpdate");
            strategy.object_mut("rollingUpdate");
        }
        if strategy.str_at("type") == "RollingUpdate"
            && let Some(rolling) = strategy.set_mut("rollingUpdate")
        {
            rolling.set_default("partition", 0);
        }
        let retention = spec.object_mut("persistentVolumeClaimRetentionPolicy");
        retention.set_default_str("whenDeleted", "Retain");
        retention.set_default_str("whenScaled", "Retain");
        spec.set_default("replicas", 1);
        spec.set_default("revisionHistoryLimit", 10);
        template::default(spec, "template");
        for claim in spec.items_mut("volumeClaimTemplates") {
            claim.set("apiVersion", "v1");
            claim.set("kind", "PersistentVolumeClaim");
            claim.set_default("metadata", json!({}));
            claim.object_mut("status").set_default_str("phase", "Pending");
            persistent_volume_claim::default_spec(claim.object_mut("spec"));
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "replicas": 0, "availableReplicas": 0 }));
        template::drop_disabled(object.object_mut("spec").set_mut("template"), None);
        drop_disabled(object, &Value::Null);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        let before = old.at("spec").at("template");
        template::drop_disabled(object.object_mut("spec").set_mut("template"), Some(before));
        drop_disabled(object, old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &template::options(None), Scope::New, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = template::options(Some(old.at("spec").at("template")));
        let (spec, before) = (object.at("spec"), old.at("spec"));
        // What is wrong already does not keep the template from changing.
        let mut wrong = ErrorList::new();
        validate(before, &options, Scope::Update, &mut wrong);
        let scope = if wrong.is_empty() { Scope::Update } else { Scope::WithoutTemplate };
        validate(spec, &options, scope, &mut errors);
        let fields = spec.entries().keys().chain(before.entries().keys());
        let kept = |field: &String| MAY_CHANGE.contains(&field.as_str()) || equal(spec.at(field), before.at(field));
        if !fields.into_iter().all(kept) {
            errors.forbidden(&SPEC, MAY_NOT_CHANGE);
        }
        errors
    }

    /// Pods' host names begin with it.
    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        named(names::dns_label, name, prefix)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = template::template_warnings(object, old);
        let spec = object.at("spec");
        let list = SPEC.child("volumeClaimTemplates");
        for (index, claim) in spec.list_at("volumeClaimTemplates").iter().enumerate() {
            let path = list.index(index);
            // Kubernetes names the spec on update only, and so.
            let path = if old.is_some() { path.child("Spec") } else { path };
            persistent_volume_claim::spec_warnings(claim.at("spec"), &path, &mut out);
        }
        if spec.int_at("revisionHistoryLimit") < 0 {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        out
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let [names, images] = cells::containers(spec.at("template").at("spec"));
        Some(vec![
            cells::name(object),
            format!("{}/{}", status.int_at("readyReplicas"), spec.int_at("replicas")).into(),
            cells::age(object, now),
            names,
            images,
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        let all = ["replicas", parts[0], parts[1], parts[2], parts[3], "observedGeneration", "collisionCount"];
        counts(object.at("status"), &all, &parts, "status.readyReplicas", &mut errors);
        not_decremented(object.at("status"), old.at("status"), &mut errors);
        errors
    }
}

/// How much of a spec is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    New,
    Update,
    WithoutTemplate,
}

/// A field whose feature is off stays only where it was.
fn drop_disabled(object: &mut Value, old: &Value) {
    if !old.at("spec").at("updateStrategy").at("rollingUpdate").has("maxUnavailable")
        && let Some(rolling) = object.object_mut("spec").object_mut("updateStrategy").set_mut("rollingUpdate")
    {
        rolling.clear("maxUnavailable");
    }
}

fn validate(spec: &Value, options: &Options, scope: Scope, errors: &mut ErrorList) {
    match spec.str_at("podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        policy => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&SPEC.child("podManagementPolicy"), policy, detail);
        }
    }
    strategy(spec.at("updateStrategy"), &SPEC.child("updateStrategy"), errors);
    let path = SPEC.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let policy = spec.at("persistentVolumeClaimRetentionPolicy").str_at(field);
        errors.one_of(&path.child(field), policy, &["Retain", "Delete"]);
    }
    let list = SPEC.child("volumeClaimTemplates");
    if scope == Scope::New {
        for (index, claim) in spec.list_at("volumeClaimTemplates").iter().enumerate() {
            persistent_volume_claim::validate_spec(claim.at("spec"), &list.index(index).child("spec"), errors);
        }
    }
    errors.not_negative(&SPEC.child("replicas"), spec.int_at("replicas"));
    errors.not_negative(&SPEC.child("minReadySeconds"), spec.int_at("minReadySeconds"));
    if let Some(start) = spec.at("ordinals").optional_int("start") {
        errors.not_negative(&SPEC.child("ordinals.start"), start);
    }
    let service = spec.str_at("serviceName");
    if scope == Scope::New && !service.is_empty() {
        errors.check(&SPEC.child("serviceName"), service, names::dns_label(service));
    }
    let path = SPEC.child("selector");
    let selector = spec.at("selector");
    let empty = selector.map_at("matchLabels").is_empty() && selector.list_at("matchExpressions").is_empty();
    if selector.is_null() {
        errors.required(&path, "");
    } else {
        labels::selector(selector, false, &path, errors);
        if empty {
            errors.invalid(&path, selector.clone(), "empty selector is invalid for statefulset");
        }
    }
    if labels::selector_is_usable(selector) {
        pods(spec, empty && !selector.is_null(), scope, options, errors);
    } else {
        errors.invalid(&path, selector.clone(), "");
    }
    template::runs_for_good(spec.at("template"), "StatefulSet", &SPEC.child("template"), errors);
}

/// The template, with a volume for each claim as the pods will have it. Host name and subdomain are
/// the controller's to give.
fn pods(spec: &Value, selects_all: bool, scope: Scope, options: &Options, errors: &mut ErrorList) {
    let path = SPEC.child("template");
    let mut template = spec.at("template").clone();
    let mut claims: Vec<&str> = Vec::new();
    for claim in spec.list_at("volumeClaimTemplates") {
        let name = claim.at("metadata").str_at("name");
        if !claims.contains(&name) {
            claims.push(name);
        }
    }
    for field in ["subdomain", "hostname"] {
        template.object_mut("spec").clear(field);
    }
    if !claims.is_empty() {
        let own = claims.iter().map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
        let rest = template.at("spec").list_at("volumes").iter();
        let rest = rest.filter(|volume| !claims.contains(&volume.str_at("name"))).cloned();
        let volumes: Vec<Value> = own.chain(rest).collect();
        template.object_mut("spec").set("volumes", volumes);
    }
    let template_labels = template.at("metadata").at("labels");
    let selects = selects_all || labels::selector_matches(spec.at("selector"), template_labels);
    if !selects {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata.labels"), template_labels.clone(), detail);
    }
    if scope != Scope::WithoutTemplate {
        template::validate(&template, &path, options, errors);
    }
    template::metadata(&template, &path, options, errors);
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at_rolling = path.child("rollingUpdate");
    match (strategy.str_at("type"), strategy.get_set("rollingUpdate")) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            errors.invalid(&at_rolling, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            errors.not_negative(&at_rolling.child("partition"), rolling.int_at("partition"));
            if let Some(unavailable) = rolling.get_set("maxUnavailable") {
                let path = at_rolling.child("maxUnavailable");
                int_or_percent(unavailable, &path, errors);
                if int_or_percent_value(unavailable) == 0 {
                    errors.invalid(&path, unavailable.clone(), "cannot be 0");
                }
                at_most_all(unavailable, &path, errors);
            }
        }
        _ => errors.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
