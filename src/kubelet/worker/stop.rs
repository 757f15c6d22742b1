//! Ending containers: preStop hook, stop signal, SIGKILL after the grace period; sidecars last.

use super::actions::{Kill, KillReason};
use super::hooks;
use super::state::Shared;
use crate::api::cri::{self, ContainerState, ContainerStatus};
use crate::kubelet::pod::{self, Role};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Hooks leave at least this much for the signal.
const MINIMUM: Duration = Duration::from_secs(2);
const DEFAULT_GRACE: i64 = 30;

/// How long a container may take to end.
fn grace_period(pod: &Pod, container: Option<&Container>, reason: Option<KillReason>) -> Duration {
    let spec = pod.spec.as_ref();
    let own = pod
        .metadata
        .deletion_grace_period_seconds
        .or_else(|| {
            let probe = match reason? {
                KillReason::LivenessProbe => container?.liveness_probe.as_ref(),
                KillReason::StartupProbe => container?.startup_probe.as_ref(),
                _ => None,
            };
            probe?.termination_grace_period_seconds
        })
        .or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(DEFAULT_GRACE);
    Duration::from_secs(u64::try_from(own).unwrap_or(0))
}

/// Kill one container that has to end though its pod goes on.
pub async fn kill_container(shared: &Shared, pod: &Pod, kill: &Kill) -> cri::Result<()> {
    let found = pod::find_container(pod, &kill.name);
    let role = found.as_ref().map_or(Role::Regular, |(role, _)| *role);
    let container = found.map(|(_, container)| container.into_owned());
    let grace = grace_period(pod, container.as_ref(), Some(kill.reason));
    shared.context.normal(&pod::container_subject(pod, role, &kill.name), "Killing", &*kill.message);
    end(shared, pod, container.as_ref(), &kill.id, grace, None).await
}

/// Kill a container whose postStart hook failed.
pub async fn kill_by_hook(shared: &Shared, pod: &Pod, container: &Container, id: &str) {
    let role = pod::find_container(pod, &container.name).map_or(Role::Regular, |(role, _)| role);
    shared.context.normal(&pod::container_subject(pod, role, &container.name), "Killing", "FailedPostStartHook");
    let grace = grace_period(pod, Some(container), None);
    if let Err(error) = end(shared, pod, Some(container), id, grace, None).await {
        tracing::warn!(pod = %shared.key, container = %container.name, %error, "kill after a failed postStart hook");
    }
}

/// Wait for one's turn: those that end before have ended.
struct Turn {
    before: Vec<watch::Receiver<bool>>,
}

impl Turn {
    async fn wait(mut self, at_most: Duration) {
        let all = join_all(self.before.iter_mut().map(|ended| async {
            // A sender that is gone has ended.
            drop(ended.wait_for(|ended| *ended).await);
        }));
        // Out of time: the signal goes out all the same.
        let _ = tokio::time::timeout(at_most, all).await;
    }
}

async fn end(
    shared: &Shared,
    pod: &Pod,
    container: Option<&Container>,
    id: &str,
    grace: Duration,
    turn: Option<Turn>,
) -> cri::Result<()> {
    let began = Instant::now();
    let left = || grace.saturating_sub(began.elapsed());
    if !grace.is_zero() {
        let hook = container
            .and_then(|container| container.lifecycle.as_ref())
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let (Some(hook), Some(container)) = (hook, container)
            && shared.state.lock().pre_stopped.insert(id.to_owned())
        {
            run_pre_stop(shared, pod, container, id, hook, grace).await;
        }
        if let Some(turn) = turn {
            turn.wait(left()).await;
        }
    }
    let grace = if grace.is_zero() { grace } else { left().max(MINIMUM.min(grace)) };
    shared.context.runtime.stop_container(id, grace).await
}

async fn run_pre_stop(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    id: &str,
    hook: &k8s_openapi::api::core::v1::LifecycleHandler,
    grace: Duration,
) {
    let never = CancellationToken::new();
    let run = hooks::run(shared, container, id, hook, &never);
    match tokio::time::timeout(grace, run).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(pod = %shared.key, container = %container.name, %error, "preStop hook failed");
            let role = pod::find_container(pod, &container.name).map_or(Role::Regular, |(role, _)| role);
            let subject = pod::container_subject(pod, role, &container.name);
            shared.context.warning(&subject, "FailedPreStopHook", "PreStopHook failed");
        }
        Err(_) => {
            tracing::debug!(pod = %shared.key, container = %container.name, "preStop hook did not end in time");
        }
    }
}

