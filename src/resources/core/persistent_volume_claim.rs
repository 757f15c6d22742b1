//! PersistentVolumeClaim: the wish for storage; its spec is held by templates in pods too.

use super::go_diff;
use super::persistent_volume::storage_class;
use crate::api::field::go_quote;
use crate::api::names;
use crate::api::value::equal;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Quantity, Report};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["pvc".into()],
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&[
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "+VolumeMode",
        ]),
        strategy: Arc::new(PersistentVolumeClaim),
        ..Resource::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    }
}

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub fn default_spec(spec: &mut Value) {
    spec.set_default("volumeMode", "Filesystem");
    if let Some(resources) = spec.get_mut("resources") {
        super::pod_spec::defaults::round_requirements(resources);
    }
}

pub fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let modes: Vec<&str> = spec.strs_at("accessModes").collect();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    labels::selector(spec.at("selector"), false, &path.child("selector"), errors);
    access_modes(&modes, &path.child("accessModes"), errors);
    storage_request(spec, path, errors);
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if field == "volumeAttributesClassName" {
            if let Some(mode) = spec.optional_str("volumeMode") {
                errors.one_of(&path.child("volumeMode"), mode, VOLUME_MODES);
            }
            data_sources(spec, path, errors);
        }
        let class = spec.str_at(field);
        if !class.is_empty() {
            errors.check(&path.child(field), class, names::dns_subdomain(class));
        }
    }
}

