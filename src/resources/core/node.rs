//! Node: a machine that runs pods.

use super::pod_spec::defaults::resource_list;
use super::pod_spec::placement::TAINT_EFFECTS;
use super::pod_spec::resource_requirements;
use crate::api::field::go_quote;
use crate::api::value::same;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Quantity, Report};
use crate::api::{ip, names};
use crate::resources::cells::{self, or_none};
use crate::resources::{Column, Context, Resource, Strategy, Subresource};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["no".into()],
        namespaced: false,
        status: true,
        subresources: vec![Subresource::proxy("NodeProxyOptions"), Subresource::status()],
        columns: Column::strings(&[
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ]),
        strategy: Arc::new(Node),
        ..Resource::new("", "v1", "Node", "nodes")
    }
}

struct Node;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const TAINTS_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/taints";
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

impl Strategy for Node {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        // podCIDR is the first of podCIDRs, both ways.
        let spec = object.object_mut("spec");
        let first = spec.str_at("podCIDR").to_owned();
        let listed = spec.list_at("podCIDRs").first().and_then(Value::as_str).map(str::to_owned);
        match listed {
            None if !first.is_empty() => spec.set("podCIDRs", vec![first]),
            Some(listed) if first.is_empty() => spec.set("podCIDR", listed),
            Some(listed) if listed != first => spec.set("podCIDRs", vec![first]),
            _ => {}
        }
        let Some(status) = object.set_mut("status") else { return };
        if status.has("capacity") && !status.has("allocatable") {
            let capacity = status.at("capacity").clone();
            status.set("allocatable", capacity);
        }
        for field in ["capacity", "allocatable"] {
            resource_list(status, field);
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.object_mut("spec").clear("configSource");
        if let Some(status) = object.set_mut("status") {
            status.clear("config");
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        if !old.at("spec").has("configSource") {
            object.object_mut("spec").clear("configSource");
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, &mut errors);
        validate_update(object, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let spec = object.at("spec");
        let mut out = Vec::new();
        if spec.has("configSource") {
            out.push("spec.configSource: the feature is removed".to_owned());
        }
        if !spec.str_at("externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        for (index, range) in spec.strs_at("podCIDRs").enumerate() {
            out.extend(ip::cidr_warnings(&format!("spec.podCIDRs[{index}]"), range));
        }
        out
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("spec.unschedulable", |node| node.at("spec").bool_at("unschedulable").to_string())]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (status, info) = (object.at("status"), object.at("status").at("nodeInfo"));
        let ready = status.list_at("conditions").iter().rfind(|condition| condition.str_at("type") == "Ready");
        let mut state = match ready.map(|condition| condition.str_at("status")) {
            None => "Unknown".to_owned(),
            Some("True") => "Ready".to_owned(),
            Some(_) => "NotReady".to_owned(),
        };
        if object.at("spec").bool_at("unschedulable") {
            state.push_str(",SchedulingDisabled");
        }
        let address = |kind: &str| {
            let found = status.list_at("addresses").iter().find(|address| address.str_at("type") == kind);
            found.map_or(cells::NONE, |address| address.str_at("address"))
        };
        let known = |text: &str| if text.is_empty() { cells::UNKNOWN.to_owned() } else { text.to_owned() };
        let mut kernel = known(info.str_at("kernelVersion"));
        if !info.str_at("architecture").is_empty() {
            kernel.push_str(&format!(" ({})", info.str_at("architecture")));
        }
        Some(vec![
            cells::name(object),
            state.into(),
            or_none(&roles(object)).into(),
            cells::age(object, now),
            info.str_at("kubeletVersion").into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            known(info.str_at("osImage")).into(),
            kernel.into(),
            known(info.str_at("containerRuntimeVersion")).into(),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        if !old.at("status").has("config") {
            object.object_mut("status").clear("config");
        }
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate_update(object, old, &mut errors);
        errors
    }
}

fn roles(node: &Value) -> String {
    let roles: BTreeSet<&str> = node
        .at("metadata")
        .map_at("labels")
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn validate(object: &Value, errors: &mut ErrorList) {
    annotations(object, errors);
    taints(object.at("spec").list_at("taints"), &METADATA.child("taints"), errors);
    resources(object, errors);
    if let Some(capacity) = object.at("status").at("nodeInfo").at("swap").optional_int("capacity") {
        errors.positive(&METADATA.child("nodeSwapStatus.capacity"), capacity);
    }
    declared_features(object, errors);
    let path = SPEC.child("podCIDRs");
    let ranges: Vec<&str> = object.at("spec").strs_at("podCIDRs").collect();
    for (index, range) in ranges.iter().enumerate() {
        errors.check(&path.index(index), range, ip::legacy_cidr(range));
    }
    if ranges.len() > 1 {
        let broken = ranges.iter().position(|range| ip::Cidr::parse_sloppy(range).is_none());
        if let Some(index) = broken {
            let detail = format!(
                "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{index}]: <nil> (invalid CIDR address: {})",
                ranges[index]
            );
            errors.push(FieldError::internal(&path, detail));
        }
        let families: BTreeSet<bool> = ranges
            .iter()
            .filter_map(|range| ip::Cidr::parse_sloppy(range))
            .map(|range| range.address.is_ipv4())
            .collect();
        if families.len() < 2 || ranges.len() > 2 {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.invalid(&path, object.at("spec").at("podCIDRs").clone(), detail);
        }
    }
}

fn annotations(object: &Value, errors: &mut ErrorList) {
    let text = object.at("metadata").at("annotations").str_at(TAINTS_ANNOTATION);
    if text.is_empty() {
        return;
    }
    let path = METADATA.child("annotations");
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(list) => taints(&list, &path.child(TAINTS_ANNOTATION), errors),
        Err(error) => errors.invalid(&path, TAINTS_ANNOTATION, error.to_string()),
    }
}

fn taints(taints: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (taint.str_at("key"), taint.str_at("value"), taint.str_at("effect"));
        errors.check(&path.child("key"), key, names::qualified_name(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&path.child("value"), value, messages.join(";"));
        }
        super::pod_spec::one_of_required(taint, "effect", TAINT_EFFECTS, &path, errors);
        if !seen.insert((key, effect)) {
            // As Go writes the internal type: errors have no path to it.
            let added = taint.optional_str("timeAdded").map_or_else(|| "null".to_owned(), go_quote);
            let shown = format!(
                "{{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":{added}}}",
                go_quote(key),
                go_quote(value),
                go_quote(effect)
            );
            let mut error = FieldError::duplicate_shown(&path, shown);
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}

fn resources(object: &Value, errors: &mut ErrorList) {
    for field in ["capacity", "allocatable"] {
        let path = STATUS.child(field);
        for (name, amount) in object.at("status").map_at(field) {
            resource_requirements::quantity(name, &Quantity::of(amount), &path.child(name), errors);
        }
    }
}

/// Sorted names of features, `UpperCamelCase` and below it `/either`.
fn declared_features(object: &Value, errors: &mut ErrorList) {
    const LIMIT: usize = 253;
    let list = STATUS.child("declaredFeatures");
    let camel = |part: &str, upper: bool| {
        part.bytes().all(|c| c.is_ascii_alphanumeric())
            && part.bytes().next().is_some_and(|c| if upper { c.is_ascii_uppercase() } else { c.is_ascii_alphabetic() })
    };
    let names: Vec<&str> = object.at("status").strs_at("declaredFeatures").collect();
    for (index, name) in names.iter().copied().enumerate() {
        let quoted = go_quote(name);
        if name.len() > LIMIT {
            let detail = format!("invalid feature name {quoted}: must be no more than {LIMIT} characters");
            errors.invalid(&list.index(index), name, detail);
        } else if !name.split('/').enumerate().all(|(place, part)| camel(part, place == 0)) {
            let detail = format!(
                "invalid feature name {quoted}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.invalid(&list.index(index), name, detail);
        }
        match names.get(index + 1) {
            Some(next) if *next == name => errors.duplicate(&list.index(index + 1), name),
            Some(next) if *next < name => {
                errors.invalid(&list.index(index + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

fn validate_update(object: &Value, old: &Value, errors: &mut ErrorList) {
    annotations(object, errors);
    resources(object, errors);
    declared_features(object, errors);
    let addresses = object.at("status").list_at("addresses");
    let list = STATUS.child("addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|earlier| same(earlier, address)) {
            errors.duplicate(&list.index(index), address.clone());
        }
    }
    let (spec, before) = (object.at("spec"), old.at("spec"));
    let (new, was) = (spec.list_at("podCIDRs"), before.list_at("podCIDRs"));
    const RANGE: &str = "node updates may not change podCIDR except from \"\" to valid";
    if !was.is_empty() {
        let changed =
            if new.len() == was.len() { new.iter().zip(was).filter(|(new, was)| new != was).count() } else { 1 };
        for _ in 0..changed {
            errors.forbidden(&SPEC.child("podCIDRs"), RANGE);
        }
    }
    let provider = before.str_at("providerID");
    if !provider.is_empty() && provider != spec.str_at("providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&SPEC.child("providerID"), detail);
    }
    taints(spec.list_at("taints"), &METADATA.child("taints"), errors);
    if spec.str_at("externalID") != before.str_at("externalID") {
        errors.forbidden(&SPEC.child("externalID"), "may not be updated");
    }
}
