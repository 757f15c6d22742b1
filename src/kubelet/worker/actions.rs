//! What to do next for a pod: pure, from its spec, what the runtime holds and what probes say.
//!
//! Entry: [`compute`]. Level-triggered: the same state gives the same actions, and carrying them
//! out leads to a state that gives fewer. Backoff is the caller's: an action may be put off.

use crate::api::cri::{ContainerId, ContainerState, ContainerStatus, NamespaceMode, SandboxId};
use crate::kubelet::pod::{self, RestartPolicy};
use crate::kubelet::view::{ANNOTATION_HASH, PodView, container_hash};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Why a running container has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    LivenessProbe,
    StartupProbe,
    /// Its image in the spec is another.
    Changed,
    /// The runtime lost sight of it.
    Unknown,
    /// A resize that needs a restart.
    Resize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: ContainerId,
    pub name: String,
    pub reason: KillReason,
    pub message: String,
}

/// One round of work on a pod. Indices are into the spec's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// End all containers and the sandbox: nothing is to run any more, or the sandbox is lost.
    pub kill_pod: bool,
    pub create_sandbox: bool,
    pub attempt: u32,
    /// The sandbox to start containers in, where it is not to be made.
    pub sandbox: Option<SandboxId>,
    pub kill: Vec<Kill>,
    pub start_init: Vec<usize>,
    pub start: Vec<usize>,
    pub start_ephemeral: Vec<usize>,
}

impl Actions {
    pub fn is_empty(&self) -> bool {
        !self.create_sandbox
            && !self.kill_pod
            && self.kill.is_empty()
            && self.start_init.is_empty()
            && self.start.is_empty()
            && self.start_ephemeral.is_empty()
    }
}

/// What probes say about a container; absent: no probe, or no verdict yet.
pub trait Verdicts {
    /// Some(false): it failed and must be killed.
    fn liveness(&self, id: &str) -> Option<bool>;
    fn startup(&self, id: &str) -> Option<bool>;
    /// A resize of this container needs a restart.
    fn needs_restart(&self, id: &str) -> bool;
}

/// The sandbox to use, or the attempt number of the one to make.
fn sandbox_change(pod: &Pod, view: &PodView) -> Result<SandboxId, u32> {
    let Some(latest) = view.sandboxes.first() else { return Err(0) };
    let next = latest.config.attempt + 1;
    let ready = view.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    let host = pod::uses_host_network(pod);
    let mode_differs = host != (latest.config.network == NamespaceMode::Node);
    if ready != 1 || !latest.ready || mode_differs || (!host && latest.ips.is_empty()) {
        return Err(next);
    }
    Ok(latest.id.clone())
}

/// Whether a container without a running instance is to be started.
fn should_start(pod: &Pod, container: &Container, status: Option<&ContainerStatus>) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match status {
        None => true,
        Some(status) => match status.state {
            ContainerState::Running => false,
            ContainerState::Created | ContainerState::Unknown => true,
            ContainerState::Exited => pod::restarts(pod, container, status.exit_code),
        },
    }
}

pub fn compute(pod: &Pod, view: &PodView, verdicts: &dyn Verdicts) -> Actions {
    match sandbox_change(pod, view) {
        Err(attempt) => with_new_sandbox(pod, view, attempt),
        Ok(sandbox) => within_sandbox(pod, view, verdicts, sandbox),
    }
}

fn with_new_sandbox(pod: &Pod, view: &PodView, attempt: u32) -> Actions {
    let mut actions = Actions { kill_pod: true, create_sandbox: true, attempt, ..Actions::default() };
    if view.sandboxes.is_empty() {
        actions.kill_pod = false;
    }
    // What ran once under Never does not run again because its sandbox went.
    if pod::restart_policy(pod) == RestartPolicy::Never && attempt != 0 && !view.containers.is_empty() {
        actions.create_sandbox = false;
        actions.kill_pod = !view.is_stopped();
        return actions;
    }
    let start: Vec<usize> = pod::regular_containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, container)| {
            let status = view.latest(&container.name);
            // A process of a lost sandbox is gone, whatever the runtime last saw of it.
            match status {
                Some(status) if status.state == ContainerState::Running => true,
                status => should_start(pod, container, status),
            }
        })
        .map(|(index, _)| index)
        .collect();
    if start.is_empty() {
        actions.create_sandbox = false;
        actions.kill_pod = !view.is_stopped();
        return actions;
    }
    if pod::init_containers(pod).is_empty() {
        actions.start = start;
    } else {
        actions.start_init = vec![0];
    }
    actions
}

