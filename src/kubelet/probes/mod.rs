//! Liveness, readiness and startup probes: one task per probe of a running container, none else.
//!
//! Entry: [`Probes::reconcile`], called with the containers that run. Verdicts go into the worker's
//! state and wake it. Liveness and readiness wait until the startup probe has passed; a probe that
//! failed for good is silent until its container is another.

mod attempt;
pub mod grpc;
pub mod http;

pub use attempt::{Outcome, attempt, port_number};

use super::pod::{self, Role};
use super::wake::PROBES;
use super::worker::Shared;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }

    fn probe(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

const KINDS: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

/// A container that runs and whose postStart hook has returned.
pub struct Running {
    pub id: String,
    pub role: Role,
    pub container: Arc<Container>,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
}

/// The probes of one pod. Dropping it ends them.
#[derive(Default)]
pub struct Probes {
    tasks: HashMap<(String, Kind), AbortHandle>,
    set: JoinSet<()>,
    /// By container id: whether it passed its startup probe.
    gates: HashMap<String, watch::Sender<bool>>,
}

impl Probes {
    /// Have a task for each probe of these containers and for no others. `terminating`: only
    /// readiness goes on.
    pub fn reconcile(&mut self, shared: &Arc<Shared>, pod: &Arc<Pod>, running: &[Running], terminating: bool) {
        while let Some(ended) = self.set.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(pod = %shared.key, %error, "a probe panicked");
            }
        }
        let ids: HashSet<&str> = running.iter().map(|running| running.id.as_str()).collect();
        self.tasks.retain(|(id, kind), task| {
            let keep = ids.contains(id.as_str()) && !(terminating && *kind != Kind::Readiness);
            if !keep {
                task.abort();
            }
            keep
        });
        self.gates.retain(|id, _| ids.contains(id.as_str()));
        for container in running {
            for kind in KINDS {
                let Some(probe) = kind.probe(&container.container) else { continue };
                let key = (container.id.clone(), kind);
                if self.tasks.contains_key(&key) || (terminating && kind != Kind::Readiness) {
                    continue;
                }
                let gate = self.gates.entry(container.id.clone()).or_insert_with(|| {
                    let passed = || shared.state.lock().started.get(&container.id) == Some(&true);
                    watch::Sender::new(container.container.startup_probe.is_none() || passed())
                });
                if kind == Kind::Startup && *gate.borrow() {
                    continue;
                }
                let task = Task {
                    shared: shared.clone(),
                    pod: pod.clone(),
                    id: container.id.clone(),
                    role: container.role,
                    container: container.container.clone(),
                    started_at: container.started_at,
                    kind,
                    probe: probe.clone(),
                    gate: gate.clone(),
                };
                task.initialise();
                self.tasks.insert(key, self.set.spawn(task.run()));
            }
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    id: String,
    role: Role,
    container: Arc<Container>,
    started_at: i64,
    kind: Kind,
    probe: Probe,
    gate: watch::Sender<bool>,
}

impl Task {
    /// Until the first verdict a container is alive, not ready and not started.
    fn initialise(&self) {
        let mut state = self.shared.state.lock();
        match self.kind {
            Kind::Liveness => state.live.entry(self.id.clone()).or_insert(true),
            Kind::Readiness => state.ready.entry(self.id.clone()).or_insert(false),
            Kind::Startup => state.started.entry(self.id.clone()).or_insert(false),
        };
    }

    async fn run(self) {
        let seconds = |value: Option<i32>, default: i32| u64::try_from(value.unwrap_or(default)).unwrap_or(0);
        let period = Duration::from_secs(seconds(self.probe.period_seconds, 10).max(1));
        let failure_threshold = seconds(self.probe.failure_threshold, 3).max(1);
        let success_threshold = seconds(self.probe.success_threshold, 1).max(1);
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let age = Duration::from_nanos(u64::try_from(now.saturating_sub(self.started_at)).unwrap_or(0));
        let delay = Duration::from_secs(seconds(self.probe.initial_delay_seconds, 0)).saturating_sub(age);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.kind != Kind::Startup && self.gate.subscribe().wait_for(|started| *started).await.is_err() {
            return;
        }
        let (mut last, mut run) = (None, 0);
        let mut next = Instant::now();
        loop {
            if let Some(success) = self.once().await {
                run = if last == Some(success) { run + 1 } else { 1 };
                last = Some(success);
                let threshold = if success { success_threshold } else { failure_threshold };
                if run >= threshold && self.settle(success) {
                    return;
                }
            }
            // A slow probe does not make the ones after it come faster.
            next = (next + period).max(Instant::now());
            tokio::time::sleep_until(next).await;
        }
    }

    /// None: the probe itself did not work; that says nothing about the container.
    async fn once(&self) -> Option<bool> {
        let outcome = attempt(&self.shared, &self.container, &self.id, &self.probe).await;
        let subject = pod::container_subject(&self.pod, self.role, &self.container.name);
        let name = self.kind.name();
        let context = &self.shared.context;
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(message) => {
                context.warning(&subject, "ProbeWarning", format!("{name} probe warning: {message}"));
                Some(true)
            }
            Outcome::Failure(message) => {
                context.warning(&subject, "Unhealthy", format!("{name} probe failed: {message}"));
                Some(false)
            }
            Outcome::Error(message) => {
                let message = format!("{name} probe errored and resulted in unknown state: {message}");
                context.warning(&subject, "Unhealthy", message);
                None
            }
        }
    }

    /// Write the verdict down; true: there is nothing more to ask.
    fn settle(&self, success: bool) -> bool {
        let mut state = self.shared.state.lock();
        let (changed, done) = match self.kind {
            Kind::Liveness => (state.live.insert(self.id.clone(), success) != Some(success), !success),
            Kind::Readiness => (state.ready.insert(self.id.clone(), success) != Some(success), false),
            Kind::Startup => {
                if success {
                    state.started.insert(self.id.clone(), true);
                    self.gate.send_replace(true);
                } else {
                    state.startup_failed.insert(self.id.clone());
                }
                (true, true)
            }
        };
        drop(state);
        if changed {
            self.shared.wake.raise(PROBES);
        }
        done
    }
}
