//! One worker per pod: a level-triggered state machine that owns everything of its pod.
//!
//! [`Worker::run`] looks at the spec, the runtime and the probes, publishes the status that follows
//! and begins the next step ([`actions::compute`] says which), one at a time; while a step is under
//! way it goes on publishing. It sleeps until something changes or a time is up. Stages:
//! running -> terminating (containers are ended) -> terminated (volumes are gone, the API object
//! is deleted if that was asked) -> gone.

pub mod actions;
mod container_config;
mod hooks;
mod messages;
mod mounts;
mod publish;
mod resize;
mod sandbox;
mod start;
mod state;
mod stop;

pub use publish::contradicts;
pub use state::{Shared, State};

use super::context::Context;
use super::objects::references;
use super::pod::{self, PodKey};
use super::probes::{Probes, Running};
use super::status::{Stage, Verdict};
use super::view::PodView;
use super::volumes;
use super::wake::{OBJECTS, RUNTIME, Wake};
use crate::api::cri::ContainerState;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use publish::Publisher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const KILL_RETRY: Duration = Duration::from_secs(5);
const OBSERVE_RETRY: Duration = Duration::from_secs(1);

/// What is wanted of a pod.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The API's image of a static pod.
    pub mirror: Option<Arc<Pod>>,
    /// End it with this verdict; the grace period is in seconds, None: the spec's.
    pub end: Option<(Verdict, Option<i64>)>,
    /// Nobody wants it any more: its object (or manifest) is gone.
    pub gone: bool,
}

impl Desired {
    pub fn new(pod: Arc<Pod>) -> Self {
        Self { pod, mirror: None, end: None, gone: false }
    }
}

/// A step under way.
struct Step {
    kind: StepKind,
    future: BoxFuture<'static, Result<(), String>>,
    cancel: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    Sync,
    Refresh,
    /// With the grace period in seconds.
    Kill(Option<i64>),
    Clean,
    Remove,
}

pub struct Worker {
    shared: Arc<Shared>,
    desired: watch::Receiver<Desired>,
    stage: Stage,
    probes: Probes,
    publisher: Publisher,
    step: Option<Step>,
    retry_at: Option<Instant>,
    /// Live volumes are to be set up again.
    stale: bool,
    cleaned: bool,
    deadline_at: Option<Instant>,
    told_of_network: bool,
    /// Not to be ended again before.
    kill_at: Option<Instant>,
    /// A look at the runtime that failed is repeated.
    observe_again: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.observe_again {
            task.abort();
        }
    }
}

