//! Writing a pod's status to the API, one write at a time, the newest state only; and deleting the
//! object of a pod that has ended.

use super::Desired;
use super::state::Shared;
use crate::client::{self, DeleteOptions, Patch, kinds};
use crate::kubelet::pod;
use crate::kubelet::status::{self, Stage, patch};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

enum Done {
    /// The API holds this status now.
    Written(Box<PodStatus>),
    Deleted,
    /// There is no such object any more.
    Absent,
    Failed(String),
}

/// Where the status goes.
struct Target {
    name: String,
    namespace: String,
    uid: String,
}

pub struct Publisher {
    shared: Arc<Shared>,
    /// As the API is known to hold it.
    written: PodStatus,
    /// As it ought to be.
    wanted: PodStatus,
    /// Whose status `written` is: another mirror pod starts from its own.
    uid: String,
    call: Option<BoxFuture<'static, Done>>,
    failures: u32,
    retry_at: Option<Instant>,
    deleted: bool,
    target: Option<Target>,
    delete: bool,
}

impl Publisher {
    pub fn new(shared: Arc<Shared>) -> Self {
        let (status, uid) = {
            let state = shared.state.lock();
            (state.status.clone(), shared.key.uid.clone())
        };
        Self {
            shared,
            written: status.clone(),
            wanted: status,
            uid,
            call: None,
            failures: 0,
            retry_at: None,
            deleted: false,
            target: None,
            delete: false,
        }
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.call.is_none())
    }

    /// Compute the status anew and begin to write it if it differs.
    pub fn publish(&mut self, stage: Stage, desired: &Desired, cleaned: bool) {
        let api_pod: &Pod = desired.mirror.as_deref().unwrap_or(&desired.pod);
        self.recompute(stage, desired);
        let local = pod::is_static(&desired.pod);
        let uid = api_pod.metadata.uid.clone().unwrap_or_default();
        if local && desired.mirror.is_none() {
            self.target = None;
        } else {
            if uid != self.uid && local {
                self.written = api_pod.status.clone().unwrap_or_default();
                self.uid = uid.clone();
            }
            self.target =
                Some(Target { name: self.shared.key.name.clone(), namespace: self.shared.key.namespace.clone(), uid });
        }
        self.delete = cleaned && !local && !desired.gone && desired.pod.metadata.deletion_timestamp.is_some();
        if desired.gone {
            self.target = None;
        }
        self.begin();
    }

    fn recompute(&mut self, stage: Stage, desired: &Desired) {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        // A pod that the API calls finished keeps the status it ended with.
        if pod::is_finished(&desired.pod) && state.view.is_stopped() && stage != Stage::Running {
            let last = desired.pod.status.clone().unwrap_or_default();
            if !self.wanted_is_final() {
                self.wanted = last;
            }
            state.status = self.wanted.clone();
            return;
        }
        let mut old = state.status.clone();
        adopt_foreign_conditions(&mut old, &desired.pod);
        let host_ips = shared.context.host_ips();
        let verdict = state.verdict.clone();
        let computed = status::compute(&status::Input {
            pod: &state.pod,
            view: &state.view,
            old: &old,
            waiting: &state.waiting,
            starting: &state.starting,
            started: &state.started,
            ready: &state.ready,
            messages: &state.messages,
            verdict: verdict.as_ref(),
            stage,
            host_ips: &host_ips,
            now: jiff::Timestamp::now(),
        });
        state.status = computed.clone();
        self.wanted = computed;
    }

    fn wanted_is_final(&self) -> bool {
        matches!(self.wanted.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    fn begin(&mut self) {
        if self.call.is_some() || self.deleted || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some(target) = &self.target else { return };
        if let Some(body) = patch::patch(&target.uid, &self.written, &self.wanted) {
            let objects = self.shared.context.client.clone();
            let (namespace, name) = (target.namespace.clone(), target.name.clone());
            self.call = Some(Box::pin(async move { write(&objects, &namespace, &name, &body).await }));
            let wanted = self.wanted.clone();
            self.wrap(move |done| match done {
                Done::Written(_) => Done::Written(Box::new(wanted)),
                other => other,
            });
        } else if self.delete {
            let objects = self.shared.context.client.clone();
            let (namespace, name) = (target.namespace.clone(), target.name.clone());
            let options = DeleteOptions::of(&target.uid).grace_period(0);
            self.call = Some(Box::pin(async move {
                match objects.delete(&kinds::PODS, &namespace, &name, &options).await {
                    Ok(_) => Done::Deleted,
                    Err(error) if client::is_not_found(&error) => Done::Absent,
                    Err(error) => Done::Failed(error.to_string()),
                }
            }));
        }
    }

    fn wrap(&mut self, map: impl FnOnce(Done) -> Done + Send + 'static) {
        if let Some(call) = self.call.take() {
            self.call = Some(Box::pin(async move { map(call.await) }));
        }
    }

    /// Go on with the call under way; returns when it ended. Cancel-safe.
    pub async fn progress(&mut self) {
        let done = match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        };
        self.call = None;
        self.retry_at = None;
        match done {
            Done::Written(status) => {
                self.failures = 0;
                self.written = *status;
            }
            // The informer tells of the object's end.
            Done::Deleted | Done::Absent => self.deleted = true,
            Done::Failed(error) => {
                tracing::debug!(pod = %self.shared.key, %error, "write the pod's status");
                let delay = (RETRY * 2u32.pow(self.failures.min(5))).min(RETRY_MAX);
                self.failures += 1;
                self.retry_at = Some(Instant::now() + delay);
            }
        }
    }
}

async fn write(objects: &client::Objects, namespace: &str, name: &str, body: &Value) -> Done {
    match objects.patch(&kinds::PODS, namespace, name, "status", Patch::Strategic, body).await {
        Ok(_) => Done::Written(Box::default()),
        Err(error) if client::is_not_found(&error) => Done::Absent,
        // A conflict may be another pod of the name: then the informer tells that ours is gone.
        Err(error) => Done::Failed(error.to_string()),
    }
}

/// Conditions that others own are the API's, not what this worker last saw of them.
fn adopt_foreign_conditions(old: &mut PodStatus, pod: &Pod) {
    const OWN: &[&str] =
        &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "DisruptionTarget"];
    let foreign = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let foreign: Vec<_> = foreign.filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned().collect();
    let conditions = old.conditions.get_or_insert_default();
    conditions.retain(|condition| OWN.contains(&condition.type_.as_str()));
    conditions.extend(foreign);
}
