//! In-place resize: limits of running containers follow the spec without a restart.
//!
//! What was asked of the runtime last is what counts, not what the kernel rounds it to; each new
//! wish is tried once.

use super::state::Shared;
use crate::api::cri::{ContainerState, LinuxResources};
use crate::kubelet::pod::{self, Role};
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::{Container, Pod};

/// What a running container is to be changed to.
struct Change {
    id: String,
    name: String,
    role: Role,
    resources: LinuxResources,
    restart: bool,
}

/// Containers whose spec asks for other limits than they were given. One that this process did not
/// start counts as having what its spec says now.
fn changes(shared: &Shared) -> Vec<Change> {
    let mut state = shared.state.lock();
    let pod = state.pod.clone();
    let mut out = Vec::new();
    for (role, container) in pod::all_containers(&pod) {
        if matches!(role, Role::Init | Role::Ephemeral) {
            continue;
        }
        let Some(id) = state
            .view
            .latest(&container.name)
            .and_then(|status| (status.state == ContainerState::Running).then(|| status.id.clone()))
        else {
            continue;
        };
        let wanted = resources::container_cgroup(&pod, role, &container, shared.context.memory_capacity);
        let given = state.given.entry(id.clone()).or_insert_with(|| wanted.clone());
        if *given == wanted {
            continue;
        }
        let memory = given.memory_limit != wanted.memory_limit;
        let cpu = given.cpu_quota != wanted.cpu_quota || given.cpu_shares != wanted.cpu_shares;
        let restart = (memory && restarts_for(&container, "memory")) || (cpu && restarts_for(&container, "cpu"));
        out.push(Change { id, name: container.name.clone(), role, resources: wanted, restart });
    }
    out
}

fn restarts_for(container: &Container, resource: &str) -> bool {
    let policies = container.resize_policy.iter().flatten();
    policies.filter(|policy| policy.resource_name == resource).any(|policy| policy.restart_policy == "RestartContainer")
}

/// Whether a running container's limits differ from its spec's.
pub fn pending(shared: &Shared) -> bool {
    !changes(shared).is_empty()
}

/// Bring them to the spec; a container whose policy wants it is marked for a restart.
pub async fn apply(shared: &Shared, pod: &Pod) {
    let changes = changes(shared);
    if changes.is_empty() {
        return;
    }
    let sandbox = shared.state.lock().view.ready_sandbox().map(|sandbox| sandbox.id.clone());
    if let Some(sandbox) = sandbox {
        let whole = resources::pod_cgroup(pod, shared.context.config.pod_pids_limit);
        if let Err(error) = shared.context.runtime.update_pod_sandbox(&sandbox, &whole).await {
            shared.context.warning(&pod::subject(pod), "ResizeError", format!("resize the pod's cgroup: {error}"));
        }
    }
    for change in changes {
        shared.state.lock().given.insert(change.id.clone(), change.resources.clone());
        if change.restart {
            shared.state.lock().restart_for_resize.insert(change.id);
            continue;
        }
        let subject = pod::container_subject(pod, change.role, &change.name);
        match shared.context.runtime.update_container(&change.id, &change.resources).await {
            Ok(()) => {
                shared.context.normal(&subject, "ResizeCompleted", format!("Container {} resized", change.name));
            }
            Err(error) => {
                shared.context.warning(&subject, "ResizeError", format!("resize container {}: {error}", change.name));
            }
        }
    }
}