/// Modes are known, and ReadWriteOncePod stands alone.
pub fn access_modes(modes: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for mode in modes {
        errors.one_of(path, mode, ACCESS_MODES);
    }
    let other = |mode: &&str| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode);
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(other) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn storage_request(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("resources");
    let path = path.key("storage");
    match spec.at("resources").at("requests").get_set("storage").map(Quantity::of) {
        None => errors.required(&path, ""),
        Some(amount) if amount <= Quantity::ZERO => {
            errors.invalid(&path, amount.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
}

fn data_sources(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.get_set(field) else { continue };
        let path = path.child(field);
        for part in ["name", "kind"] {
            if source.str_at(part).is_empty() {
                errors.required(&path.child(part), "");
            }
        }
        let (group, kind) = (source.str_at("apiGroup"), source.str_at("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&path, kind, detail);
        }
        if !group.is_empty() {
            errors.check(&path.child("apiGroup"), group, names::dns_subdomain(group));
        }
        let namespace = source.str_at("namespace");
        if field == "dataSourceRef" && !namespace.is_empty() {
            errors.check(&path.child("namespace"), namespace, names::dns_label(namespace));
        }
    }
    let (Some(source), Some(reference)) = (spec.get_set("dataSource"), spec.get_set("dataSourceRef")) else { return };
    // Kubernetes means to show the field's path, which has nothing that JSON would show.
    let mut wrong = |detail: &str| {
        errors.push(FieldError { shown: Some("{}".to_owned()), ..FieldError::invalid(path, Value::Null, detail) });
    };
    if !reference.str_at("namespace").is_empty() {
        wrong("may not be specified when dataSourceRef.namespace is specified");
    } else if ["apiGroup", "kind", "name"].iter().any(|part| source.at(part) != reference.at(part)) {
        wrong("must match dataSourceRef");
    }
}

/// `RWO,ROX`: the modes in their short form and order, each once.
pub fn short_modes<'a>(modes: impl Iterator<Item = &'a str>) -> String {
    const SHORT: &[(&str, &str)] =
        &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let modes: Vec<&str> = modes.collect();
    let short = SHORT.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

struct PersistentVolumeClaim;

/// What named the class before there was a field for it.
pub const STORAGE_CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

const SPEC: Path<'static> = Path::new("spec");

impl Strategy for PersistentVolumeClaim {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        object.object_mut("status").set_default_str("phase", "Pending");
        default_spec(object.object_mut("spec"));
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "phase": "Pending" }));
        normalize_sources(object.object_mut("spec"), &Value::Null);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        normalize_sources(object.object_mut("spec"), old.at("spec"));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate_spec(object.at("spec"), &SPEC, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        changes(object, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if object.at("metadata").at("annotations").has(STORAGE_CLASS_ANNOTATION) {
            out.push(format!(
                "metadata.annotations[{STORAGE_CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        spec_warnings(object.at("spec"), &SPEC, &mut out);
        out
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let phase = if object.at("metadata").has("deletionTimestamp") { "Terminating" } else { status.str_at("phase") };
        let bound = !spec.str_at("volumeName").is_empty();
        let capacity = if bound { status.at("capacity").str_at("storage") } else { "" };
        let modes = if bound { short_modes(status.strs_at("accessModes")) } else { String::new() };
        Some(vec![
            cells::name(object),
            phase.into(),
            spec.str_at("volumeName").into(),
            capacity.into(),
            modes.into(),
            storage_class(object).into(),
            spec.optional_str("volumeAttributesClassName").unwrap_or("<unset>").into(),
            cells::age(object, now),
            spec.optional_str("volumeMode").unwrap_or("<unset>").into(),
        ])
    }
}

/// The old and the new way to name what the volume is filled from say the same. A new source in
/// another namespace is not served, and the old way knows only claims and snapshots.
fn normalize_sources(spec: &mut Value, old: &Value) {
    if !spec.at("dataSourceRef").str_at("namespace").is_empty() && !old.has("dataSourceRef") {
        spec.clear("dataSourceRef");
    }
    let kind = (spec.at("dataSource").str_at("apiGroup"), spec.at("dataSource").str_at("kind"));
    let known = matches!(kind, ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot"));
    if !old.has("dataSource") && !old.has("dataSourceRef") && !spec.has("dataSourceRef") && !known {
        spec.clear("dataSource");
    }
    let (source, reference) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
    if !reference.str_at("namespace").is_empty() {
        return;
    }
    match (source.is_object(), reference.is_object()) {
        (true, false) => spec.set("dataSourceRef", source),
        (false, true) => {
            spec.set("dataSource", reference);
            spec.object_mut("dataSource").clear("namespace");
        }
        _ => {}
    }
}

fn changes(object: &Value, old: &Value, errors: &mut ErrorList) {
    let (mut spec, mut before) = (object.at("spec").clone(), old.at("spec").clone());
    // The controller binds the volume, once.
    if before.str_at("volumeName").is_empty() {
        before.copy("volumeName", object.at("spec"));
    }
    storage_class_change(object, old, &mut spec, errors);
    let bound = object.at("status").str_at("phase") == "Bound";
    let request = |spec: &Value| Quantity::of(spec.at("resources").at("requests").at("storage"));
    let (size, size_before) = (request(&spec), request(&before));
    if bound && spec.at("resources").has("requests") {
        let kept = before.at("resources").at("requests").at("storage").clone();
        spec.object_mut("resources").object_mut("requests").set("storage", kept);
    }
    if bound {
        spec.copy("volumeAttributesClassName", &before);
    }
    if !equal(&spec, &before) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            go_diff::difference(&before, &spec, go_diff::CLAIM)
        );
        errors.forbidden(&SPEC, detail);
    }
    let capacity = Quantity::of(old.at("status").at("capacity").at("storage"));
    if size < size_before && size <= capacity {
        errors.forbidden(&SPEC.child("resources.requests.storage"), "field can not be less than status.capacity");
    }
    let mode = object.at("spec").at("volumeMode");
    errors.immutable(&Path::new("volumeMode"), mode, before.at("volumeMode"));
    let class = object.at("spec").optional_str("volumeAttributesClassName");
    if class != before.optional_str("volumeAttributesClassName")
        && old.at("status").has("currentVolumeAttributesClassName")
    {
        let what = match class {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&SPEC.child("volumeAttributesClassName"), detail);
    }
}

/// A claim without a class may get one; one that an annotation names moves to the field.
fn storage_class_change(object: &Value, old: &Value, spec: &mut Value, errors: &mut ErrorList) {
    let annotation = |object: &Value| {
        object.at("metadata").at("annotations").optional_str(STORAGE_CLASS_ANNOTATION).map(str::to_owned)
    };
    let (new, before) = (annotation(object), annotation(old));
    let class = object.at("spec").optional_str("storageClassName");
    let none_before = !old.at("spec").has("storageClassName");
    let moves = class.is_some() && class == before.as_deref() && (new.is_none() || new == before);
    if none_before && moves {
        spec.clear("storageClassName");
        return;
    }
    if new != before {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let path = path.child(STORAGE_CLASS_ANNOTATION);
        errors.invalid(&path, new.unwrap_or_default(), "field is immutable");
    }
    if none_before && class.is_some() && (before.is_none() || class == before.as_deref()) {
        spec.clear("storageClassName");
    }
}

/// Warnings of a claim's spec: amounts of parts of bytes.
pub fn spec_warnings(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for list in ["requests", "limits"] {
        let amount = Quantity::of(spec.at("resources").at(list).at("storage"));
        if amount.milli_value() % 1000 != 0 {
            out.push(format!(
                "{}: fractional byte value {} is invalid, must be an integer",
                path.child("resources").child(list).key("storage"),
                go_quote(&amount.to_string())
            ));
        }
    }
}

/// A name of a resource in a claim's status: storage, or one with a domain.
fn resource_key(name: &str, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let messages = names::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if messages.is_empty() && native && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
        return false;
    }
    let known = messages.is_empty();
    errors.check(path, name, messages);
    known
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if object.at("metadata").str_at("resourceVersion").is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
        if object.at("spec").list_at("accessModes").is_empty() {
            errors.required(&Path::new("Spec").child("accessModes"), "");
        }
        let (path, status) = (Path::new("status"), object.at("status"));
        for (name, amount) in status.map_at("capacity") {
            not_negative(amount, &path.child("capacity").key(name), &mut errors);
        }
        let at_states = path.child("allocatedResourceStatuses");
        for (name, state) in status.map_at("allocatedResourceStatuses") {
            resource_key(name, &at_states, &mut errors);
            if !RESIZE_STATES.contains(&state.as_str().unwrap_or_default()) {
                errors.not_supported(&at_states, name.as_str(), RESIZE_STATES);
            }
        }
        let at_amounts = path.child("allocatedResources");
        for (name, amount) in status.map_at("allocatedResources") {
            if resource_key(name, &at_amounts, &mut errors) {
                not_negative(amount, &at_amounts.key(name), &mut errors);
            }
        }
        errors
    }
}

fn not_negative(amount: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let amount = Quantity::of(amount);
    if amount.is_negative() {
        errors.invalid(path, amount.value(), "must be a valid resource quantity");
    }
}