impl Worker {
    /// `view`: what the runtime already holds of the pod.
    pub fn new(context: Arc<Context>, desired: watch::Receiver<Desired>, view: PodView, wake: Wake) -> Self {
        let pod = desired.borrow().pod.clone();
        let state = Mutex::new(State::new(pod.clone(), view));
        let shared = Arc::new(Shared { context, key: PodKey::of(&pod), wake, state });
        Self {
            publisher: Publisher::new(shared.clone()),
            shared,
            desired,
            stage: Stage::Running,
            probes: Probes::default(),
            step: None,
            retry_at: None,
            stale: false,
            cleaned: false,
            deadline_at: None,
            told_of_network: false,
            kill_at: None,
            observe_again: None,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Until nothing of the pod is left and nobody wants it.
    pub async fn run(mut self) {
        self.adopt();
        loop {
            let changed = self.shared.wake.take();
            if changed & RUNTIME != 0 {
                self.observe().await;
            }
            if changed & OBJECTS != 0 {
                self.stale = true;
                self.retry_configuration();
            }
            let desired = self.desired.borrow_and_update().clone();
            self.accept(&desired);
            self.note_ends();
            self.advance(&desired);
            self.reconcile_probes();
            self.publisher.publish(self.stage, &desired, self.cleaned);
            if self.begin_step(&desired) {
                return;
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let deadline = self.next_deadline();
        let far = Instant::now() + Duration::from_secs(86400 * 365);
        let step = async {
            match &mut self.step {
                Some(step) => (&mut step.future).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.wake.raised() => {}
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The kubelet ends: so do we, between two steps.
                    std::future::pending::<()>().await;
                }
            }
            result = step => {
                let kind = self.step.take().map(|step| step.kind);
                self.finish_step(kind, result);
            }
            () = self.publisher.progress() => {}
            () = tokio::time::sleep_until(deadline.unwrap_or(far)), if deadline.is_some() => {}
        }
    }

    /// What this process finds of a pod that another process ran.
    fn adopt(&mut self) {
        let pod = self.shared.pod();
        let mut state = self.shared.state.lock();
        state.note_exits(Instant::now());
        state.keep_verdicts();
        // Volumes of running containers are in use: setting them up again finds them as they are.
        drop(state);
        self.shared.context.objects.register(&self.shared.key.uid, &references(&pod), &self.shared.wake);
        self.stale = true;
    }

    async fn observe(&mut self) {
        let mut view = self.shared.state.lock().view.clone();
        match view.refresh(&*self.shared.context.runtime).await {
            Ok(()) => {
                let mut state = self.shared.state.lock();
                state.view = view;
                state.note_exits(Instant::now());
            }
            Err(error) => {
                tracing::warn!(pod = %self.shared.key, %error, "read the pod's containers");
                let wake = self.shared.wake.clone();
                self.observe_again = Some(tokio::spawn(async move {
                    tokio::time::sleep(OBSERVE_RETRY).await;
                    wake.raise(RUNTIME);
                }));
            }
        }
    }

    /// Take over a changed spec.
    fn accept(&mut self, desired: &Desired) {
        let mut state = self.shared.state.lock();
        if Arc::ptr_eq(&state.pod, &desired.pod) {
            return;
        }
        let references_changed = references(&state.pod) != references(&desired.pod);
        let metadata = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        if metadata(&state.pod) != metadata(&desired.pod) {
            self.stale = true;
        }
        state.pod = desired.pod.clone();
        drop(state);
        if references_changed && !self.cleaned {
            let references = references(&desired.pod);
            self.shared.context.objects.register(&self.shared.key.uid, &references, &self.shared.wake);
        }
        // What failed for its spec may work with the new one.
        self.retry_configuration();
    }

    /// Starts that failed for their configuration, and volumes that failed, are tried at once.
    fn retry_configuration(&mut self) {
        let mut state = self.shared.state.lock();
        let names: Vec<String> = state
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.reason == "CreateContainerConfigError")
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            state.retry_at.remove(&name);
        }
        for volume in state.volumes.values_mut() {
            volume.retry_at = None;
        }
    }

    /// Read the last words of containers that ended.
    fn note_ends(&self) {
        let unread: Vec<_> = {
            let state = self.shared.state.lock();
            let ended = state.view.containers.iter().filter(|container| container.state == ContainerState::Exited);
            ended.filter(|container| !state.messages.contains_key(&container.id)).cloned().collect()
        };
        let log_directory = self.shared.log_directory();
        for container in unread {
            let message = messages::termination_message(&container, &log_directory);
            self.shared.state.lock().messages.insert(container.id, message);
        }
    }

    /// Move to the next stage where its time has come.
    fn advance(&mut self, desired: &Desired) {
        let pod = &desired.pod;
        self.check_deadline(pod);
        let mut state = self.shared.state.lock();
        if let Some((verdict, _)) = &desired.end {
            state.verdict.get_or_insert_with(|| verdict.clone());
        }
        if self.stage == Stage::Running {
            let asked = pod.metadata.deletion_timestamp.is_some()
                || desired.gone
                || state.verdict.is_some()
                || pod::is_finished(pod);
            if asked || self.is_done(&state) {
                self.stage = Stage::Terminating;
                if let Some(step) = &self.step {
                    step.cancel.cancel();
                }
            }
        }
        if self.stage == Stage::Terminating && self.step.is_none() && state.view.is_stopped() {
            self.stage = Stage::Terminated;
        }
    }

    /// Everything ran to its end and nothing is to run again.
    fn is_done(&self, state: &State) -> bool {
        if self.step.is_some() || state.view.containers.is_empty() {
            return false;
        }
        let actions = actions::compute(&state.pod, &state.view, state);
        let ended = actions.kill_pod
            && !actions.create_sandbox
            && actions.start.is_empty()
            && actions.start_init.is_empty()
            && actions.kill.is_empty();
        // After the sandbox is gone nothing is left to do: that is an end, too.
        ended || (actions.is_empty() && state.view.is_stopped())
    }

    /// `activeDeadlineSeconds`, by the monotonic clock from when it is first seen.
    fn check_deadline(&mut self, pod: &Pod) {
        let Some(seconds) = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds) else {
            self.deadline_at = None;
            return;
        };
        let mut state = self.shared.state.lock();
        let Some(start) = state.status.start_time.as_ref() else { return };
        let age = jiff::Timestamp::now().duration_since(start.0).as_secs().max(0);
        let left = Duration::from_secs(u64::try_from(seconds.saturating_sub(age)).unwrap_or(0));
        let at = *self.deadline_at.get_or_insert_with(|| Instant::now() + left);
        if Instant::now() >= at && state.verdict.is_none() && self.stage == Stage::Running {
            let message = "Pod was active on the node longer than the specified deadline";
            state.verdict = Some(Verdict {
                reason: "DeadlineExceeded".to_owned(),
                message: message.to_owned(),
                disruption: false,
                rejected: false,
            });
            drop(state);
            self.shared.context.normal(&pod::subject(pod), "DeadlineExceeded", message);
        }
    }

