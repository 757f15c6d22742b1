//! Security contexts, of the pod and of its containers.

use super::volumes::local_descending_path;
use super::{Options, windows};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const APP_ARMOR_PROFILE_LIMIT: usize = 4095;
const SYSCTL_LIMIT: usize = 253;
const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const IPC_SYSCTLS: &[&str] = &[
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

/// `path` is that of spec.securityContext.
pub fn pod(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    let Some(context) = spec.get_set("securityContext") else { return };
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], path, errors);
    let groups = path.child("supplementalGroups");
    for (index, group) in context.list_at("supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or_default();
        errors.check_number(&groups.index(index), group, names::user_id(group));
    }
    if spec.bool_at("shareProcessNamespace") && spec.bool_at("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(spec, &path.child("sysctls"), options, errors);
    if let Some(policy) = context.optional_str("fsGroupChangePolicy") {
        errors.one_of(&path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    seccomp_profile(context.at("seccompProfile"), &path.child("seccompProfile"), errors);
    windows::options(context.at("windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor_profile(context.at("appArmorProfile"), &path.child("appArmorProfile"), errors);
    if let Some(policy) = context.optional_str("supplementalGroupsPolicy") {
        errors.one_of(&path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    }
    if let Some(policy) = context.optional_str("seLinuxChangePolicy") {
        let allowed: &[&str] = if options.keep_selinux_policy { &["MountOption", "Recursive"] } else { &["Recursive"] };
        errors.one_of(&path.child("seLinuxChangePolicy"), policy, allowed);
    }
}

pub fn container(context: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if context.is_null() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    if let Some(mount) = context.optional_str("procMount") {
        errors.one_of(&path.child("procMount"), mount, &["Default", "Unmasked"]);
        if mount == "Unmasked" && spec.optional_bool("hostUsers") != Some(false) {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.invalid(&path.child("procMount"), mount, detail);
        }
    }
    seccomp_profile(context.at("seccompProfile"), &path.child("seccompProfile"), errors);
    if context.optional_bool("allowPrivilegeEscalation") == Some(false) {
        if context.bool_at("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), detail);
        }
        for _ in context.at("capabilities").strs_at("add").filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), detail);
        }
    }
    windows::options(context.at("windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor_profile(context.at("appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn ids(context: &Value, fields: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for field in fields {
        if let Some(id) = context.optional_int(field) {
            errors.check_number(&path.child(field), id, names::user_id(id));
        }
    }
}

/// A user namespace cannot be had together with the host's other namespaces.
pub fn host_users(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    const FORBIDDEN: &str = "when `hostUsers` is false";
    if spec.optional_bool("hostUsers") != Some(false) {
        return;
    }
    if spec.bool_at("hostNetwork") && !options.keep_user_namespace_host_network {
        errors.forbidden(&path.child("hostNetwork"), FORBIDDEN);
    }
    if spec.bool_at("hostPID") {
        errors.forbidden(&path.child("HostPID"), FORBIDDEN);
    }
    if spec.bool_at("hostIPC") {
        errors.forbidden(&path.child("HostIPC"), FORBIDDEN);
    }
    if !options.keep_user_namespace_devices {
        super::visit(spec, path, |container, path| {
            if !container.list_at("volumeDevices").is_empty() {
                errors.forbidden(&path.child("volumeDevices"), FORBIDDEN);
            }
        });
    }
}

fn seccomp_profile(profile: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if profile.is_null() {
        return;
    }
    let kind = profile.str_at("type");
    match kind {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        _ => errors.one_of(&path.child("type"), kind, PROFILE_TYPES),
    }
    let at_profile = path.child("localhostProfile");
    match (kind, profile.optional_str("localhostProfile")) {
        ("Localhost", None) => errors.required(&at_profile, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => local_descending_path(file, &at_profile, errors),
        (_, Some(_)) => errors.invalid(&at_profile, profile.clone(), "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
}

pub fn app_armor_profile(profile: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if profile.is_null() {
        return;
    }
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    let at_profile = path.child("localhostProfile");
    let name = profile.optional_str("localhostProfile");
    match (profile.str_at("type"), name) {
        ("Localhost", None) => errors.required(&at_profile, NEEDED),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&at_profile, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&at_profile, NEEDED);
            }
            if name.len() > APP_ARMOR_PROFILE_LIMIT {
                errors.too_long(&at_profile, APP_ARMOR_PROFILE_LIMIT as i64);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&at_profile, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (kind, _) => errors.not_supported(&path.child("type"), kind, PROFILE_TYPES),
    }
}

fn sysctls(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (index, sysctl) in spec.at("securityContext").list_at("sysctls").iter().enumerate() {
        let path = path.index(index);
        let path = path.child("name");
        let name = sysctl.str_at("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            errors.invalid(&path, name, SYSCTL);
        } else if names.contains(name) {
            errors.duplicate(&path, name);
        }
        if !options.keep_host_sysctls
            && let Some(field) = host_sysctl(name, spec)
        {
            errors.invalid(&path, name, format!("may not be specified when '{field}' is true"));
        }
        names.insert(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
    name.len() <= SYSCTL_LIMIT
        && name
            .split(['.', '/'])
            .all(|part| edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner))
}

/// The host namespace that the sysctl would change.
fn host_sysctl(name: &str, spec: &Value) -> Option<&'static str> {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let normal: String = if slashes { name.chars().map(swap).collect() } else { name.to_owned() };
    let normal = normal.split('*').next().unwrap_or_default();
    if spec.bool_at("hostNetwork") && normal.starts_with("net.") {
        return Some("hostNetwork");
    }
    let ipc = IPC_SYSCTLS.contains(&normal) || normal.starts_with("fs.mqueue.");
    (spec.bool_at("hostIPC") && ipc).then_some("hostIPC")
}

pub fn has_host_sysctl(spec: &Value) -> bool {
    let mut sysctls = spec.at("securityContext").list_at("sysctls").iter();
    sysctls.any(|sysctl| host_sysctl(sysctl.str_at("name"), spec).is_some())
}