/// End everything of the pod and its sandboxes. `grace`: instead of the spec's. All is tried; the
/// errors come together.
pub async fn kill_pod(shared: &Shared, pod: &Pod, grace: Option<Duration>) -> Result<(), String> {
    let (containers, sandboxes): (Vec<ContainerStatus>, Vec<String>) = {
        let state = shared.state.lock();
        let alive = state
            .view
            .containers
            .iter()
            .filter(|container| !matches!(container.state, ContainerState::Exited))
            .cloned()
            .collect();
        (alive, state.view.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect())
    };
    let ended: HashMap<&str, watch::Sender<bool>> =
        containers.iter().map(|container| (container.name.as_str(), watch::Sender::new(false))).collect();
    let kills = containers.iter().map(|status| {
        let ended = &ended;
        async move {
            let result = kill_for_pod(shared, pod, status, grace, ended).await;
            if let Some(sender) = ended.get(status.name.as_str()) {
                sender.send_replace(true);
            }
            result
        }
    });
    let mut errors: Vec<String> =
        join_all(kills).await.into_iter().filter_map(|result| result.err().map(|error| error.to_string())).collect();
    for id in &sandboxes {
        if let Err(error) = shared.context.runtime.stop_pod_sandbox(id).await {
            errors.push(error.to_string());
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

async fn kill_for_pod(
    shared: &Shared,
    pod: &Pod,
    status: &ContainerStatus,
    grace: Option<Duration>,
    ended: &HashMap<&str, watch::Sender<bool>>,
) -> cri::Result<()> {
    let found = pod::find_container(pod, &status.name);
    let role = found.as_ref().map_or(Role::Regular, |(role, _)| *role);
    let container = found.map(|(_, container)| container.into_owned());
    if status.state == ContainerState::Running {
        let subject = pod::container_subject(pod, role, &status.name);
        shared.context.normal(&subject, "Killing", format!("Stopping container {}", status.name));
    }
    let grace = grace.unwrap_or_else(|| grace_period(pod, container.as_ref(), None));
    let turn = (role == Role::Sidecar).then(|| Turn { before: ending_before(pod, &status.name, ended) });
    end(shared, pod, container.as_ref(), &status.id, grace, turn).await
}

/// A sidecar ends after the regular containers and the sidecars that started after it.
fn ending_before(pod: &Pod, sidecar: &str, ended: &HashMap<&str, watch::Sender<bool>>) -> Vec<watch::Receiver<bool>> {
    let later = pod::init_containers(pod)
        .iter()
        .skip_while(|container| container.name != sidecar)
        .skip(1)
        .filter(|container| pod::is_sidecar(container));
    later
        .chain(pod::regular_containers(pod))
        .filter_map(|container| ended.get(container.name.as_str()))
        .map(watch::Sender::subscribe)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sidecars_end_in_the_reverse_order_of_their_start() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "init"}, {"name": "first", "restartPolicy": "Always"},
                {"name": "second", "restartPolicy": "Always"}],
            "containers": [{"name": "main"}]}}))
        .expect("a pod");
        let ended: HashMap<&str, watch::Sender<bool>> =
            ["first", "second", "main"].into_iter().map(|name| (name, watch::Sender::new(false))).collect();
        assert_eq!(ending_before(&pod, "first", &ended).len(), 2);
        assert_eq!(ending_before(&pod, "second", &ended).len(), 1);
    }

    #[test]
    fn whose_grace_period_counts() {
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"terminationGracePeriodSeconds": 40,
            "containers": [{"name": "c", "livenessProbe": {"terminationGracePeriodSeconds": 7}}]}}))
        .expect("a pod");
        let container = pod::regular_containers(&pod)[0].clone();
        let seconds = |pod: &Pod, reason| grace_period(pod, Some(&container), reason).as_secs();
        assert_eq!(seconds(&pod, None), 40);
        assert_eq!(seconds(&pod, Some(KillReason::LivenessProbe)), 7);
        pod.metadata.deletion_grace_period_seconds = Some(3);
        assert_eq!(seconds(&pod, Some(KillReason::LivenessProbe)), 3);
        pod.metadata.deletion_grace_period_seconds = Some(0);
        assert_eq!(seconds(&pod, None), 0);
    }
}
