//! The pods of this node: from the API, from manifests, from what still runs; a worker for each.
//!
//! Entry: [`Pods::run`]. A pod's worker lives from the first sight of the pod until nothing of it
//! is left. A pod that was not admitted gets a worker too, with the verdict.

use super::admission::{self, NodeView};
use super::context::Context;
use super::node::Registered;
use super::orphans;
use super::pod::{self, PodKey};
use super::static_pods::{self, StaticPods};
use super::status::Verdict;
use super::view::{self, PodView};
use super::wake::{RUNTIME, Wake};
use super::worker::{self, Desired, Shared, Worker};
use crate::client::{Kind, kinds};
use crate::runtime::{Informer, InformerOptions, Meta, Projection};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A worker as the rest of the kubelet sees it.
struct Handle {
    desired: watch::Sender<Desired>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Default)]
struct Workers {
    by_uid: HashMap<String, Handle>,
    set: JoinSet<String>,
}

pub struct Pods {
    context: Arc<Context>,
    workers: Mutex<Workers>,
    /// A worker was added: the loop that waits for their ends looks again.
    added: tokio::sync::Notify,
}

impl Pods {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, workers: Mutex::default(), added: tokio::sync::Notify::new() }
    }

    pub async fn run(
        self: Arc<Self>,
        registered: watch::Receiver<Registered>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let context = &self.context;
        let mut events = context.runtime.events();
        let mut running = view::all(&*context.runtime).await.context("list what the container runtime holds")?;
        let options = InformerOptions {
            field_selector: Some(format!("spec.nodeName={}", context.config.node_name)),
            ..InformerOptions::default()
        };
        let informer: Informer<PodRecord> = Informer::start(context.client.client().clone(), options);
        let mut changes = informer.store().changes();
        let mut statics = StaticPods::start(context)?;
        let mut synced = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = informer.store().synced(), if !synced => {
                    synced = true;
                    while let Ok((old, new)) = changes.try_recv() {
                        self.api_change(old, new, &mut running, &registered);
                    }
                    self.adopt_orphans(&mut running);
                    let known = self.uids();
                    orphans::clean_up(context, &known).await;
                }
                change = changes.recv() => {
                    let Some((old, new)) = change else { anyhow::bail!("the informer of pods ended") };
                    self.api_change(old, new, &mut running, &registered);
                }
                change = statics.next() => self.static_change(change, &mut running),
                event = events.recv() => match event {
                    Ok(event) => self.wake(&event.pod_uid),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all(),
                    Err(broadcast::error::RecvError::Closed) => anyhow::bail!("the container runtime ended"),
                },
                uid = self.worker_ended() => self.forget(&uid, &informer, &mut running, &registered),
            }
        }
    }

    /// Wait for the end of any worker.
    async fn worker_ended(&self) -> String {
        loop {
            let ended = std::future::poll_fn(|context| {
                let mut workers = self.workers.lock();
                match workers.set.poll_join_next(context) {
                    // An empty set is ready with None at once: wait for the next worker instead.
                    std::task::Poll::Ready(None) => std::task::Poll::Ready(None),
                    other => other,
                }
            });
            tokio::select! {
                ended = ended => match ended {
                    Some(Ok(uid)) => return uid,
                    Some(Err(error)) if error.is_panic() => {
                        tracing::error!(%error, "a pod's worker panicked");
                        if let Some(uid) = self.ended_handle() {
                            return uid;
                        }
                    }
                    Some(Err(_)) => {}
                    None => self.added.notified().await,
                },
                () = self.added.notified() => {}
            }
        }
    }

    /// A worker whose task ended without telling its UID.
    fn ended_handle(&self) -> Option<String> {
        let workers = self.workers.lock();
        workers.by_uid.iter().find(|(_, handle)| handle.task.is_finished()).map(|(uid, _)| uid.clone())
    }

    fn api_change(
        &self,
        old: Option<Arc<PodRecord>>,
        new: Option<Arc<PodRecord>>,
        running: &mut HashMap<String, PodView>,
        registered: &watch::Receiver<Registered>,
    ) {
        if let Some(old) = &old
            && new.as_ref().is_none_or(|new| new.meta.uid != old.meta.uid)
        {
            self.api_gone(&old.pod);
        }
        if let Some(new) = new {
            self.api_pod(&new.pod, running, registered);
        }
    }

    fn api_pod(
        &self,
        pod: &Arc<Pod>,
        running: &mut HashMap<String, PodView>,
        registered: &watch::Receiver<Registered>,
    ) {
        let key = PodKey::of(pod);
        if pod::is_mirror(pod) {
            self.mirror(&key, Some(pod));
            return;
        }
        {
            let workers = self.workers.lock();
            if let Some(handle) = workers.by_uid.get(&key.uid) {
                update(handle, pod);
                return;
            }
        }
        let view = running.remove(&key.uid).unwrap_or_default();
        let mut desired = Desired::new(pod.clone());
        let fresh = view.sandboxes.is_empty() && !pod::is_finished(pod) && pod.metadata.deletion_timestamp.is_none();
        if fresh {
            desired.end = self.refuse(pod, &registered.borrow()).map(|verdict| (verdict, None));
        }
        self.spawn(desired, view);
    }

    fn refuse(&self, pod: &Pod, registered: &Registered) -> Option<Verdict> {
        let config = &self.context.config;
        let allocatable = self.context.allocatable.load();
        let Registered { labels, extended } = registered;
        let node = NodeView { name: &config.node_name, labels, allocatable: &allocatable, extended };
        let others = self.active();
        let verdict = admission::refuse(pod, &node, others.iter().map(|pod| &**pod))?;
        let message = verdict.message.trim_start_matches("Pod was rejected: ").to_owned();
        self.context.warning(&pod::subject(pod), &verdict.reason, message);
        Some(verdict)
    }

    /// Pods that were admitted and have not ended.
    fn active(&self) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock();
        let mut out = Vec::with_capacity(workers.by_uid.len());
        for handle in workers.by_uid.values() {
            let state = handle.shared.state.lock();
            let phase = state.status.phase.as_deref().unwrap_or("Pending");
            let ended = matches!(phase, "Succeeded" | "Failed");
            if !ended
                && !state.verdict.as_ref().is_some_and(|verdict| verdict.rejected)
                && !handle.desired.borrow().gone
            {
                out.push(state.pod.clone());
            }
        }
        out
    }

    fn api_gone(&self, pod: &Arc<Pod>) {
        let key = PodKey::of(pod);
        if pod::is_mirror(pod) {
            self.mirror(&key, None);
            return;
        }
        let workers = self.workers.lock();
        if let Some(handle) = workers.by_uid.get(&key.uid) {
            handle.desired.send_modify(|desired| {
                // The last state tells how gracefully it was deleted.
                desired.pod = pod.clone();
                desired.gone = true;
            });
        }
    }

    /// The API's image of a static pod came, changed or went.
    fn mirror(&self, key: &PodKey, mirror: Option<&Arc<Pod>>) {
        let owner = {
            let workers = self.workers.lock();
            workers
                .by_uid
                .values()
                .find(|handle| {
                    handle.shared.key.name == key.name
                        && handle.shared.key.namespace == key.namespace
                        && pod::is_static(&handle.desired.borrow().pod)
                        && !handle.desired.borrow().gone
                })
                .map(|handle| handle.desired.clone())
        };
        let Some(desired) = owner else {
            if let Some(mirror) = mirror {
                static_pods::delete_mirror(&self.context, mirror);
            }
            return;
        };
        let pod = desired.borrow().pod.clone();
        match mirror {
            Some(mirror) if static_pods::is_mirror_of(mirror, &pod) => {
                desired.send_modify(|desired| desired.mirror = Some(mirror.clone()));
            }
            Some(outdated) => static_pods::delete_mirror(&self.context, outdated),
            None => {
                desired.send_modify(|desired| desired.mirror = None);
                static_pods::create_mirror(&self.context, &pod);
            }
        }
    }

    fn static_change(&self, change: static_pods::Change, running: &mut HashMap<String, PodView>) {
        match change {
            static_pods::Change::Applied(pod) => {
                let uid = PodKey::of(&pod).uid;
                if self.workers.lock().by_uid.contains_key(&uid) {
                    return;
                }
                let view = running.remove(&uid).unwrap_or_default();
                static_pods::create_mirror(&self.context, &pod);
                self.spawn(Desired::new(pod), view);
            }
            static_pods::Change::Removed(uid) => {
                let workers = self.workers.lock();
                if let Some(handle) = workers.by_uid.get(&uid) {
                    if let Some(mirror) = handle.desired.borrow().mirror.clone() {
                        static_pods::delete_mirror(&self.context, &mirror);
                    }
                    handle.desired.send_modify(|desired| desired.gone = true);
                }
            }
        }
    }

    /// What runs and belongs to no pod is ended.
    fn adopt_orphans(&self, running: &mut HashMap<String, PodView>) {
        for (uid, view) in std::mem::take(running) {
            let Some(sandbox) = view.sandboxes.first() else { continue };
            tracing::info!(pod = %format!("{}/{}", sandbox.config.namespace, sandbox.config.name), %uid,
                "ending containers of a pod that is gone");
            let mut pod = Pod::default();
            pod.metadata.name = Some(sandbox.config.name.clone());
            pod.metadata.namespace = Some(sandbox.config.namespace.clone());
            pod.metadata.uid = Some(uid);
            pod.metadata.deletion_grace_period_seconds = Some(1);
            let mut desired = Desired::new(Arc::new(pod));
            desired.gone = true;
            self.spawn(desired, view);
        }
    }

    fn spawn(&self, desired: Desired, view: PodView) {
        let key = PodKey::of(&desired.pod);
        let (sender, receiver) = watch::channel(desired);
        let worker = Worker::new(self.context.clone(), receiver, view, Wake::default());
        let shared = worker.shared().clone();
        let mut workers = self.workers.lock();
        let uid = key.uid.clone();
        let task = workers.set.spawn(async move {
            worker.run().await;
            uid
        });
        workers.by_uid.insert(key.uid, Handle { desired: sender, shared, task });
        drop(workers);
        self.added.notify_one();
    }

    fn forget(
        &self,
        uid: &str,
        informer: &Informer<PodRecord>,
        running: &mut HashMap<String, PodView>,
        registered: &watch::Receiver<Registered>,
    ) {
        let Some(handle) = self.workers.lock().by_uid.remove(uid) else { return };
        self.context.objects.release(uid);
        // A worker that failed leaves its pod to another one.
        let key = &handle.shared.key;
        if let Some(record) = informer.store().find(&key.namespace, &key.name)
            && *record.meta.uid == *uid
        {
            self.api_pod(&record.pod, running, registered);
        }
    }

    fn wake(&self, uid: &str) {
        if let Some(handle) = self.workers.lock().by_uid.get(uid) {
            handle.shared.wake.raise(RUNTIME);
        }
    }

    fn wake_all(&self) {
        for handle in self.workers.lock().by_uid.values() {
            handle.shared.wake.raise(RUNTIME);
        }
    }

    /// The node's addresses changed: statuses follow.
    pub fn refresh_statuses(&self) {
        for handle in self.workers.lock().by_uid.values() {
            handle.shared.wake.raise(super::wake::STATE);
        }
    }

    /// What pods read from their volumes may be out of date: set up again.
    pub fn refresh_volumes(&self) {
        for handle in self.workers.lock().by_uid.values() {
            handle.shared.wake.raise(super::wake::OBJECTS);
        }
    }

    pub fn uids(&self) -> Vec<String> {
        self.workers.lock().by_uid.keys().cloned().collect()
    }

    pub fn all(&self) -> Vec<Arc<Shared>> {
        self.workers.lock().by_uid.values().map(|handle| handle.shared.clone()).collect()
    }

    /// A pod by name that is not on its way out, or else any of that name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Shared>> {
        let workers = self.workers.lock();
        let mut found: Vec<&Handle> = workers
            .by_uid
            .values()
            .filter(|handle| handle.shared.key.namespace == namespace && handle.shared.key.name == name)
            .collect();
        found.sort_by_key(|handle| handle.desired.borrow().gone);
        found.first().map(|handle| handle.shared.clone())
    }

    /// End a pod for the node's sake. `grace` in seconds.
    pub fn evict(&self, uid: &str, verdict: Verdict, grace: Option<i64>) {
        if let Some(handle) = self.workers.lock().by_uid.get(uid) {
            handle.desired.send_modify(|desired| {
                desired.end.get_or_insert((verdict, grace));
            });
        }
    }

    /// End the workers, not the pods.
    pub async fn stop(&self) {
        let mut set = {
            let mut workers = self.workers.lock();
            workers.by_uid.clear();
            std::mem::take(&mut workers.set)
        };
        // Workers stop between two steps; what hangs in one is cut off.
        set.abort_all();
        let drained = async { while set.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(5), drained).await.is_err() {
            tracing::warn!("some pod workers did not end in time");
        }
    }
}

