//! What a pod's worker knows, shared with the work it has under way, its probes and the server.

use crate::api::cri::{ContainerState, LinuxResources};
use crate::kubelet::context::Context;
use crate::kubelet::env::fields::Addresses;
use crate::kubelet::pod::{self, PodKey};
use crate::kubelet::status::{Verdict, Waiting};
use crate::kubelet::view::PodView;
use crate::kubelet::wake::{STATE, Wake};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// First and longest wait of a container that crashes again and again; a wait doubles each time
/// and starts over after twice the longest without a crash.
const CRASH_BASE: Duration = Duration::from_secs(10);
const CRASH_MAX: Duration = Duration::from_secs(300);
/// Between two runs of a container that is replaced nothing is said of it for so long: a change of its image is no
/// outage. Kubernetes's kubelet, which looks once a second, does not see it either.
const REPLACEMENT: Duration = Duration::from_secs(1);

/// One pod's worker as others see it.
pub struct Shared {
    pub context: Arc<Context>,
    pub key: PodKey,
    pub wake: Wake,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub pod: Arc<Pod>,
    pub view: PodView,
    /// By container name: what the last start met.
    pub waiting: BTreeMap<String, Waiting>,
    /// By container name: not to be tried before.
    pub retry_at: HashMap<String, Instant>,
    /// By container name.
    crashes: HashMap<String, Crash>,
    /// By container id: when its end was first seen.
    exits: HashMap<String, Instant>,
    /// Ids of containers whose postStart hook runs.
    pub starting: HashSet<String>,
    /// By container id: its termination message.
    pub messages: HashMap<String, String>,
    /// By container name: the run that is ended in order to start the next one at once.
    pub replacing: HashMap<String, String>,
    /// Ids whose preStop hook ran.
    pub pre_stopped: HashSet<String>,
    /// By container id: startup, readiness and liveness verdicts.
    pub started: HashMap<String, bool>,
    pub startup_failed: HashSet<String>,
    pub ready: HashMap<String, bool>,
    pub live: HashMap<String, bool>,
    /// Ids of containers whose resize needs a restart.
    pub restart_for_resize: HashSet<String>,
    /// By container id: the limits that the runtime was asked for last.
    pub given: HashMap<String, LinuxResources>,
    pub volumes: BTreeMap<String, VolumeState>,
    pub sandbox_failures: u32,
    pub sandbox_retry_at: Option<Instant>,
    pub verdict: Option<Verdict>,
    /// As published last.
    pub status: PodStatus,
}

/// A volume of the pod.
#[derive(Default)]
pub struct VolumeState {
    /// Where it is; None: not ready.
    pub path: Option<PathBuf>,
    pub refresh_at: Option<Instant>,
    pub retry_at: Option<Instant>,
    pub failures: u32,
    pub error: String,
}

#[derive(Clone, Copy)]
struct Crash {
    delay: Duration,
    updated: Instant,
}

impl Shared {
    pub fn pod(&self) -> Arc<Pod> {
        self.state.lock().pod.clone()
    }

    pub fn directory(&self) -> PathBuf {
        self.context.config.pod_directory(&self.key.uid)
    }

    pub fn log_directory(&self) -> PathBuf {
        self.context.config.pod_log_directory(&self.key)
    }

    /// A container waits, and why; nothing is tried before `retry_at`.
    pub fn set_waiting(&self, name: &str, reason: &str, message: &str, retry_at: Option<Instant>) {
        let mut state = self.state.lock();
        let waiting = Waiting { reason: reason.to_owned(), message: message.to_owned() };
        state.waiting.insert(name.to_owned(), waiting);
        match retry_at {
            Some(at) => state.retry_at.insert(name.to_owned(), at),
            None => state.retry_at.remove(name),
        };
        drop(state);
        self.wake.raise(STATE);
    }

    pub fn clear_waiting(&self, name: &str) {
        let mut state = self.state.lock();
        state.waiting.remove(name);
        state.retry_at.remove(name);
    }

    pub fn addresses(&self) -> Addresses {
        let host = self.context.host_ips();
        let state = self.state.lock();
        let pod = if pod::uses_host_network(&state.pod) {
            host.clone()
        } else {
            let sandbox = state.view.sandboxes.first();
            sandbox.map(|sandbox| sandbox.ips.iter().map(ToString::to_string).collect()).unwrap_or_default()
        };
        Addresses { pod, host }
    }
}

impl State {
    pub fn new(pod: Arc<Pod>, view: PodView) -> Self {
        Self { status: pod.status.clone().unwrap_or_default(), pod, view, ..Self::default() }
    }

    /// Names of containers whose status stays as it is, because the next run is about to start; until when.
    pub fn held(&self, now: Instant) -> (HashSet<String>, Option<Instant>) {
        let ends = self.replacing.iter().map(|(name, id)| (name, self.exits.get(id).map(|ended| *ended + REPLACEMENT)));
        let held: Vec<_> = ends.filter(|(_, until)| until.is_none_or(|until| now < until)).collect();
        let until = held.iter().filter_map(|(_, until)| *until).min();
        (held.into_iter().map(|(name, _)| name.clone()).collect(), until)
    }

