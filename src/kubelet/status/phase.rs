//! The phase of a pod from the states of its containers.

use super::Stage;
use crate::kubelet::pod::{self, RestartPolicy};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

pub fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

#[derive(Default)]
struct Counts {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
    restarting: usize,
}

pub fn compute(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus], stage: Stage) -> &'static str {
    let never = pod::restart_policy(pod) == RestartPolicy::Never;
    let mut pending_init = 0;
    let mut failed_init = 0;
    for container in pod::init_containers(pod) {
        let Some(status) = init.iter().find(|status| status.name == container.name) else {
            pending_init += 1;
            continue;
        };
        let state = status.state.clone().unwrap_or_default();
        if pod::is_sidecar(container) {
            if state.terminated.is_none() && !(state.running.is_some() && status.started == Some(true)) {
                pending_init += 1;
            }
        } else if let Some(terminated) = state.terminated {
            if terminated.exit_code != 0 {
                if never && !pod::restarts(pod, container, terminated.exit_code) {
                    failed_init += 1;
                } else {
                    pending_init += 1;
                }
            }
        } else {
            pending_init += 1;
        }
    }
    let mut counts = Counts::default();
    for container in pod::regular_containers(pod) {
        let Some(status) = regular.iter().find(|status| status.name == container.name) else {
            counts.unknown += 1;
            continue;
        };
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            counts.running += 1;
        } else if let Some(terminated) = state.terminated {
            counts.stopped += 1;
            if terminated.exit_code == 0 {
                counts.succeeded += 1;
            }
            if pod::restarts(pod, container, terminated.exit_code) {
                counts.restarting += 1;
            }
        } else if state.waiting.is_some() {
            if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
                counts.stopped += 1;
                counts.restarting += 1;
            } else {
                counts.waiting += 1;
            }
        } else {
            counts.unknown += 1;
        }
    }
    if failed_init > 0 {
        return "Failed";
    }
    let began = counts.running + counts.stopped > 0;
    if (pending_init > 0 && !began) || counts.waiting > 0 {
        return "Pending";
    }
    if counts.running > 0 && counts.unknown == 0 {
        return "Running";
    }
    if counts.stopped > 0 && counts.unknown == 0 {
        let done = if counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" };
        return if stage != Stage::Running || counts.restarting == 0 { done } else { "Running" };
    }
    "Pending"
}
