//! Checks of what a pod says for itself.

use super::{Pod, Violation, items, plural, quoted, text, violation};
use std::collections::BTreeSet;

pub fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

pub fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let volumes: Vec<&str> = items(&pod.spec["volumes"])
        .iter()
        .filter(|volume| volume["hostPath"].is_object())
        .map(|volume| text(volume, "/name"))
        .collect();
    if volumes.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", volumes.len()), quoted(&volumes)))
}

/// Sysctls that touch nobody else, and the release that first knew them to.
const SAFE_SYSCTLS: &[(u32, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

pub fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let safe = |name: &str| SAFE_SYSCTLS.iter().any(|(since, known)| *since <= pod.minor && *known == name);
    let forbidden: Vec<&str> = items(&pod.spec["securityContext"]["sysctls"])
        .iter()
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| !safe(name))
        .collect();
    if forbidden.is_empty() { None } else { violation("forbidden sysctls", forbidden.join(", ")) }
}

const ALLOWED_VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let mut volumes = Vec::new();
    let mut types = BTreeSet::new();
    for volume in items(&pod.spec["volumes"]) {
        let sources: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, value)| *field != "name" && value.is_object())
            .map(|(field, _)| field.as_str())
            .collect();
        if sources.iter().any(|source| ALLOWED_VOLUMES.contains(source)) {
            continue;
        }
        volumes.push(text(volume, "/name"));
        types.insert(sources.first().copied().unwrap_or("unknown"));
    }
    if volumes.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", volumes.len()),
        quoted(&volumes),
        plural("uses", "use", volumes.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(&types)
    );
    violation("restricted volume types", detail)
}
