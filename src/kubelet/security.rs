//! The security context of a container: the pod's with the container's over it.
//!
//! Pure. Entry: [`effective`] and [`verify_non_root`]. Nothing named means the runtime's default
//! seccomp profile.

use super::pod::{self, PodKey};
use crate::api::cri::{Image, NamespaceMode, SeccompProfile, SecurityContext};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext as Wanted};
use std::collections::BTreeMap;
use std::path::Path;

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

/// The context that the runtime enforces. `seccomp_root`: where localhost profiles are.
pub fn effective(
    pod: &Pod,
    container: &Container,
    extra_groups: &[i64],
    seccomp_root: &Path,
) -> Result<SecurityContext, String> {
    let of_pod = pod_context(pod);
    let own = container.security_context.as_ref();
    let privileged = own.and_then(|own| own.privileged).unwrap_or(false);
    let mut groups: Vec<i64> = Vec::new();
    let wanted = of_pod.and_then(|context| context.supplemental_groups.as_deref()).unwrap_or_default();
    let fs_group = of_pod.and_then(|context| context.fs_group);
    for &group in wanted.iter().chain(fs_group.iter()).chain(extra_groups) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let list = |names: Option<&Vec<String>>| names.cloned().unwrap_or_default();
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    Ok(SecurityContext {
        privileged,
        run_as_user: run_as_user(pod, own),
        run_as_group: own.and_then(|own| own.run_as_group).or_else(|| of_pod.and_then(|context| context.run_as_group)),
        supplemental_groups: groups,
        strict_supplemental_groups: of_pod.and_then(|context| context.supplemental_groups_policy.as_deref())
            == Some("Strict"),
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem).unwrap_or(false),
        add_capabilities: list(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
        drop_capabilities: list(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        seccomp: if privileged { SeccompProfile::Unconfined } else { seccomp(pod, own, seccomp_root)? },
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
        pid: pid_mode(pod),
        target_container: None,
    })
}

fn run_as_user(pod: &Pod, own: Option<&Wanted>) -> Option<i64> {
    own.and_then(|own| own.run_as_user).or_else(|| pod_context(pod)?.run_as_user)
}

pub fn pid_mode(pod: &Pod) -> NamespaceMode {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_pid).unwrap_or(false) {
        NamespaceMode::Node
    } else if spec.and_then(|spec| spec.share_process_namespace).unwrap_or(false) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    }
}

fn seccomp(pod: &Pod, own: Option<&Wanted>, root: &Path) -> Result<SeccompProfile, String> {
    let profile = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or_else(|| pod_context(pod).and_then(|context| context.seccomp_profile.as_ref()));
    let Some(profile) = profile else { return Ok(SeccompProfile::RuntimeDefault) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(SeccompProfile::Unconfined),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().filter(|name| !name.is_empty());
            let name = name.ok_or("localhostProfile must be set if seccompProfile type is Localhost.")?;
            Ok(SeccompProfile::Localhost(root.join(name)))
        }
        _ => Ok(SeccompProfile::RuntimeDefault),
    }
}

/// `runAsNonRoot` against the user that the container or the image names.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &Image) -> Result<(), String> {
    let own = container.security_context.as_ref();
    let required = own
        .and_then(|own| own.run_as_non_root)
        .or_else(|| pod_context(pod).and_then(|context| context.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", PodKey::of(pod), container.name);
    match run_as_user(pod, own) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match image.uid {
        Some(0) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        Some(_) => Ok(()),
        None if image.username.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        None => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.username
        )),
    }
}

/// Sysctls of the pod; those that are not of a namespace the pod has for its own are refused.
pub fn sysctls(pod: &Pod, allowed_unsafe: &[String]) -> Result<BTreeMap<String, String>, String> {
    const SAFE: &[&str] = &[
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let mut out = BTreeMap::new();
    for sysctl in pod_context(pod).and_then(|context| context.sysctls.as_deref()).unwrap_or_default() {
        let name = sysctl.name.replace('/', ".");
        let allowed = SAFE.contains(&name.as_str())
            || allowed_unsafe.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *pattern == name,
            });
        if !allowed {
            return Err(format!("forbidden sysctl: \"{}\" not allowlisted", sysctl.name));
        }
        let host_network = pod::uses_host_network(pod) && name.starts_with("net.");
        let host_ipc = pod.spec.as_ref().and_then(|spec| spec.host_ipc).unwrap_or(false)
            && (name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name.starts_with("fs.mqueue."));
        if host_network || host_ipc {
            return Err(format!("forbidden sysctl: \"{}\" not allowed with host namespaces enabled", sysctl.name));
        }
        out.insert(name, sysctl.value.clone());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(pod_context: Value, context: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": context}]}}))
        .expect("a pod")
    }

    fn merged(pod: &Pod) -> SecurityContext {
        effective(pod, &pod::regular_containers(pod)[0], &[], Path::new("/seccomp")).expect("a context")
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let pod = pod(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4],
                "seccompProfile": {"type": "Unconfined"}}),
            json!({"runAsUser": 5, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}),
        );
        let context = merged(&pod);
        assert_eq!((context.run_as_user, context.run_as_group), (Some(5), Some(2)));
        assert_eq!(context.supplemental_groups, [4, 3]);
        assert!(context.no_new_privileges && context.readonly_rootfs);
        assert_eq!(context.seccomp, SeccompProfile::Localhost("/seccomp/a.json".into()));
    }

    #[test]
    fn the_default_profile_unless_privileged() {
        assert_eq!(merged(&pod(json!({}), json!({}))).seccomp, SeccompProfile::RuntimeDefault);
        let privileged = merged(&pod(json!({}), json!({"privileged": true})));
        assert_eq!(privileged.seccomp, SeccompProfile::Unconfined);
    }

    #[test]
    fn non_root() {
        let verdict = |context: Value, image: Image| {
            let pod = pod(json!({"runAsNonRoot": true}), context);
            verify_non_root(&pod, &pod::regular_containers(&pod)[0], &image)
        };
        let place = "(pod: \"web_default(u)\", container: c)";
        assert_eq!(
            verdict(json!({}), Image::default()),
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        );
        assert_eq!(verdict(json!({}), Image { uid: Some(7), ..Image::default() }), Ok(()));
        assert_eq!(
            verdict(json!({"runAsUser": 0}), Image::default()),
            Err(format!("container's runAsUser breaks non-root policy {place}"))
        );
        assert_eq!(
            verdict(json!({}), Image { username: "redis".into(), ..Image::default() }),
            Err(format!(
                "container has runAsNonRoot and image has non-numeric user (redis), cannot verify user is non-root {place}"
            ))
        );
        assert_eq!(verdict(json!({"runAsNonRoot": false}), Image::default()), Ok(()));
    }

    #[test]
    fn sysctls_outside_the_list_are_refused() {
        let with = |name: &str| pod(json!({"sysctls": [{"name": name, "value": "1"}]}), json!({}));
        assert!(sysctls(&with("net.ipv4.tcp_syncookies"), &[]).is_ok());
        assert_eq!(
            sysctls(&with("kernel.msgmax"), &[]),
            Err("forbidden sysctl: \"kernel.msgmax\" not allowlisted".into())
        );
        assert!(sysctls(&with("kernel.msgmax"), &["kernel.msg*".into()]).is_ok());
    }
}
