//! Pod: containers that share a network and live on one node.

use super::pod_spec::{self, Options, defaults, quality, warnings};
use super::{pod_cells, pod_metadata, pod_status, pod_update};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, Verb};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["po".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: subresources(),
        columns: Column::strings(&[
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "+IP",
            "+Node",
            "+Nominated Node",
            "+Readiness Gates",
        ]),
        strategy: Arc::new(Pod),
        ..Resource::new("", "v1", "Pod", "pods")
    }
}

fn subresources() -> Vec<Subresource> {
    const CREATE: &[Verb] = &[Verb::Create];
    const CONNECT: &[Verb] = &[Verb::Create, Verb::Get];
    const WRITE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
    vec![
        Subresource::custom_of("attach", "v1", "PodAttachOptions", CONNECT),
        Subresource::custom_of("binding", "v1", "Binding", CREATE),
        Subresource::custom("ephemeralcontainers", WRITE),
        Subresource::custom_of("eviction", "policy/v1", "Eviction", CREATE),
        Subresource::custom_of("exec", "v1", "PodExecOptions", CONNECT),
        Subresource::custom("log", &[Verb::Get]),
        Subresource::custom_of("portforward", "v1", "PodPortForwardOptions", CONNECT),
        Subresource::proxy("PodProxyOptions"),
        Subresource::custom("resize", WRITE),
        Subresource::status(),
    ]
}

pub struct Pod;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");

/// podIP is the first of podIPs, both ways; where they differ, it is the only one.
fn addresses(status: &mut Value) {
    let first = status.list_at("podIPs").first().map(|entry| entry.str_at("ip").to_owned());
    let own = status.str_at("podIP").to_owned();
    match first {
        Some(first) if own.is_empty() && !first.is_empty() => status.set("podIP", first),
        first if !own.is_empty() && first.as_deref() != Some(own.as_str()) => {
            status.set("podIPs", json!([{ "ip": own }]));
        }
        _ => {}
    }
}

impl Strategy for Pod {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        defaults::spec(spec);
        defaults::pod(spec);
        if spec.int_at("terminationGracePeriodSeconds") < 0 {
            spec.set("terminationGracePeriodSeconds", 1);
        }
        if let Some(status) = object.set_mut("status") {
            addresses(status);
        }
    }

    fn prepare_create(&self, object: &mut Value, context: &Context) {
        pod_spec::drop_disabled(object.object_mut("spec"), None);
        // A class that is given is believed.
        let given = object.at("status").optional_str("qosClass").filter(|class| !class.is_empty());
        let class = given.unwrap_or_else(|| quality::class(object.at("spec"))).to_owned();
        let mut status = json!({ "phase": "Pending", "qosClass": class });
        if !object.at("spec").list_at("schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null,
                "lastTransitionTime": crate::api::time::seconds(context.now),
            }]);
        }
        object.set("status", status);
        merge_label_keys(object);
        app_armor_fields(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        pod_spec::drop_disabled(object.object_mut("spec"), Some(old.at("spec")));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = Options::create(true);
        let (metadata, spec) = (object.at("metadata"), object.at("spec"));
        metadata_and_spec(object, &options, &mut errors);
        if !spec.list_at("ephemeralContainers").is_empty() {
            errors.forbidden(&SPEC.child("ephemeralContainers"), "cannot be set on create");
        }
        if !spec.str_at("nodeName").is_empty() && !spec.list_at("schedulingGates").is_empty() {
            errors.forbidden(&SPEC.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
        pod_metadata::match_fields(metadata.at("annotations"), spec, &SPEC, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        pod_update::validate(object, old)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut texts = Vec::new();
        let messages = names::dns_label(object.at("metadata").str_at("name"));
        if !messages.is_empty() {
            texts.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                messages.join(" ")
            ));
        }
        warnings::pod(object, &Path::root(), &mut texts);
        texts
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&pod_status::PodStatus)
    }

    fn subresource(&self, name: &str) -> Option<&dyn Strategy> {
        match name {
            "ephemeralcontainers" => Some(&pod_update::EphemeralContainers),
            "resize" => Some(&pod_update::Resize),
            "status" => self.status(),
            _ => None,
        }
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[
            ("spec.nodeName", |pod| pod.at("spec").str_at("nodeName").to_owned()),
            ("spec.restartPolicy", |pod| pod.at("spec").str_at("restartPolicy").to_owned()),
            ("spec.schedulerName", |pod| pod.at("spec").str_at("schedulerName").to_owned()),
            ("spec.serviceAccountName", |pod| pod.at("spec").str_at("serviceAccountName").to_owned()),
            ("spec.hostNetwork", |pod| pod.at("spec").bool_at("hostNetwork").to_string()),
            ("status.phase", |pod| pod.at("status").str_at("phase").to_owned()),
            ("status.podIP", |pod| {
                let first = pod.at("status").list_at("podIPs").first();
                first.map(|address| address.str_at("ip").to_owned()).unwrap_or_default()
            }),
            ("status.nominatedNodeName", |pod| pod.at("status").str_at("nominatedNodeName").to_owned()),
        ]
    }

    fn cells(&self, object: &Value, now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        Some(pod_cells::cells(object, now))
    }

    fn grace_period_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let (spec, phase) = (object.at("spec"), object.at("status").str_at("phase"));
        if spec.str_at("nodeName").is_empty() || ["Failed", "Succeeded"].contains(&phase) {
            return Some(0);
        }
        match requested.unwrap_or_else(|| spec.int_at("terminationGracePeriodSeconds")) {
            ..0 => Some(1),
            period => Some(period),
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}

