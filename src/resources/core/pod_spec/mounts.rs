//! Volumes as containers see them: mounts and block devices.

use super::Scope;
use super::volumes::{local_descending_path, no_backsteps};
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
const RECURSIVE_READ_ONLY: &[&str] = &["Disabled", "Enabled", "IfPossible"];

pub fn mounts(container: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let devices = paths_by_name(container, "volumeDevices", "devicePath");
    let mut taken = BTreeSet::new();
    let list = path;
    for (index, mount) in container.list_at("volumeMounts").iter().enumerate() {
        let path = list.index(index);
        let (name, target) = (mount.str_at("name"), mount.str_at("mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !scope.volumes.contains_key(name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !taken.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == target) {
            errors.invalid(&path.child("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        let sub_path = mount.str_at("subPath");
        if !sub_path.is_empty() {
            local_descending_path(sub_path, &list.child("subPath"), errors);
        }
        let expression = mount.str_at("subPathExpr");
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&path.child("subPathExpr"), expression, detail);
            }
            local_descending_path(expression, &list.child("subPathExpr"), errors);
        }
        propagation(mount, container, &list.child("mountPropagation"), errors);
        recursive_read_only(mount, &list.child("recursiveReadOnly"), errors);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(mode) = mount.optional_str("mountPropagation") else { return };
    errors.one_of(path, mode, PROPAGATIONS);
    if mode == "Bidirectional" && !container.at("securityContext").bool_at("privileged") {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match mount.optional_str("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.bool_at("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !["", "None"].contains(&mount.str_at("mountPropagation")) {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(mode) => errors.not_supported(path, mode, RECURSIVE_READ_ONLY),
    }
}

pub fn devices(container: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let mounts = paths_by_name(container, "volumeMounts", "mountPath");
    let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in container.list_at("volumeDevices").iter().enumerate() {
        let path = path.index(index);
        let (name, target) = (device.str_at("name"), device.str_at("devicePath"));
        let (at_name, at_path) = (path.child("name"), path.child("devicePath"));
        if name.is_empty() {
            errors.required(&at_name, "");
        }
        if names.contains(name) {
            errors.invalid(&at_name, name, "must be unique");
        }
        match scope.volumes.get(name) {
            None => errors.not_found(&at_name, name),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at_name, name, detail);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.required(&at_path, "");
        }
        if targets.contains(target) {
            errors.invalid(&at_path, target, "must be unique");
        }
        let mut backsteps = ErrorList::new();
        no_backsteps(target, &at_path, &mut backsteps);
        if backsteps.is_empty() {
            targets.insert(target);
        } else {
            errors.invalid(&at_path, target, "can not contain backsteps ('..')");
        }
        if mounts.contains_key(name) {
            errors.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|mount| *mount == target) {
            errors.invalid(&at_path, target, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn paths_by_name<'a>(container: &'a Value, list: &str, path: &str) -> BTreeMap<&'a str, &'a str> {
    container.list_at(list).iter().map(|item| (item.str_at("name"), item.str_at(path))).collect()
}
