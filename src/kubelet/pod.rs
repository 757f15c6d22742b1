//! What the kubelet reads out of a pod: its containers by role, its policies, its names.

use crate::runtime::Subject;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use std::borrow::Cow;

/// Set by the API server's client that made a static pod's image in the API.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Where a pod comes from: `file` or `api`.
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// The hash of a static pod's manifest.
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";

/// Pods of this priority and above are critical to the node.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Which pod: its UID names it, the rest is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodKey {
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// `default/web`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// `web_default(uid)`, as messages of the kubelet name a pod.
impl std::fmt::Display for PodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

/// The role of a container in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs to its end before the next.
    Init,
    /// An init container with restartPolicy Always: runs beside the others, ends last.
    Sidecar,
    Regular,
    Ephemeral,
}

/// When a container that ended runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

pub fn spec(pod: &Pod) -> Cow<'_, PodSpec> {
    pod.spec.as_ref().map_or_else(|| Cow::Owned(PodSpec::default()), Cow::Borrowed)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

pub fn regular_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn init_role(container: &Container) -> Role {
    if is_sidecar(container) { Role::Sidecar } else { Role::Init }
}

/// Every container that the spec names, init first, ephemeral last.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = (Role, Cow<'_, Container>)> {
    let init = init_containers(pod).iter().map(|container| (init_role(container), Cow::Borrowed(container)));
    let regular = regular_containers(pod).iter().map(|container| (Role::Regular, Cow::Borrowed(container)));
    let ephemeral = ephemeral_containers(pod)
        .iter()
        .map(|container| (Role::Ephemeral, Cow::Owned(ephemeral_as_container(container))));
    init.chain(regular).chain(ephemeral)
}

pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    all_containers(pod).find(|(_, container)| container.name == name)
}

/// An ephemeral container's fields as an ordinary container's.
pub fn ephemeral_as_container(ephemeral: &EphemeralContainer) -> Container {
    let ephemeral = ephemeral.clone();
    Container {
        args: ephemeral.args,
        command: ephemeral.command,
        env: ephemeral.env,
        env_from: ephemeral.env_from,
        image: ephemeral.image,
        image_pull_policy: ephemeral.image_pull_policy,
        lifecycle: ephemeral.lifecycle,
        liveness_probe: ephemeral.liveness_probe,
        name: ephemeral.name,
        ports: ephemeral.ports,
        readiness_probe: ephemeral.readiness_probe,
        resize_policy: ephemeral.resize_policy,
        resources: ephemeral.resources,
        restart_policy: ephemeral.restart_policy,
        restart_policy_rules: ephemeral.restart_policy_rules,
        security_context: ephemeral.security_context,
        startup_probe: ephemeral.startup_probe,
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path,
        termination_message_policy: ephemeral.termination_message_policy,
        tty: ephemeral.tty,
        volume_devices: ephemeral.volume_devices,
        volume_mounts: ephemeral.volume_mounts,
        working_dir: ephemeral.working_dir,
    }
}

pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()))
}

/// The policy in force for one container that ended with `exit_code`: its own rules first, then its
/// own policy, then the pod's.
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.as_deref().unwrap_or_default() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let policy = match &container.restart_policy {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => restart_policy(pod),
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The image in the API of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR_ANNOTATION).is_some()
}

/// From a manifest file, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE_ANNOTATION).is_some_and(|source| source != "api")
}

/// Static, mirror and system-critical pods: admitted and kept before others.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || is_mirror(pod)
        || pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= SYSTEM_CRITICAL_PRIORITY)
}

pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

pub fn uses_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Succeeded or Failed by the API: nothing of it may run again.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The subject of events about the pod.
pub fn subject(pod: &Pod) -> Subject {
    let metadata = &pod.metadata;
    Subject {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        field_path: String::new(),
    }
}

/// The subject of events about one container.
pub fn container_subject(pod: &Pod, role: Role, name: &str) -> Subject {
    let list = match role {
        Role::Init | Role::Sidecar => "initContainers",
        Role::Regular => "containers",
        Role::Ephemeral => "ephemeralContainers",
    };
    Subject { field_path: format!("spec.{list}{{{name}}}"), ..subject(pod) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).expect("a container")
    }

    #[test]
    fn own_rules_come_before_own_policy_and_the_pods() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"restartPolicy": "Never", "containers": []}})).expect("a pod");
        let plain = container(json!({"name": "a"}));
        assert!(!restarts(&pod, &plain, 1));
        let own = container(json!({"name": "a", "restartPolicy": "OnFailure"}));
        assert!(restarts(&pod, &own, 1));
        assert!(!restarts(&pod, &own, 0));
        let rules = container(json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}));
        assert!(restarts(&pod, &rules, 42));
        assert!(!restarts(&pod, &rules, 1));
    }

    #[test]
    fn a_container_subject_names_its_list() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}})).expect("a pod");
        let subject = container_subject(&pod, Role::Sidecar, "log");
        assert_eq!(subject.field_path, "spec.initContainers{log}");
    }
}