/// What holds for a pod on create and on update.
pub fn metadata_and_spec(object: &Value, options: &Options, errors: &mut ErrorList) {
    let (metadata, spec) = (object.at("metadata"), object.at("spec"));
    let annotations = metadata.at("annotations");
    pod_metadata::validate(annotations, spec, &METADATA.child("annotations"), options, errors);
    pod_spec::validate(spec, Some(metadata), &SPEC, options, errors);
    if spec.str_at("serviceAccountName").is_empty() {
        let volumes = SPEC.child("volumes");
        for (index, volume) in spec.list_at("volumes").iter().enumerate() {
            let path = volumes.index(index);
            let list = path.child("projected.sources");
            for (index, source) in volume.at("projected").list_at("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let path = list.index(index);
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&path.child("serviceAccountToken"), detail);
                }
            }
        }
    }
    for field in ["containers", "initContainers"] {
        let list = SPEC.child(field);
        for (index, container) in spec.list_at(field).iter().enumerate() {
            pod_spec::containers::image_whitespace(container, &list.index(index), errors);
        }
    }
}

/// Values of the pod's own labels go into the selectors that ask for them by key.
fn merge_label_keys(object: &mut Value) {
    let labels = object.at("metadata").at("labels").clone();
    let spec = object.object_mut("spec");
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.set_mut("affinity").and_then(|affinities| affinities.set_mut(affinity)) else {
            continue;
        };
        for weighted in affinity.items_mut("preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.set_mut("podAffinityTerm") {
                merge_keys(term, &labels);
            }
        }
        for term in affinity.items_mut("requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, &labels);
        }
    }
    for constraint in spec.items_mut("topologySpreadConstraints") {
        merge_keys(constraint, &labels);
    }
}

fn merge_keys(term: &mut Value, labels: &Value) {
    if !term.has("labelSelector") {
        return;
    }
    let mut expressions = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.strs_at(field) {
            if let Some(value) = labels.optional_str(key) {
                expressions.push(json!({ "key": key, "operator": operator, "values": [value] }));
            }
        }
    }
    if expressions.is_empty() {
        return;
    }
    let selector = term.object_mut("labelSelector");
    let mut list = selector.list_at("matchExpressions").to_vec();
    list.append(&mut expressions);
    selector.set("matchExpressions", list);
}

/// The older annotations of AppArmor become fields, where they say something else than the pod's.
fn app_armor_fields(object: &mut Value) {
    let annotations = object.at("metadata").at("annotations").clone();
    let spec = object.object_mut("spec");
    if spec.at("os").str_at("name") == "windows" {
        return;
    }
    let of_pod = spec.at("securityContext").at("appArmorProfile").clone();
    for (list, _) in pod_spec::CONTAINER_LISTS {
        for container in spec.items_mut(list) {
            if container.at("securityContext").has("appArmorProfile") {
                continue;
            }
            let key = format!("{}{}", pod_metadata::APP_ARMOR, container.str_at("name"));
            let Some(profile) = annotations.optional_str(&key).and_then(pod_metadata::app_armor_field) else {
                continue;
            };
            let mut errors = ErrorList::new();
            pod_spec::security::app_armor_profile(&profile, &Path::root(), &mut errors);
            if errors.is_empty() && profile != of_pod {
                container.object_mut("securityContext").set("appArmorProfile", profile);
            }
        }
    }
}
