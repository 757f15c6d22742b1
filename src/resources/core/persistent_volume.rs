//! PersistentVolume: storage of the cluster, with a life of its own.

use super::go_diff;
use super::persistent_volume_claim::{STORAGE_CLASS_ANNOTATION, VOLUME_MODES, access_modes, short_modes};
use super::pod_spec::{affinity, defaults, volumes, warnings};
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

const EXPAND_SECRET: &str = "controllerExpandSecretRef";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const DEPRECATED_ANNOTATIONS: &[(&str, &str)] = &[
    (STORAGE_CLASS_ANNOTATION, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
    (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
];
/// Field, the field as warnings name it, since when.
const DEPRECATED_SOURCES: &[(&str, &str, &str)] = &[
    ("cephfs", "cephfs", "v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "v1.28, non-functional in v1.31+"),
];
/// Sources without mount options.
const WITHOUT_MOUNT_OPTIONS: &[&str] =
    &["hostPath", "flocker", "fc", "flexVolume", "portworxVolume", "scaleIO", "local", "storageos", "csi"];

impl Strategy for PersistentVolume {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        2
    }

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
        validate_spec(object.at("spec"), object.at("metadata").str_at("name"), false, &SPEC, &mut errors);
        mount_options(object, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        // Once for the object, once more for the change: the causes have both.
        let mut errors = self.validate(object);
        validate_spec(object.at("spec"), object.at("metadata").str_at("name"), false, &SPEC, &mut errors);
        let (spec, before) = (object.at("spec"), old.at("spec"));
        let (mut source, source_before) = (source(spec), source(before));
        // The secret for expansion may come later.
        if source_before.has("csi")
            && !source_before.at("csi").has(EXPAND_SECRET)
            && let Some(csi) = source.set_mut("csi")
        {
            csi.clear(EXPAND_SECRET);
        }
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
        if before.has("volumeAttributesClassName") && !spec.has("volumeAttributesClassName") {
            let detail = "update from non-nil value to nil is forbidden";
            errors.forbidden(&SPEC.child("volumeAttributesClassName"), detail);
        }
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let annotations = object.at("metadata").at("annotations");
        for (name, text) in DEPRECATED_ANNOTATIONS.iter().filter(|(name, _)| annotations.has(name)) {
            out.push(format!("metadata.annotations[{name}]: {text}"));
        }
        let spec = object.at("spec");
        if spec.str_at("persistentVolumeReclaimPolicy") == "Recycle" {
            out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
        let at_terms = SPEC.child("nodeAffinity.required.nodeSelectorTerms");
        let terms = spec.at("nodeAffinity").at("required").list_at("nodeSelectorTerms");
        for (index, term) in terms.iter().enumerate() {
            warnings::node_selector_term(term, false, &at_terms.index(index), &mut out);
        }
        for (_, shown, text) in DEPRECATED_SOURCES.iter().filter(|(field, _, _)| spec.has(field)) {
            out.push(format!("spec.{shown}: deprecated in {text}"));
        }
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
    let annotation = object.at("metadata").at("annotations").optional_str(STORAGE_CLASS_ANNOTATION);
    annotation.unwrap_or_else(|| object.at("spec").str_at("storageClassName"))
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, context: &Context) {
        object.copy("spec", old);
        let (status, before) = (object.object_mut("status"), old.at("status"));
        const CHANGED: &str = "lastPhaseTransitionTime";
        if status.at("phase") == before.at("phase") {
            if !status.has(CHANGED) {
                status.copy(CHANGED, before);
            }
        } else if !status.has(CHANGED) || status.at(CHANGED) == before.at(CHANGED) {
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

fn mount_options(object: &Value, errors: &mut ErrorList) {
    let known = |field: &&str| object.at("spec").has(field) && !WITHOUT_MOUNT_OPTIONS.contains(field);
    if object.at("metadata").at("annotations").has(MOUNT_OPTIONS) && !SOURCES.iter().any(|field| known(field)) {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        errors.forbidden(&path.child(MOUNT_OPTIONS), "may not specify mount options for this volume type");
    }
}

/// `inline`: of a VolumeAttachment, which has no PersistentVolume.
pub fn validate_spec(spec: &Value, name: &str, inline: bool, at_spec: &Path<'_>, errors: &mut ErrorList) {
    const INLINE: &str = "in the context of inline volumes";
    let not_inline = format!("may not be specified {INLINE}");
    if inline {
        for field in ["claimRef", "capacity"] {
            if spec.at(field).as_object().is_some_and(|value| field == "claimRef" || !value.is_empty()) {
                errors.forbidden(&at_spec.child(field), not_inline.as_str());
            }
        }
        if !spec.has("csi") {
            errors.required(&at_spec.child("csi"), format!("has to be specified {INLINE}"));
        }
    }
    let modes: Vec<&str> = spec.strs_at("accessModes").collect();
    if modes.is_empty() {
        errors.required(&at_spec.child("accessModes"), "");
    }
    access_modes(&modes, &at_spec.child("accessModes"), errors);
    if !inline {
        capacity(spec.at("capacity"), &at_spec.child("capacity"), errors);
    }
    let policy = spec.str_at("persistentVolumeReclaimPolicy");
    let at_policy = at_spec.child("persistentVolumeReclaimPolicy");
    match policy {
        "" => {}
        "Retain" if inline => {}
        _ if inline => errors.forbidden(&at_policy, format!("may only be Retain {INLINE}")),
        _ => errors.one_of(&at_policy, policy, &["Delete", "Recycle", "Retain"]),
    }
    if inline && spec.has("nodeAffinity") {
        errors.forbidden(&at_spec.child("nodeAffinity"), not_inline.as_str());
    } else if let Some(node_affinity) = spec.get_set("nodeAffinity") {
        let path = at_spec.child("nodeAffinity");
        let required = path.child("required");
        match node_affinity.get_set("required") {
            Some(selector) => affinity::node_selector(selector, false, &required, errors),
            None => errors.required(&required, "must specify required node constraints"),
        }
    }
    let mut found = 0;
    for field in SOURCES {
        let Some(value) = spec.get_set(field) else { continue };
        // Kubernetes does not count here before it looks at a FlexVolume.
        if found > 0 && *field != "flexVolume" {
            let shown = if *field == "cephfs" { "cephFS" } else { field };
            errors.forbidden(&at_spec.child(shown), "may not specify more than 1 volume type");
        } else {
            one_source(field, value, spec, Place { name, inline, at_spec }, errors);
        }
        found += 1;
    }
    if found == 0 {
        errors.required(at_spec, "must specify a volume type");
    }
    if policy == "Recycle" && spec.at("hostPath").str_at("path").trim_end_matches('/') == "" && spec.has("hostPath") {
        errors.forbidden(&at_policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.str_at("storageClassName");
    if !class.is_empty() && inline {
        errors.forbidden(&at_spec.child("storageClassName"), not_inline.as_str());
    } else if !class.is_empty() {
        errors.check(&at_spec.child("storageClassName"), class, names::dns_subdomain(class));
    }
    if let Some(mode) = spec.optional_str("volumeMode") {
        match (inline, mode) {
            (true, "Filesystem") => {}
            (true, _) => {
                let detail = format!("may not specify volumeMode other than Filesystem {INLINE}");
                errors.forbidden(&at_spec.child("volumeMode"), detail);
            }
            (false, _) => errors.one_of(&at_spec.child("volumeMode"), mode, VOLUME_MODES),
        }
    }
    if let Some(class) = spec.optional_str("volumeAttributesClassName").filter(|_| !inline) {
        let path = at_spec.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&path, "an empty string is disallowed");
        } else {
            errors.check(&path, class, names::dns_subdomain(class));
        }
        if !spec.has("csi") {
            errors.required(&at_spec.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(capacity: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let amounts = capacity.entries();
    if amounts.is_empty() {
        errors.required(path, "");
    }
    if !amounts.contains_key("storage") || amounts.len() > 1 {
        errors.not_supported(path, capacity.clone(), &["storage"]);
    }
    for (name, amount) in amounts {
        let amount = Quantity::of(amount);
        if amount.is_negative() {
            errors.invalid(&path.key(name), amount.value(), "must be a valid resource quantity");
        }
        if amount <= Quantity::ZERO {
            errors.invalid(&path.key(name), amount.to_string(), "must be greater than zero");
        }
    }
}

/// A secret in some namespace.
fn secret(holder: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("secretRef");
    if let Some(reference) = holder.get_set("secretRef") {
        for part in ["name", "namespace"] {
            if reference.str_at(part).is_empty() {
                errors.required(&path.child(part), "");
            }
        }
    }
}

/// Which volume is meant; `inline`: of a VolumeAttachment.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    inline: bool,
    at_spec: &'a Path<'a>,
}

fn one_source(field: &str, value: &Value, spec: &Value, place: Place<'_>, errors: &mut ErrorList) {
    let Place { name, inline, at_spec } = place;
    match field {
        "local" => {
            let path = at_spec.child("local.path");
            match value.str_at("path") {
                "" => errors.required(&path, ""),
                target => volumes::no_backsteps(target, &path, errors),
            }
            if inline || !spec.has("nodeAffinity") {
                errors.required(&at_spec.child("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            let path = at_spec.child("csi");
            volumes::csi_driver_name(value.str_at("driver"), &path.child("driver"), errors);
            if value.str_at("volumeHandle").is_empty() {
                errors.required(&path.child("volumeHandle"), "");
            }
            for secret in CSI_SECRETS {
                let Some(reference) = value.get_set(secret) else { continue };
                let path = path.child(secret);
                let parts: [(&str, fn(&str) -> names::Messages); 2] =
                    [("name", names::dns_subdomain), ("namespace", names::dns_label)];
                for (part, check) in parts {
                    match reference.str_at(part) {
                        "" => errors.required(&path.child(part), ""),
                        text => errors.check(&path.child(part), text, check(text)),
                    }
                }
            }
        }
        "iscsi" => volumes::persistent_iscsi(value, name, &at_spec.child("iscsi"), errors),
        "cinder" => {
            let path = at_spec.child("cinder");
            if value.str_at("volumeID").is_empty() {
                errors.required(&path.child("volumeID"), "");
            }
            secret(value, &path, errors);
        }
        "storageos" => {
            let path = at_spec.child("storageos");
            volumes::storage_os_names(value, &path, errors);
            secret(value, &path, errors);
        }
        field => {
            volumes::check_source(field, value, at_spec, errors);
            if field == "glusterfs"
                && let Some(namespace) = value.optional_str("endpointsNamespace")
            {
                let path = at_spec.child("glusterfs.endpointsNamespace");
                let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                match namespace {
                    "" => errors.invalid(&path, "", detail),
                    namespace => errors.check(&path, namespace, names::dns_label(namespace)),
                }
            }
            if field == "azureFile" && value.optional_str("secretNamespace") == Some("") {
                errors.required(&at_spec.child("azureFile.secretNamespace"), "");
            }
        }
    }
}