/// Give a worker its pod's new state; it is woken only where that can matter to it.
fn update(handle: &Handle, pod: &Arc<Pod>) {
    let contradicted = worker::contradicts(&handle.shared.state.lock().status, pod.status.as_ref());
    handle.desired.send_if_modified(|desired| {
        let matters = contradicted || matters(&desired.pod, pod);
        desired.pod = pod.clone();
        matters
    });
}

/// Our own status writes come back to us: they change nothing.
fn matters(old: &Pod, new: &Pod) -> bool {
    let metadata = |pod: &Pod| {
        let metadata = &pod.metadata;
        (
            metadata.labels.clone(),
            metadata.annotations.clone(),
            metadata.deletion_timestamp.clone(),
            metadata.deletion_grace_period_seconds,
            metadata.generation,
        )
    };
    let gates = |pod: &Pod| {
        let wanted = pod::spec(pod);
        let gates: Vec<String> =
            wanted.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone()).collect();
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let found: Vec<(String, String)> = conditions
            .filter(|condition| gates.contains(&condition.type_))
            .map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect();
        found
    };
    old.spec != new.spec
        || metadata(old) != metadata(new)
        || gates(old) != gates(new)
        || pod::is_finished(old) != pod::is_finished(new)
}

/// A pod as the informer holds it.
pub struct PodRecord {
    meta: Meta,
    pod: Arc<Pod>,
}

