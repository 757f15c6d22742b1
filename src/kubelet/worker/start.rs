//! One round of starting: volumes, sandbox, then containers in their order.
//!
//! Entry: [`sync`]. What fails is put into the worker's state as a waiting reason with a time to
//! try again; the worker's next round sees it there.

use super::actions::Actions;
use super::container_config::{Inputs, container_config};
use super::state::Shared;
use super::{hooks, mounts, sandbox, stop};
use crate::api::cri::{ContainerState, CriError, Image};
use crate::kubelet::images::{Wanted, credentials};
use crate::kubelet::pod::{self, Role};
use crate::runtime::Subject;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A start that failed for another reason than a crash or a pull is tried again after so long.
const RETRY: Duration = Duration::from_secs(10);
const SANDBOX_RETRY_BASE: Duration = Duration::from_secs(1);
const SANDBOX_RETRY_MAX: Duration = Duration::from_secs(10);

/// Carry out `actions`; returns early, at a point where nothing is half done, when cancelled. An
/// error means that something could not be ended.
pub async fn sync(shared: &Shared, pod: &Pod, actions: &Actions, cancel: &CancellationToken) -> Result<(), String> {
    let mut killed = HashSet::new();
    let mut errors = Vec::new();
    if actions.kill_pod {
        if actions.create_sandbox && !shared.state.lock().view.sandboxes.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            shared.context.normal(&pod::subject(pod), "SandboxChanged", message);
        }
        if let Err(error) = stop::kill_pod(shared, pod, None).await {
            shared.context.warning(&pod::subject(pod), "FailedKillPod", format!("error killing pod: {error}"));
            return Err(error);
        }
    } else {
        let containers = pod::regular_containers(pod);
        let next = |name: &str| actions.start.iter().any(|&at| containers.get(at).is_some_and(|one| one.name == name));
        let replaced = actions.kill.iter().filter(|kill| next(&kill.name));
        shared.state.lock().replacing = replaced.map(|kill| (kill.name.clone(), kill.id.clone())).collect();
        let kills = actions.kill.iter().map(|kill| stop::kill_container(shared, pod, kill));
        for (kill, result) in actions.kill.iter().zip(futures::future::join_all(kills).await) {
            match result {
                Ok(()) => {
                    killed.insert(kill.id.clone());
                }
                Err(error) => errors.push(format!("kill container {}: {error}", kill.name)),
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("; "));
        }
        if !killed.is_empty() {
            refresh(shared).await;
        }
    }
    let nothing_to_start =
        actions.start.is_empty() && actions.start_init.is_empty() && actions.start_ephemeral.is_empty();
    if cancel.is_cancelled() || nothing_to_start || !mounts::set_up(shared, pod).await? || cancel.is_cancelled() {
        return Ok(());
    }
    let sandbox = match (&actions.sandbox, actions.create_sandbox) {
        (_, true) => match create_sandbox(shared, pod, actions.attempt).await {
            Some(id) => id,
            None => return Ok(()),
        },
        (Some(id), false) => id.clone(),
        (None, false) => return Ok(()),
    };
    let round = Round { shared, pod, sandbox, killed, cancel };
    for &index in &actions.start_ephemeral {
        let Some(ephemeral) = pod::ephemeral_containers(pod).get(index) else { continue };
        let target = ephemeral.target_container_name.as_deref().filter(|name| !name.is_empty());
        let target = target.and_then(|name| shared.state.lock().view.latest(name).map(|status| status.id.clone()));
        round.start(Role::Ephemeral, &pod::ephemeral_as_container(ephemeral), target).await;
    }
    for &index in &actions.start_init {
        let Some(container) = pod::init_containers(pod).get(index) else { continue };
        if !round.start(pod::init_role(container), container, None).await {
            // The next ones wait for this one.
            break;
        }
    }
    // A container starts once the postStart hook of the one before it has returned; those without
    // hooks before them start together.
    let mut batch = Vec::new();
    for &index in &actions.start {
        let Some(container) = pod::regular_containers(pod).get(index) else { continue };
        batch.push(container);
        if container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some()) {
            round.start_together(&batch).await;
            batch.clear();
        }
    }
    round.start_together(&batch).await;
    Ok(())
}

