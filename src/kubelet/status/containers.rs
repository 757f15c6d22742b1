//! The statuses of a pod's containers, from the runtime's records and the ones published before.

use super::{CONTAINER_ID_SCHEME, Input, Stage};
use crate::api::cri::{self, ContainerState as RuntimeState, LinuxResources};
use crate::kubelet::pod::{self, Role};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const UNKNOWN: &str = "ContainerStatusUnknown";

/// The state of a container that the runtime lost.
pub fn not_located(message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some(UNKNOWN.to_owned()),
            message: Some(message.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

pub fn init(input: &Input) -> Vec<ContainerStatus> {
    let old = input.old.init_container_statuses.as_deref().unwrap_or_default();
    pod::init_containers(input.pod)
        .iter()
        .map(|container| one(input, pod::init_role(container), container, old))
        .collect()
}

/// Sorted by name, as clients of Kubernetes know it.
pub fn regular(input: &Input) -> Vec<ContainerStatus> {
    let old = input.old.container_statuses.as_deref().unwrap_or_default();
    let mut list: Vec<ContainerStatus> =
        pod::regular_containers(input.pod).iter().map(|container| one(input, Role::Regular, container, old)).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

pub fn ephemeral(input: &Input) -> Vec<ContainerStatus> {
    let old = input.old.ephemeral_container_statuses.as_deref().unwrap_or_default();
    pod::ephemeral_containers(input.pod)
        .iter()
        .map(|container| one(input, Role::Ephemeral, &pod::ephemeral_as_container(container), old))
        .collect()
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn one(input: &Input, role: Role, container: &Container, old: &[ContainerStatus]) -> ContainerStatus {
    let pod = input.pod;
    let has_init = !pod::init_containers(pod).is_empty();
    let default_reason = if has_init && role != Role::Ephemeral { "PodInitializing" } else { "ContainerCreating" };
    let previous = old.iter().find(|status| status.name == container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(default_reason, "")),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let mut history = input.view.history(&container.name);
    let newest = history.next();
    if let Some(previous) = previous
        && input.held.contains(&container.name)
        && input.stage == Stage::Running
        && newest.is_none_or(|newest| newest.state != RuntimeState::Running)
    {
        return previous.clone();
    }
    match (newest, previous) {
        (Some(newest), _) => {
            from_runtime(input, container, newest, previous, &mut status);
            let before = history.next().map(|before| terminated(input, before));
            status.last_state = match before {
                Some(before) => Some(before),
                None => previous
                    .filter(|previous| previous.restart_count > 0 && status.restart_count > 0)
                    .and_then(|previous| previous.last_state.clone()),
            };
            if input.starting.contains(&newest.id) {
                status.state = Some(waiting(default_reason, ""));
            }
        }
        (None, Some(previous)) => lost(input, role, previous, &mut status),
        (None, None) => {}
    }
    if let Some(waiting_for) = input.waiting.get(&container.name)
        && waits(input, role, container, newest)
    {
        if status.state.as_ref().is_some_and(|state| state.terminated.is_some()) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting(&waiting_for.reason, &waiting_for.message));
    }
    readiness(input, role, newest, &mut status);
    if input.stage == Stage::Terminated
        && role != Role::Ephemeral
        && status.state.as_ref().is_none_or(|state| state.terminated.is_none())
        && (newest.is_some() || (role == Role::Regular && was_initialized(input)))
    {
        status.state = Some(not_located("The container could not be located when the pod was terminated"));
    }
    status.last_state.get_or_insert_default();
    status
}

/// Whether the regular containers' turn had come: what is missing then was lost, and did not wait.
fn was_initialized(input: &Input) -> bool {
    let ran = |name: &str| input.view.history(name).next().is_some();
    if pod::regular_containers(input.pod).iter().any(|container| ran(&container.name)) {
        return true;
    }
    let Some(last) = pod::init_containers(input.pod).last() else { return true };
    input.view.latest(&last.name).is_some_and(|last_run| {
        pod::is_sidecar(last) || (last_run.state == RuntimeState::Exited && last_run.exit_code == 0)
    })
}

/// Whether what the last start met still holds: the container does not run and is to be run.
fn waits(input: &Input, role: Role, container: &Container, newest: Option<&cri::ContainerStatus>) -> bool {
    if input.stage != Stage::Running || input.pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match newest {
        None => true,
        Some(newest) => match newest.state {
            RuntimeState::Running => false,
            RuntimeState::Created | RuntimeState::Unknown => true,
            RuntimeState::Exited if role == Role::Init && newest.exit_code == 0 => false,
            RuntimeState::Exited if role == Role::Ephemeral => false,
            RuntimeState::Exited => role == Role::Sidecar || pod::restarts(input.pod, container, newest.exit_code),
        },
    }
}

/// A container that was published and of which the runtime has no record.
fn lost(input: &Input, role: Role, previous: &ContainerStatus, status: &mut ContainerStatus) {
    let state = previous.state.clone().unwrap_or_default();
    if state.terminated.is_some() {
        *status = previous.clone();
        return;
    }
    status.restart_count = previous.restart_count;
    status.last_state = previous.last_state.clone();
    if state.running.is_none() {
        return;
    }
    let gone =
        not_located("The container could not be located when the pod was deleted.  The container used to be Running");
    if role == Role::Ephemeral || input.stage != Stage::Running {
        status.state = Some(gone);
        return;
    }
    status.last_state = Some(gone);
    status.restart_count += 1;
}

fn time(nanoseconds: i64) -> Option<Time> {
    if nanoseconds == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok().map(Time)
}

fn id(status: &cri::ContainerStatus) -> String {
    format!("{CONTAINER_ID_SCHEME}{}", status.id)
}

fn terminated(input: &Input, status: &cri::ContainerStatus) -> ContainerState {
    let message = input.messages.get(&status.id).cloned().filter(|message| !message.is_empty());
    let message = message.or_else(|| Some(status.message.clone()).filter(|message| !message.is_empty()));
    let reason = match status.reason.as_str() {
        "" if status.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id(status)),
            exit_code: status.exit_code,
            finished_at: time(status.finished_at),
            message,
            reason: Some(reason.to_owned()),
            // Kubernetes leaves it at zero: runtimes tell the exit code alone.
            signal: None,
            started_at: time(status.started_at),
        }),
        ..ContainerState::default()
    }
}

