//! PersistentVolume: storage of the cluster, with a life of its own.

use super::go_diff;
use super::persistent_volume_claim::{VOLUME_MODES, access_modes, short_modes};
use super::pod_spec::{affinity, defaults, volumes};
use crate::api::names;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Quantity, Report, time};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["pv".into()],
        namespaced: false,
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&[
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            "+VolumeMode",
        ]),
        strategy: Arc::new(PersistentVolume),
        ..Resource::new("", "v1", "PersistentVolume", "persistentvolumes")
    }
}

struct PersistentVolume;

const SPEC: Path<'static> = Path::new("spec");
/// In the order in which Kubernetes looks at them.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
const CSI_SECRETS: &[&str] =
    &["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];

impl Strategy for PersistentVolume {
    fn default(&self, object: &mut Value) {
        object.object_mut("status").set_default_str("phase", "Pending");
        let spec = object.object_mut("spec");
        spec.set_default_str("persistentVolumeReclaimPolicy", "Retain");
        spec.set_default("volumeMode", "Filesystem");
        defaults::resource_list(spec, "capacity");
        defaults::volume_sources(spec);
    }

    fn prepare_create(&self, object: &mut Value, context: &Context) {
        object.set("status", json!({ "phase": "Pending", "lastPhaseTransitionTime": time::seconds(context.now) }));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        // Once for the object, once more for the change: the causes have both.
        let mut errors = self.validate(object);
        errors.extend(self.validate(object));
        let (spec, before) = (object.at("spec"), old.at("spec"));
        let (source, source_before) = (source(spec), source(before));
        if !same(&source, &source_before) {
            let detail = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                go_diff::difference(&source_before, &source, go_diff::VOLUME_SOURCE)
            );
            errors.forbidden(&SPEC.child("persistentvolumesource"), detail);
        }
        errors.immutable(&Path::new("volumeMode"), spec.at("volumeMode"), before.at("volumeMode"));
        if before.has("nodeAffinity") && !same(spec.at("nodeAffinity"), before.at("nodeAffinity")) {
            let detail = "field is immutable, except for updating from beta label to GA";
            errors.invalid(&Path::new("nodeAffinity"), spec.at("nodeAffinity").clone(), detail);
        }
        errors
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
        let claim =
            spec.get_set("claimRef").map(|claim| format!("{}/{}", claim.str_at("namespace"), claim.str_at("name")));
        Some(vec![
            cells::name(object),
            spec.at("capacity").str_at("storage").into(),
            short_modes(spec.strs_at("accessModes")).into(),
            spec.str_at("persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            storage_class(object).into(),
            spec.optional_str("volumeAttributesClassName").unwrap_or("<unset>").into(),
            status.str_at("reason").into(),
            cells::age(object, now),
            spec.optional_str("volumeMode").unwrap_or("<unset>").into(),
        ])
    }
}

/// The storage class of a volume or claim; an annotation named it before the field did.
pub fn storage_class(object: &Value) -> &str {
    let annotation = object.at("metadata").at("annotations").optional_str("volume.beta.kubernetes.io/storage-class");
    annotation.unwrap_or_else(|| object.at("spec").str_at("storageClassName"))
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, context: &Context) {
        object.copy("spec", old);
        let (status, before) = (object.object_mut("status"), old.at("status"));
        const CHANGED: &str = "lastPhaseTransitionTime";
        if status.at("phase") != before.at("phase")
            && (!status.has(CHANGED) || status.at(CHANGED) == before.at(CHANGED))
        {
            status.set(CHANGED, time::seconds(context.now));
        }
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if object.at("metadata").str_at("resourceVersion").is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
        errors
    }
}

/// The fields that say where the storage is.
fn source(spec: &Value) -> Value {
    let fields = spec.entries().iter().filter(|(name, _)| SOURCES.contains(&name.as_str()));
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    let modes: Vec<&str> = spec.strs_at("accessModes").collect();
    if modes.is_empty() {
        errors.required(&SPEC.child("accessModes"), "");
    }
    access_modes(&modes, &SPEC.child("accessModes"), errors);
    let path = SPEC.child("capacity");
    let capacity = spec.map_at("capacity");
    if capacity.is_empty() {
        errors.required(&path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.not_supported(&path, spec.at("capacity").clone(), &["storage"]);
    }
    for (name, amount) in capacity {
        let amount = Quantity::of(amount);
        if amount.is_negative() {
            errors.invalid(&path.key(name), amount.value(), "must be a valid resource quantity");
        }
        if amount <= Quantity::ZERO {
            errors.invalid(&path.key(name), amount.to_string(), "must be greater than zero");
        }
    }
    let policy = spec.str_at("persistentVolumeReclaimPolicy");
    let at_policy = SPEC.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        errors.one_of(&at_policy, policy, &["Delete", "Recycle", "Retain"]);
    }
    if let Some(node_affinity) = spec.get_set("nodeAffinity") {
        let path = SPEC.child("nodeAffinity");
        let required = path.child("required");
        match node_affinity.get_set("required") {
            Some(selector) => affinity::node_selector(selector, false, &required, errors),
            None => errors.required(&required, "must specify required node constraints"),
        }
    }
    let mut found = 0;
    for field in SOURCES {
        let Some(value) = spec.get_set(field) else { continue };
        if found > 0 {
            errors.forbidden(&SPEC.child(field), "may not specify more than 1 volume type");
        } else {
            one_source(field, value, spec, errors);
        }
        found += 1;
    }
    if found == 0 {
        errors.required(&SPEC, "must specify a volume type");
    }
    if policy == "Recycle" && spec.at("hostPath").str_at("path").trim_end_matches('/') == "" && spec.has("hostPath") {
        errors.forbidden(&at_policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.str_at("storageClassName");
    if !class.is_empty() {
        errors.check(&SPEC.child("storageClassName"), class, names::dns_subdomain(class));
    }
    if let Some(mode) = spec.optional_str("volumeMode") {
        errors.one_of(&SPEC.child("volumeMode"), mode, VOLUME_MODES);
    }
    if let Some(class) = spec.optional_str("volumeAttributesClassName") {
        let path = SPEC.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&path, "an empty string is disallowed");
        } else {
            errors.check(&path, class, names::dns_subdomain(class));
        }
        if !spec.has("csi") {
            errors.required(&SPEC.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn one_source(field: &str, value: &Value, spec: &Value, errors: &mut ErrorList) {
    match field {
        "local" => {
            let path = SPEC.child("local.path");
            match value.str_at("path") {
                "" => errors.required(&path, ""),
                target => volumes::no_backsteps(target, &path, errors),
            }
            if !spec.at("nodeAffinity").has("required") {
                errors.required(&SPEC.child("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            let path = SPEC.child("csi");
            volumes::csi_driver_name(value.str_at("driver"), &path.child("driver"), errors);
            if value.str_at("volumeHandle").is_empty() {
                errors.required(&path.child("volumeHandle"), "");
            }
            for secret in CSI_SECRETS {
                let Some(reference) = value.get_set(secret) else { continue };
                let path = path.child(secret);
                for part in ["name", "namespace"] {
                    if reference.str_at(part).is_empty() {
                        errors.required(&path.child(part), "");
                    }
                }
            }
        }
        field => {
            volumes::check_source(field, value, &SPEC, errors);
        }
    }
}