async fn refresh(shared: &Shared) {
    let mut view = shared.state.lock().view.clone();
    match view.refresh(&*shared.context.runtime).await {
        Ok(()) => {
            let mut state = shared.state.lock();
            state.view = view;
            state.note_exits(Instant::now());
        }
        Err(error) => tracing::warn!(pod = %shared.key, %error, "read the pod's containers"),
    }
}

async fn create_sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Option<String> {
    let log_directory = shared.log_directory();
    let made = std::fs::create_dir_all(&log_directory).map_err(|error| {
        let message = format!("Failed to create pod sandbox: create {}: {error}", log_directory.display());
        shared.context.warning(&pod::subject(pod), "FailedCreatePodSandBox", message);
    });
    let result = match made {
        Ok(()) => sandbox::create(shared, pod, attempt).await.ok(),
        Err(()) => None,
    };
    let mut state = shared.state.lock();
    match result {
        Some(status) => {
            let id = status.id.clone();
            state.sandbox_failures = 0;
            state.sandbox_retry_at = None;
            state.view.sandboxes.retain(|sandbox| sandbox.id != id);
            state.view.sandboxes.insert(0, status);
            drop(state);
            shared.wake.raise(crate::kubelet::wake::STATE);
            Some(id)
        }
        None => {
            let delay = SANDBOX_RETRY_BASE * 2u32.pow(state.sandbox_failures.min(4));
            state.sandbox_failures += 1;
            state.sandbox_retry_at = Some(Instant::now() + delay.min(SANDBOX_RETRY_MAX));
            None
        }
    }
}

/// The containers of one round.
struct Round<'a> {
    shared: &'a Shared,
    pod: &'a Pod,
    sandbox: String,
    killed: HashSet<String>,
    cancel: &'a CancellationToken,
}

/// Why a container was not started, as its waiting state tells it.
struct Failure {
    reason: &'static str,
    message: String,
    retry_at: Instant,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_at: Instant::now() + RETRY }
    }
}