fn within_sandbox(pod: &Pod, view: &PodView, verdicts: &dyn Verdicts, sandbox: SandboxId) -> Actions {
    let mut actions = Actions { sandbox: Some(sandbox.clone()), ..Actions::default() };
    for (index, container) in pod::ephemeral_containers(pod).iter().enumerate() {
        if view.latest(&container.name).is_none() {
            actions.start_ephemeral.push(index);
        }
    }
    if !init_actions(pod, view, verdicts, &sandbox, &mut actions) {
        return actions;
    }
    let mut keep = 0;
    for (index, container) in pod::regular_containers(pod).iter().enumerate() {
        let status = view.latest(&container.name);
        let Some(status) = status.filter(|status| status.state == ContainerState::Running) else {
            if should_start(pod, container, status) {
                actions.start.push(index);
                if let Some(unknown) = status.filter(|status| status.state == ContainerState::Unknown) {
                    actions.kill.push(kill_unknown(unknown, "Container"));
                }
            }
            continue;
        };
        let mut restart = pod::restart_policy(pod) != RestartPolicy::Never || pod::restarts(pod, container, 137);
        let (reason, message) = if changed(container, status) {
            restart = true;
            (KillReason::Changed, format!("Container {} definition changed", container.name))
        } else if verdicts.liveness(&status.id) == Some(false) {
            (KillReason::LivenessProbe, format!("Container {} failed liveness probe", container.name))
        } else if verdicts.startup(&status.id) == Some(false) {
            (KillReason::StartupProbe, format!("Container {} failed startup probe", container.name))
        } else if verdicts.needs_restart(&status.id) {
            (KillReason::Resize, format!("Container {} resize requires restart", container.name))
        } else {
            keep += 1;
            continue;
        };
        let mut message = message;
        if restart {
            message.push_str(", will be restarted");
            actions.start.push(index);
        }
        actions.kill.push(Kill { id: status.id.clone(), name: container.name.clone(), reason, message });
    }
    if keep == 0 && actions.start.is_empty() {
        actions.kill_pod = true;
        // A sidecar must not keep alive a pod whose work is done.
        actions.start_init.clear();
    }
    actions
}

fn changed(container: &Container, status: &ContainerStatus) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    status.annotations.get(ANNOTATION_HASH).is_some_and(|hash| *hash != container_hash(&container.name, image))
}

fn kill_unknown(status: &ContainerStatus, what: &str) -> Kill {
    Kill {
        id: status.id.clone(),
        name: status.name.clone(),
        reason: KillReason::Unknown,
        message: format!("{what} is in \"unknown\" state, try killing it before restart"),
    }
}

/// Fills in the init containers' part; true: all are done (or run, for sidecars), the regular
/// containers may start.
///
/// It goes from the last to the first, because what ran long ago may have been cleaned away: only
/// the last one that left a trace counts.
fn init_actions(pod: &Pod, view: &PodView, verdicts: &dyn Verdicts, sandbox: &str, actions: &mut Actions) -> bool {
    let containers = pod::init_containers(pod);
    if containers.is_empty() {
        return true;
    }
    let mut pod_initialized = pod::regular_containers(pod).iter().any(|container| {
        view.latest_in(sandbox, &container.name)
            .is_some_and(|status| matches!(status.state, ContainerState::Created | ContainerState::Running))
    });
    // A regular container of this sandbox that ended shows it too, since none starts before.
    pod_initialized |=
        pod::regular_containers(pod).iter().any(|container| view.latest_in(sandbox, &container.name).is_some());
    let mut previous_initialized = pod_initialized;
    let restart_on_failure = pod::restart_policy(pod) != RestartPolicy::Never;
    let last = containers.len() - 1;
    for (index, container) in containers.iter().enumerate().rev() {
        let sidecar = pod::is_sidecar(container);
        let Some(status) = view.latest_in(sandbox, &container.name) else {
            if previous_initialized && sidecar {
                actions.start_init.push(index);
            }
            continue;
        };
        if previous_initialized && !sidecar {
            continue;
        }
        match (status.state, sidecar) {
            (ContainerState::Created, _) => actions.start_init.push(index),
            (ContainerState::Running, false) => {}
            (ContainerState::Running, true) => {
                let mut initialized = true;
                if container.startup_probe.is_some() {
                    match verdicts.startup(&status.id) {
                        Some(true) => {}
                        Some(false) => {
                            initialized = false;
                            actions.kill.push(Kill {
                                id: status.id.clone(),
                                name: container.name.clone(),
                                reason: KillReason::StartupProbe,
                                message: format!("Init container {} failed startup probe", container.name),
                            });
                            actions.start_init.push(index);
                        }
                        None => initialized = false,
                    }
                }
                if initialized {
                    if index == last {
                        pod_initialized = true;
                    } else if !previous_initialized {
                        actions.start_init.push(index + 1);
                    }
                    if verdicts.liveness(&status.id) == Some(false) {
                        actions.kill.push(Kill {
                            id: status.id.clone(),
                            name: container.name.clone(),
                            reason: KillReason::LivenessProbe,
                            message: format!("Init container {} failed liveness probe", container.name),
                        });
                        actions.start_init.push(index);
                    }
                }
            }
            (ContainerState::Exited, true) => actions.start_init.push(index),
            (ContainerState::Exited, false) if status.exit_code == 0 => {
                if index == last {
                    pod_initialized = true;
                } else {
                    actions.start_init.push(index + 1);
                }
            }
            (ContainerState::Unknown, true) => {
                actions.kill.push(kill_unknown(status, "Init container"));
                actions.start_init.push(index);
            }
            (state @ (ContainerState::Exited | ContainerState::Unknown), false) => {
                let exit_code = if state == ContainerState::Exited { status.exit_code } else { 137 };
                if !restart_on_failure && !pod::restarts(pod, container, exit_code) {
                    actions.kill_pod = true;
                    actions.start_init.clear();
                    return false;
                }
                if state == ContainerState::Unknown {
                    actions.kill.push(kill_unknown(status, "Init container"));
                }
                actions.start_init.push(index);
            }
        }
        previous_initialized = true;
    }
    if !previous_initialized {
        actions.start_init.push(0);
    }
    actions.start_init.sort_unstable();
    actions.start_init.dedup();
    pod_initialized
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