fn from_runtime(
    input: &Input,
    container: &Container,
    newest: &cri::ContainerStatus,
    previous: Option<&ContainerStatus>,
    status: &mut ContainerStatus,
) {
    status.restart_count = i32::try_from(newest.attempt).unwrap_or(i32::MAX);
    if !newest.image.is_empty() {
        status.image = newest.image.clone();
    }
    status.image_id = newest.image_id.clone();
    status.container_id = Some(id(newest));
    match newest.state {
        RuntimeState::Running => {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: time(newest.started_at) }),
                ..ContainerState::default()
            });
        }
        RuntimeState::Exited => status.state = Some(terminated(input, newest)),
        RuntimeState::Created => {}
        RuntimeState::Unknown => {
            let ran = previous
                .and_then(|previous| previous.state.as_ref())
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
            if ran || newest.started_at != 0 {
                status.state = Some(not_located(
                    "The container could not be located when the pod was deleted.  The container used to be Running",
                ));
            }
        }
    }
    status.allocated_resources =
        container.resources.as_ref().and_then(|resources| resources.requests.clone()).filter(|list| !list.is_empty());
    status.resources = Some(in_force(container, newest));
    status.user = newest.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: i64::from(*uid),
            gid: i64::from(*gid),
            supplemental_groups: Some(groups.iter().map(|&group| i64::from(group)).collect()),
        }),
    });
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| {
            let read_only = mount.read_only.unwrap_or(false);
            let recursive = match mount.recursive_read_only.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled",
                _ => "Disabled",
            };
            VolumeMountStatus {
                mount_path: mount.mount_path.clone(),
                name: mount.name.clone(),
                read_only: read_only.then_some(true),
                recursive_read_only: read_only.then(|| recursive.to_owned()),
                volume_status: None,
            }
        })
        .collect();
    status.volume_mounts = (!mounts.is_empty()).then_some(mounts);
}

/// The spec's requests and limits, with the limits that the runtime reads back from the cgroup.
fn in_force(container: &Container, newest: &cri::ContainerStatus) -> ResourceRequirements {
    let mut resources = container.resources.clone().unwrap_or_default();
    resources.claims = None;
    let Some(LinuxResources { cpu_quota, cpu_period, memory_limit, .. }) = &newest.resources else { return resources };
    if newest.state != RuntimeState::Running {
        return resources;
    }
    if let Some(limits) = &mut resources.limits {
        if let (Some(limit), Some(actual)) = (limits.get_mut("memory"), memory_limit)
            && crate::kubelet::resources::value(limit) != *actual
        {
            *limit = Quantity(actual.to_string());
        }
        if let (Some(limit), Some(quota), Some(period)) = (limits.get_mut("cpu"), cpu_quota, cpu_period)
            && *period > 0
        {
            let milli = quota * 1000 / i64::try_from(*period).unwrap_or(100_000);
            if crate::kubelet::resources::milli_value(limit) != milli {
                *limit = Quantity(format!("{milli}m"));
            }
        }
    }
    resources
}

fn readiness(input: &Input, role: Role, newest: Option<&cri::ContainerStatus>, status: &mut ContainerStatus) {
    let state = status.state.as_ref();
    let running = state.is_some_and(|state| state.running.is_some());
    let terminated_well = state.and_then(|state| state.terminated.as_ref()).is_some_and(|ended| ended.exit_code == 0);
    match role {
        Role::Init => {
            status.started = Some(running);
            status.ready = terminated_well;
        }
        Role::Ephemeral => {
            status.started = None;
            status.ready = false;
        }
        Role::Regular | Role::Sidecar => {
            let id = newest.map(|newest| newest.id.as_str()).unwrap_or_default();
            let started = running && input.started.get(id).copied().unwrap_or(true);
            status.started = Some(started);
            status.ready = started && input.ready.get(id).copied().unwrap_or(true);
        }
    }
}