impl Projection for PodRecord {
    type Object = Pod;
    const KIND: Kind = kinds::PODS;

    fn project(mut object: Pod) -> Self {
        object.metadata.managed_fields = None;
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
        let metadata = &object.metadata;
        let meta = Meta {
            name: text(&metadata.name).into(),
            namespace: text(&metadata.namespace).into(),
            uid: text(&metadata.uid).into(),
            resource_version: text(&metadata.resource_version).into(),
            ..Meta::default()
        };
        Self { meta, pod: Arc::new(object) }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_own_status_does_not_wake_its_worker() {
        let pod = |value: serde_json::Value| -> Pod { serde_json::from_value(value).expect("a pod") };
        let base = json!({"metadata": {"name": "p", "resourceVersion": "1"}, "spec": {"containers": [],
            "readinessGates": [{"conditionType": "gate"}]}});
        let mut status = base.clone();
        status["status"] = json!({"phase": "Running"});
        status["metadata"]["resourceVersion"] = "2".into();
        assert!(!matters(&pod(base.clone()), &pod(status)));
        let mut gate = base.clone();
        gate["status"] = json!({"conditions": [{"type": "gate", "status": "True"}]});
        assert!(matters(&pod(base.clone()), &pod(gate)));
        let mut deleted = base.clone();
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(matters(&pod(base), &pod(deleted)));
    }
}
