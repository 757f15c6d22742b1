//! What the runtime holds of one pod: its sandboxes and containers, newest first.

use crate::api::cri::{self, ContainerRuntime, ContainerState, ContainerStatus, CriError, PodSandboxStatus};
use std::collections::HashMap;

/// Labels that the kubelet puts on sandboxes and containers and finds them by.
pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// What of the container's spec a running container cannot follow.
pub const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
pub const ANNOTATION_TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const ANNOTATION_TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Where on the host the termination message file is.
pub const ANNOTATION_TERMINATION_MESSAGE_FILE: &str = "orch.io/termination-message-file";

/// One pod as the runtime knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

impl PodView {
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.config.attempt)));
        self.containers.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest of that name in one sandbox.
    pub fn latest_in(&self, sandbox: &str, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name && container.sandbox_id == sandbox)
    }

    /// All of that name, newest first.
    pub fn history<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
        self.containers.iter().filter(move |container| container.name == name)
    }

    pub fn container(&self, id: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.id == id)
    }

    pub fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.iter().find(|sandbox| sandbox.ready)
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.latest(name).is_some_and(|container| container.state == ContainerState::Running)
    }

    pub fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|container| container.state == ContainerState::Running)
    }

    /// Neither a process nor a sandbox of it lives.
    pub fn is_stopped(&self) -> bool {
        !self.sandboxes.iter().any(|sandbox| sandbox.ready)
            && !self.containers.iter().any(|container| container.state == ContainerState::Running)
    }

    /// The sandboxes of this view, read again.
    pub async fn refresh(&mut self, runtime: &dyn ContainerRuntime) -> cri::Result<()> {
        let mut fresh = Self::default();
        for sandbox in &self.sandboxes {
            match runtime.pod_sandbox_status(&sandbox.id).await {
                Ok(status) => {
                    fresh.containers.extend(runtime.list_containers(Some(&sandbox.id)).await?);
                    fresh.sandboxes.push(status);
                }
                Err(CriError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        fresh.sort();
        *self = fresh;
        Ok(())
    }
}

/// Everything the runtime holds, by pod UID.
pub async fn all(runtime: &dyn ContainerRuntime) -> cri::Result<HashMap<String, PodView>> {
    let mut pods: HashMap<String, PodView> = HashMap::new();
    let mut owners = HashMap::new();
    for sandbox in runtime.list_pod_sandboxes().await? {
        owners.insert(sandbox.id.clone(), sandbox.config.uid.clone());
        pods.entry(sandbox.config.uid.clone()).or_default().sandboxes.push(sandbox);
    }
    for container in runtime.list_containers(None).await? {
        if let Some(uid) = owners.get(&container.sandbox_id) {
            pods.entry(uid.clone()).or_default().containers.push(container);
        }
    }
    for view in pods.values_mut() {
        view.sort();
    }
    Ok(pods)
}

/// A hash that changes when a running container has to be replaced: of its name and image.
pub fn container_hash(name: &str, image: &str) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}
