//! Writing a pod's status to the API, one write at a time, the newest state only; and deleting the
//! object of a pod that has ended.

use super::Desired;
use super::state::Shared;
use crate::client::{self, DeleteOptions, Patch, kinds};
use crate::kubelet::pod;
use crate::kubelet::status::{self, Stage, patch};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

enum Done {
    /// The API holds this status now, since this revision.
    Written(Box<PodStatus>, u64),
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
    /// The revision of the object that `written` accounts for.
    revision: u64,
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
        let (status, uid, revision) = {
            let state = shared.state.lock();
            (state.status.clone(), shared.key.uid.clone(), revision(&state.pod))
        };
        Self {
            shared,
            written: status.clone(),
            revision,
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
                self.revision = revision(api_pod);
                self.uid = uid.clone();
            }
            if self.call.is_none() && revision(api_pod) > self.revision {
                self.revision = revision(api_pod);
                adopt_own_conditions(&mut self.written, api_pod.status.as_ref());
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
        let (held, _) = state.held(Instant::now());
        let computed = status::compute(&status::Input {
            pod: &state.pod,
            view: &state.view,
            old: &old,
            waiting: &state.waiting,
            starting: &state.starting,
            held: &held,
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
            let wanted = self.wanted.clone();
            self.call = Some(Box::pin(async move { write(&objects, &namespace, &name, &body, wanted).await }));
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

    /// Go on with the call under way; returns when it ended. Cancel-safe.
    pub async fn progress(&mut self) {
        let done = match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        };
        self.call = None;
        self.retry_at = None;
        match done {
            Done::Written(status, revision) => {
                self.failures = 0;
                self.written = *status;
                self.revision = revision;
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

async fn write(objects: &client::Objects, namespace: &str, name: &str, body: &Value, mut wanted: PodStatus) -> Done {
    let reply = objects.patch(&kinds::PODS, namespace, name, "status", Patch::Strategic, body).await;
    match reply.and_then(|reply| client::typed::<Pod>(&reply).map_err(kube::Error::SerdeError)) {
        Ok(pod) => {
            // What somebody else wrote before is in the object still, where this patch did not touch it.
            adopt_own_conditions(&mut wanted, pod.status.as_ref());
            Done::Written(Box::new(wanted), revision(&pod))
        }
        Err(error) if client::is_not_found(&error) => Done::Absent,
        // A conflict may be another pod of the name: then the informer tells that ours is gone.
        Err(error) => Done::Failed(error.to_string()),
    }
}

/// The revision of an object; 0: it has none.
fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Conditions that the kubelet writes.
const OWN: &[&str] =
    &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "DisruptionTarget"];

/// Those that nobody else has anything to add to.
const ALONE: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// Whether the API holds another state of a condition of ours than the one that was published.
pub fn contradicts(published: &PodStatus, held: Option<&PodStatus>) -> bool {
    ALONE.iter().any(|kind| {
        let state = |status: &PodStatus| condition(status, kind).map(|condition| condition.status.clone());
        state(published) != held.and_then(state)
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Where the API holds another state of a condition of ours, that is what is to be put right: the node
/// controller makes the pods of a node that was away not ready, and it is the kubelet that takes it back.
fn adopt_own_conditions(known: &mut PodStatus, held: Option<&PodStatus>) {
    for kind in ALONE {
        let now = held.and_then(|held| condition(held, kind)).cloned();
        let before = condition(known, kind);
        if before.map(|condition| &condition.status) != now.as_ref().map(|condition| &condition.status) {
            let conditions = known.conditions.get_or_insert_default();
            conditions.retain(|condition| condition.type_ != *kind);
            conditions.extend(now);
        }
    }
}

/// Conditions that others own are the API's, not what this worker last saw of them.
fn adopt_foreign_conditions(old: &mut PodStatus, pod: &Pod) {
    let foreign = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let foreign: Vec<_> = foreign.filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned().collect();
    let conditions = old.conditions.get_or_insert_default();
    conditions.retain(|condition| OWN.contains(&condition.type_.as_str()));
    conditions.extend(foreign);
}