    /// Note when containers ended. An end from before this process is dated by the wall clock once.
    pub fn note_exits(&mut self, now: Instant) {
        let wall = jiff::Timestamp::now().as_nanosecond();
        for container in &self.view.containers {
            if container.state == ContainerState::Exited && !self.exits.contains_key(&container.id) {
                let ago = wall.saturating_sub(i128::from(container.finished_at)).clamp(0, i128::from(i64::MAX));
                let ago = Duration::from_nanos(ago as u64).min(2 * CRASH_MAX);
                self.exits.insert(container.id.clone(), now.checked_sub(ago).unwrap_or(now));
            }
        }
        let view = &self.view;
        self.exits.retain(|id, _| view.container(id).is_some());
        self.messages.retain(|id, _| view.container(id).is_some());
        self.pre_stopped.retain(|id| view.container(id).is_some());
        self.started.retain(|id, _| view.container(id).is_some());
        self.startup_failed.retain(|id| view.container(id).is_some());
        self.ready.retain(|id, _| view.container(id).is_some());
        self.live.retain(|id, _| view.container(id).is_some());
        self.given.retain(|id, _| view.container(id).is_some());
        self.restart_for_resize.retain(|id| view.container(id).is_some());
    }

    /// Containers that run on keep what the API says of their probes, until a probe says otherwise: a restart
    /// of the kubelet takes no pod out of its Services.
    pub fn keep_verdicts(&mut self) {
        let pod = self.pod.clone();
        let Some(status) = &pod.status else { return };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for told in lists.into_iter().flatten().flatten() {
            let id = told.container_id.as_deref().and_then(|id| id.split_once("://")).map_or("", |(_, id)| id);
            if self.view.container(id).is_some_and(|container| container.state == ContainerState::Running) {
                // What was not so yet is for the probes to say, where there are any.
                if told.started == Some(true) {
                    self.started.insert(id.to_owned(), true);
                }
                if told.ready {
                    self.ready.insert(id.to_owned(), true);
                }
            }
        }
    }

    /// When the newest instance that ended did so, but for those in `except`.
    fn last_exit(&self, name: &str, except: &HashSet<String>) -> Option<Instant> {
        self.view
            .history(name)
            .filter(|container| container.state == ContainerState::Exited && !except.contains(&container.id))
            .find_map(|container| self.exits.get(&container.id).copied())
    }

    /// Whether a container that crashed must wait: until when, and how long the wait is in all.
    pub fn crash_backoff(&self, name: &str, except: &HashSet<String>, now: Instant) -> Option<(Instant, Duration)> {
        let ended = self.last_exit(name, except)?;
        let crash = self.crashes.get(name)?;
        if ended.duration_since(crash.updated) > 2 * CRASH_MAX {
            return None;
        }
        let until = ended + crash.delay;
        (now < until).then_some((until, crash.delay))
    }

    /// The container is started again after an end: the next wait is longer.
    pub fn note_restart(&mut self, name: &str, except: &HashSet<String>, now: Instant) {
        let Some(ended) = self.last_exit(name, except) else { return };
        let delay = match self.crashes.get(name) {
            Some(crash) if ended.duration_since(crash.updated) <= 2 * CRASH_MAX => (crash.delay * 2).min(CRASH_MAX),
            _ => CRASH_BASE,
        };
        self.crashes.insert(name.to_owned(), Crash { delay, updated: now });
    }

    pub fn volumes_ready(&self) -> bool {
        let spec = pod::spec(&self.pod);
        spec.volumes
            .iter()
            .flatten()
            .all(|volume| self.volumes.get(&volume.name).is_some_and(|volume| volume.path.is_some()))
    }
}

impl super::actions::Verdicts for State {
    fn liveness(&self, id: &str) -> Option<bool> {
        self.live.get(id).copied()
    }

    fn startup(&self, id: &str) -> Option<bool> {
        if self.startup_failed.contains(id) {
            return Some(false);
        }
        self.started.get(id).copied().filter(|&started| started)
    }

    fn needs_restart(&self, id: &str) -> bool {
        self.restart_for_resize.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cri::ContainerStatus;

    fn exited(id: &str) -> ContainerStatus {
        ContainerStatus {
            id: id.into(),
            sandbox_id: "s".into(),
            name: "c".into(),
            attempt: 0,
            state: ContainerState::Exited,
            created_at: 1,
            started_at: 1,
            finished_at: i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("a time in range"),
            exit_code: 1,
            signal: None,
            reason: "Error".into(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: PathBuf::new(),
            resources: None,
            user: None,
        }
    }

    #[test]
    fn crashes_wait_twice_as_long_each_time_and_are_forgiven() {
        let mut state = State::default();
        let none = HashSet::new();
        let mut delays = Vec::new();
        let mut now = Instant::now();
        for round in 0..8 {
            let id = format!("c{round}");
            state.view.containers.insert(0, exited(&id));
            state.exits.insert(id, now);
            let delay = state.crash_backoff("c", &none, now).map_or(0, |(_, delay)| delay.as_secs());
            delays.push(delay);
            now += Duration::from_secs(delay);
            assert_eq!(state.crash_backoff("c", &none, now), None, "the wait is over");
            state.note_restart("c", &none, now);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        now += Duration::from_secs(601);
        state.view.containers.insert(0, exited("late"));
        state.exits.insert("late".into(), now);
        assert_eq!(state.crash_backoff("c", &none, now), None, "forgiven after ten minutes");
    }

    #[test]
    fn a_container_that_was_killed_just_now_restarts_at_once() {
        let mut state = State::default();
        let now = Instant::now();
        state.view.containers.push(exited("a"));
        state.note_exits(now);
        state.note_restart("c", &HashSet::new(), now);
        assert!(state.crash_backoff("c", &HashSet::new(), now).is_some());
        assert_eq!(state.crash_backoff("c", &HashSet::from(["a".to_owned()]), now), None);
    }
}
