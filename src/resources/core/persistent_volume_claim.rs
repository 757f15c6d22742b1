//! PersistentVolumeClaim: its spec, which templates in pods hold too.

use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Quantity, Report};
use crate::resources::labels;
use serde_json::Value;

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
    let shown = path.child("dataSource").to_string();
    if !reference.str_at("namespace").is_empty() {
        errors.invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified");
    } else if ["apiGroup", "kind", "name"].iter().any(|part| source.at(part) != reference.at(part)) {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}