    fn reconcile_probes(&mut self) {
        let (pod, running) = {
            let state = self.shared.state.lock();
            let mut running = Vec::new();
            for (role, container) in pod::all_containers(&state.pod) {
                if container.liveness_probe.is_none()
                    && container.readiness_probe.is_none()
                    && container.startup_probe.is_none()
                {
                    continue;
                }
                let Some(status) = state.view.latest(&container.name) else { continue };
                if status.state == ContainerState::Running && !state.starting.contains(&status.id) {
                    running.push(Running {
                        id: status.id.clone(),
                        role,
                        container: Arc::new(container.into_owned()),
                        started_at: status.started_at,
                    });
                }
            }
            (state.pod.clone(), running)
        };
        self.probes.reconcile(&self.shared, &pod, &running, self.stage != Stage::Running);
    }

    /// Begin what is to be done next, if nothing is under way. True: the worker's work is done.
    fn begin_step(&mut self, desired: &Desired) -> bool {
        let now = Instant::now();
        if let Some(step) = &self.step {
            // A shorter grace period takes effect at once.
            let shorter = match (step.kind, self.grace(desired)) {
                (StepKind::Kill(before), after) => {
                    after.is_some_and(|after| before.is_none_or(|before| after < before))
                }
                _ => false,
            };
            if !shorter {
                return false;
            }
            self.step = None;
            self.kill_at = None;
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.retry_at = None;
        match self.stage {
            Stage::Running => self.begin_sync(desired),
            Stage::Terminating => self.begin_kill(desired),
            Stage::Terminated => return self.begin_end(desired),
        }
        false
    }

    fn begin(&mut self, kind: StepKind, future: impl Future<Output = Result<(), String>> + Send + 'static) {
        self.begin_cancellable(kind, CancellationToken::new(), future);
    }

    fn begin_cancellable(
        &mut self,
        kind: StepKind,
        cancel: CancellationToken,
        future: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        self.step = Some(Step { kind, future: Box::pin(future), cancel });
    }

    fn begin_sync(&mut self, desired: &Desired) {
        let now = Instant::now();
        let actions = {
            let state = self.shared.state.lock();
            let mut actions = actions::compute(&state.pod, &state.view, &*state);
            put_off(&mut actions, &state, now);
            actions
        };
        if actions.create_sandbox && self.lacks_network(&desired.pod) {
            return;
        }
        let shared = self.shared.clone();
        let pod = desired.pod.clone();
        if !actions.is_empty() {
            // What is not ready yet is set up from the newest objects in any case.
            self.stale &= self.shared.state.lock().volumes_ready();
            let cancel = CancellationToken::new();
            let token = cancel.clone();
            let work = async move { start::sync(&shared, &pod, &actions, &token).await };
            self.begin_cancellable(StepKind::Sync, cancel, work);
            return;
        }
        let due = {
            let state = self.shared.state.lock();
            state.volumes.values().any(|volume| volume.refresh_at.is_some_and(|at| at <= now))
        };
        let resize = resize::pending(&self.shared);
        if self.stale || due || resize {
            let all = std::mem::take(&mut self.stale);
            let work = async move {
                if !shared.state.lock().volumes_ready() {
                    mounts::set_up(&shared, &pod).await?;
                }
                mounts::refresh(&shared, &pod, all).await;
                resize::apply(&shared, &pod).await;
                Ok(())
            };
            self.begin(StepKind::Refresh, work);
        }
    }

    /// A pod that needs the pod network waits for it; the node wakes it.
    fn lacks_network(&mut self, pod: &Pod) -> bool {
        let context = &self.shared.context;
        let missing = context.config.network_ready.borrow().as_ref().err().cloned();
        let Some(missing) = missing.filter(|_| !pod::uses_host_network(pod)) else { return false };
        if !std::mem::replace(&mut self.told_of_network, true) {
            context.warning(&pod::subject(pod), "NetworkNotReady", format!("network is not ready: {missing}"));
        }
        true
    }

    /// The grace period that the kill is to have: None: the spec's.
    fn grace(&self, desired: &Desired) -> Option<i64> {
        if let Some(seconds) = desired.pod.metadata.deletion_grace_period_seconds {
            return Some(seconds);
        }
        desired.end.as_ref().and_then(|(_, seconds)| *seconds)
    }

    fn begin_kill(&mut self, desired: &Desired) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now < at) {
            return;
        }
        // What is still there after all were ended is asked again, but not in a circle.
        self.kill_at = Some(now + KILL_RETRY);
        let grace = self.grace(desired);
        let shared = self.shared.clone();
        let pod = desired.pod.clone();
        let work = async move {
            let grace = grace.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            stop::kill_pod(&shared, &pod, grace).await
        };
        self.begin(StepKind::Kill(grace), work);
    }

    /// After the last container: volumes, then the object, then the runtime's records.
    fn begin_end(&mut self, desired: &Desired) -> bool {
        let shared = self.shared.clone();
        if !self.cleaned {
            let work = async move { clean(&shared).await };
            self.begin(StepKind::Clean, work);
            return false;
        }
        if !desired.gone {
            return false;
        }
        let nothing_left = {
            let state = self.shared.state.lock();
            state.view.sandboxes.is_empty() && state.view.containers.is_empty()
        };
        if nothing_left && !self.shared.log_directory().exists() {
            return true;
        }
        let work = async move { remove(&shared).await };
        self.begin(StepKind::Remove, work);
        false
    }

    fn finish_step(&mut self, kind: Option<StepKind>, result: Result<(), String>) {
        self.shared.wake.raise(RUNTIME);
        self.shared.state.lock().replacing.clear();
        let pod = self.shared.pod();
        match (kind, result) {
            (Some(StepKind::Clean), Ok(())) => self.cleaned = true,
            (_, Ok(())) | (None, _) => {}
            (Some(kind), Err(error)) => {
                tracing::warn!(pod = %self.shared.key, ?kind, %error, "a step failed, it will be tried again");
                if matches!(kind, StepKind::Kill(_)) {
                    let message = format!("error killing pod: {error}");
                    self.shared.context.warning(&pod::subject(&pod), "FailedKillPod", message);
                }
                self.retry_at = Some(Instant::now() + KILL_RETRY);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut add = |at: Option<Instant>| {
            if let Some(at) = at {
                next = Some(next.map_or(at, |before| before.min(at)));
            }
        };
        add(self.publisher.retry_at());
        if self.step.is_none() {
            add(self.retry_at);
            if self.stage == Stage::Terminating {
                add(self.kill_at);
            }
        }
        if self.stage == Stage::Running {
            add(self.deadline_at);
            add(self.shared.state.lock().held(Instant::now()).1);
            if self.step.is_none() {
                let state = self.shared.state.lock();
                let retries = state.retry_at.values().copied();
                let pending = state.volumes.values().filter(|volume| volume.path.is_none());
                retries.for_each(|at| add(Some(at)));
                pending.for_each(|volume| add(volume.retry_at));
                state.volumes.values().for_each(|volume| add(volume.refresh_at));
                add(state.sandbox_retry_at);
            }
        }
        next
    }
}

/// Take out of `actions` what has to wait: for a crash's or a failure's time, for volumes, for
/// another try of the sandbox. What is left can be done now.
fn put_off(actions: &mut actions::Actions, state: &State, now: Instant) {
    let waits = |name: &str| state.retry_at.get(name).is_some_and(|&at| now < at);
    let pod = &state.pod;
    let init = pod::init_containers(pod);
    let regular = pod::regular_containers(pod);
    let ephemeral = pod::ephemeral_containers(pod);
    let killing = |name: &str| actions.kill.iter().any(|kill| kill.name == name);
    let mut start_init = actions.start_init.clone();
    start_init
        .retain(|&index| init.get(index).is_some_and(|container| killing(&container.name) || !waits(&container.name)));
    let mut start = actions.start.clone();
    start.retain(|&index| {
        regular.get(index).is_some_and(|container| killing(&container.name) || !waits(&container.name))
    });
    let mut start_ephemeral = actions.start_ephemeral.clone();
    start_ephemeral.retain(|&index| ephemeral.get(index).is_some_and(|container| !waits(&container.name)));
    actions.start_init = start_init;
    actions.start = start;
    actions.start_ephemeral = start_ephemeral;
    let blocked = state.sandbox_retry_at.is_some_and(|at| now < at)
        || state.volumes.values().any(|volume| volume.path.is_none() && volume.retry_at.is_some_and(|at| now < at));
    if blocked {
        actions.start_init.clear();
        actions.start.clear();
        actions.start_ephemeral.clear();
    }
    let nothing = actions.start.is_empty() && actions.start_init.is_empty() && actions.start_ephemeral.is_empty();
    if nothing {
        actions.create_sandbox = false;
        // Containers of a lost sandbox are ended all the same, once.
        actions.kill_pod = actions.kill_pod && !state.view.is_stopped();
    }
}

/// The pod's volumes and directory go; its logs and the runtime's records stay for `kubectl logs`.
async fn clean(shared: &Arc<Shared>) -> Result<(), String> {
    let directory = shared.directory();
    let mounter = shared.context.config.mounter.clone();
    let torn = tokio::task::spawn_blocking(move || volumes::tear_down(&directory, &*mounter)).await;
    torn.map_err(|error| error.to_string())??;
    shared.context.objects.release(&shared.key.uid);
    shared.context.tokens.forget(&shared.key.uid);
    shared.context.puller.forget(&shared.key.uid);
    Ok(())
}

/// The runtime's records and the logs go. Goes on after an error and reports all.
async fn remove(shared: &Arc<Shared>) -> Result<(), String> {
    let (containers, sandboxes): (Vec<String>, Vec<String>) = {
        let state = shared.state.lock();
        let containers = state.view.containers.iter().map(|container| container.id.clone()).collect();
        (containers, state.view.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect())
    };
    for id in &containers {
        shared.remove_container(id).await;
    }
    let mut errors = Vec::new();
    for id in &sandboxes {
        if let Err(error) = shared.context.runtime.remove_pod_sandbox(id).await {
            errors.push(error.to_string());
        }
    }
    match std::fs::remove_dir_all(shared.log_directory()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            errors.push(format!("remove {}: {error}", shared.log_directory().display()));
        }
        _ => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}