impl Round<'_> {
    async fn start_together(&self, containers: &[&Container]) {
        futures::future::join_all(containers.iter().map(|container| self.start(Role::Regular, container, None))).await;
    }

    /// True: it was started.
    async fn start(&self, role: Role, container: &Container, target: Option<String>) -> bool {
        if self.cancel.is_cancelled() {
            return false;
        }
        let name = &container.name;
        if self.waits(role, container) {
            return false;
        }
        match self.start_now(role, container, target).await {
            Ok(started) => {
                if started {
                    self.shared.clear_waiting(name);
                }
                started
            }
            Err(failure) => {
                self.shared.set_waiting(name, failure.reason, &failure.message, Some(failure.retry_at));
                false
            }
        }
    }

    /// Whether an earlier failure or crash puts the start off.
    fn waits(&self, role: Role, container: &Container) -> bool {
        let name = &container.name;
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        if state.retry_at.get(name).is_some_and(|&at| now < at) {
            return true;
        }
        if let Some((until, delay)) = state.crash_backoff(name, &self.killed, now) {
            drop(state);
            let subject = pod::container_subject(self.pod, role, name);
            let key = &self.shared.key;
            self.shared.context.warning(
                &subject,
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {key}"),
            );
            let delay = crate::kubelet::images::go_duration(delay);
            let message = format!("back-off {delay} restarting failed container={name} pod={key}");
            self.shared.set_waiting(name, "CrashLoopBackOff", &message, Some(until));
            return true;
        }
        state.note_restart(name, &self.killed, now);
        false
    }

    async fn start_now(&self, role: Role, container: &Container, target: Option<String>) -> Result<bool, Failure> {
        let context = &self.shared.context;
        let subject = pod::container_subject(self.pod, role, &container.name);
        let Some(image) = self.image(container, &subject).await? else { return Ok(false) };
        let Some(image_volumes) = self.image_volumes(container, &subject).await? else { return Ok(false) };
        let attempt = self.attempt(&container.name);
        let inputs =
            Inputs { pod: self.pod, role, container, image: &image, attempt, image_volumes: &image_volumes, target };
        let failed = |message: &str| context.warning(&subject, "Failed", format!("Error: {message}"));
        let config = container_config(self.shared, &inputs).map_err(|error| {
            failed(&error);
            Failure::new("CreateContainerConfigError", error)
        })?;
        let log_directory = self.shared.log_directory().join(&container.name);
        std::fs::create_dir_all(&log_directory).map_err(|error| {
            let message = format!("failed to create log directory for container /{}: {error}", container.name);
            failed(&message);
            Failure::new("CreateContainerError", message)
        })?;
        let id = context.runtime.create_container(&self.sandbox, &config).await.map_err(|error| {
            failed(&error.to_string());
            Failure::new("CreateContainerError", error.to_string())
        })?;
        context.normal(&subject, "Created", "Container created");
        self.shared.state.lock().given.insert(id.clone(), config.resources.clone());
        let post_start = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if post_start.is_some() {
            self.shared.state.lock().starting.insert(id.clone());
        }
        if let Err(error) = context.runtime.start_container(&id).await {
            self.shared.state.lock().starting.remove(&id);
            failed(&error.to_string());
            let message = match error {
                CriError::StartFailed { message, .. } => message,
                other => other.to_string(),
            };
            let failure = Failure::new("RunContainerError", message);
            refresh(self.shared).await;
            self.forget_older(&container.name, &id).await;
            // Once it counts as ended, the wait is that of a crash.
            let ended = self.shared.state.lock().view.container(&id).map(|status| status.state);
            return Err(match ended {
                Some(ContainerState::Exited) => Failure { retry_at: Instant::now(), ..failure },
                _ => failure,
            });
        }
        context.normal(&subject, "Started", "Container started");
        self.link_log(&id, &container.name, attempt);
        let result = match post_start {
            Some(hook) => {
                // Its address and ports are needed by the hook.
                refresh(self.shared).await;
                let result = hooks::run(self.shared, container, &id, hook, self.cancel).await;
                self.shared.state.lock().starting.remove(&id);
                result
            }
            None => Ok(()),
        };
        if let Err(error) = result {
            context.warning(&subject, "FailedPostStartHook", "PostStartHook failed");
            stop::kill_by_hook(self.shared, self.pod, container, &id).await;
            return Err(Failure { retry_at: Instant::now(), ..Failure::new("PostStartHookError", error) });
        }
        self.forget_older(&container.name, &id).await;
        Ok(true)
    }

    async fn image(&self, container: &Container, subject: &Subject) -> Result<Option<Image>, Failure> {
        let image = container.image.as_deref().unwrap_or_default();
        self.pull(image, container.image_pull_policy.as_deref(), &container.name, subject).await
    }

    /// None: cancelled.
    async fn pull(
        &self,
        image: &str,
        policy: Option<&str>,
        container: &str,
        subject: &Subject,
    ) -> Result<Option<Image>, Failure> {
        let context = &self.shared.context;
        let spec = pod::spec(self.pod);
        let mut secrets = Vec::new();
        let mut missing = Vec::new();
        for reference in spec.image_pull_secrets.iter().flatten().filter(|reference| !reference.name.is_empty()) {
            match context.objects.secret(&self.shared.key.namespace, &reference.name) {
                Ok(secret) => secrets.push(secret),
                Err(_) => missing.push(reference.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            context.warning(&pod::subject(self.pod), "FailedToRetrieveImagePullSecret", message);
        }
        let credentials = credentials(image, secrets.iter().map(|secret| &**secret));
        let wanted = Wanted { pod_uid: &self.shared.key.uid, subject, image, policy, credentials: &credentials };
        let result = tokio::select! {
            result = context.puller.ensure(&wanted) => result,
            () = self.cancel.cancelled() => return Ok(None),
        };
        result.map(Some).map_err(|failure| {
            context.warning(subject, "Failed", format!("Error: {}", failure.reason));
            tracing::debug!(pod = %self.shared.key, container, reason = failure.reason, "no image");
            // The first failure shows its own reason for a moment, then that it waits.
            let now = Instant::now();
            let wait = failure.retry_at.saturating_duration_since(now);
            let retry_at = if matches!(failure.reason, "ErrImagePull" | "RegistryUnavailable") {
                now + wait.min(Duration::from_secs(2))
            } else {
                failure.retry_at
            };
            Failure { reason: failure.reason, message: failure.message, retry_at }
        })
    }

    /// The ids of the images that the container's volumes are. None: cancelled.
    async fn image_volumes(
        &self,
        container: &Container,
        subject: &Subject,
    ) -> Result<Option<HashMap<String, String>>, Failure> {
        let mut out = HashMap::new();
        let spec = pod::spec(self.pod);
        for mount in container.volume_mounts.iter().flatten() {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let Some(source) = volume.and_then(|volume| volume.image.as_ref()) else { continue };
            let reference = source.reference.as_deref().unwrap_or_default();
            match self.pull(reference, source.pull_policy.as_deref(), &container.name, subject).await? {
                Some(image) => out.insert(mount.name.clone(), image.id),
                None => return Ok(None),
            };
        }
        Ok(Some(out))
    }

    /// How often the container was made before; from its logs where the runtime forgot it.
    fn attempt(&self, name: &str) -> u32 {
        if let Some(latest) = self.shared.state.lock().view.latest(name) {
            return latest.attempt + 1;
        }
        let Ok(entries) = std::fs::read_dir(self.shared.log_directory().join(name)) else { return 0 };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.split('.').next()?.parse::<u32>().ok())
            .max()
            .map_or(0, |last| last + 1)
    }

    /// Keep the instance before this one, for its logs and state; remove those before it.
    async fn forget_older(&self, name: &str, newest: &str) {
        let older: Vec<String> = {
            let state = self.shared.state.lock();
            let ended = state.view.history(name).filter(|status| status.state == ContainerState::Exited);
            ended.filter(|status| status.id != newest).skip(1).map(|status| status.id.clone()).collect()
        };
        for id in older {
            self.shared.remove_container(&id).await;
        }
    }

    /// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, which log shippers read.
    fn link_log(&self, id: &str, name: &str, attempt: u32) {
        let key = &self.shared.key;
        let directory = &self.shared.context.config.container_logs_directory;
        let link = directory.join(link_name(&key.name, &key.namespace, name, id));
        let target = self.shared.log_directory().join(name).join(format!("{attempt}.log"));
        if let Err(error) = replace_link(directory, &target, &link) {
            tracing::warn!(pod = %key, container = name, %error, "link the log into {}", directory.display());
        }
    }
}

/// As log shippers parse it; a file name has at most 255 bytes.
pub fn link_name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let mut stem = format!("{pod}_{namespace}_{container}-{id}");
    stem.truncate(251);
    format!("{stem}.log")
}

fn replace_link(directory: &Path, target: &Path, link: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, link)
}

impl Shared {
    /// Remove a container that ended, with its log and link.
    pub async fn remove_container(&self, id: &str) {
        let status = self.state.lock().view.container(id).cloned();
        let Some(status) = status else { return };
        if let Err(error) = self.context.runtime.remove_container(id).await {
            tracing::warn!(pod = %self.key, container = %status.name, %error, "remove a dead container");
            return;
        }
        let log = self.log_directory().join(&status.log_path);
        let link = link_name(&self.key.name, &self.key.namespace, &status.name, id);
        let link = self.context.config.container_logs_directory.join(link);
        for path in [log, link] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "remove a dead container's log");
            }
        }
        self.state.lock().view.containers.retain(|container| container.id != id);
    }
}
