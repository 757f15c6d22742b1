//! The task that owns queue and cache: takes notices in, schedules what is ready, binds beside.

use super::DEFAULT_SCHEDULER;
use super::cache::{Cache, Snapshot};
use super::cycle::{Cycle, Misfit, Surroundings, schedule};
use super::plugins::{Event, cares};
use super::preemption::{self, Candidate};
use super::queue::Queue;
use super::selectors::AllOf;
use crate::api::time::seconds;
use crate::client::{DeleteOptions, Objects, Patch, is_conflict, is_not_found, kinds};
use crate::runtime::views::{Namespace, Node, Pod, PodDisruptionBudget, ReplicaSet, Service};
use crate::runtime::{Condition, EventType, Informers, Projection, Recorder, Store, Subject};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a cache said: old and new state.
enum Notice {
    Pod(Option<Arc<Pod>>, Option<Arc<Pod>>),
    Node(Option<Arc<Node>>, Option<Arc<Node>>),
    Namespace(Option<Arc<Namespace>>, Option<Arc<Namespace>>),
}

/// How a binding ended.
struct Bound {
    pod: Arc<Pod>,
    node: Arc<str>,
    result: Result<Value, kube::Error>,
}

pub struct Driver {
    objects: Objects,
    recorder: Recorder,
    pods: Arc<Store<Pod>>,
    nodes: Arc<Store<Node>>,
    services: Arc<Store<Service>>,
    sets: Arc<Store<ReplicaSet>>,
    budgets: Arc<Store<PodDisruptionBudget>>,
    notices: mpsc::UnboundedReceiver<Notice>,
    queue: Queue,
    cache: Cache,
    namespaces: Arc<HashMap<Arc<str>, BTreeMap<String, String>>>,
    bindings: JoinSet<Bound>,
    /// Conditions, nominations and evictions on their way.
    writes: JoinSet<()>,
}

impl Driver {
    pub fn new(informers: &Informers, objects: Objects, recorder: Recorder) -> Self {
        let (sender, notices) = mpsc::unbounded_channel();
        let (pods, nodes) = (informers.of::<Pod>(), informers.of::<Node>());
        // The receiver lives as long as the process schedules.
        nodes.on_change({
            let sender = sender.clone();
            move |change| drop(sender.send(Notice::Node(change.old().cloned(), change.new().cloned())))
        });
        informers.of::<Namespace>().on_change({
            let sender = sender.clone();
            move |change| drop(sender.send(Notice::Namespace(change.old().cloned(), change.new().cloned())))
        });
        pods.on_change(move |change| drop(sender.send(Notice::Pod(change.old().cloned(), change.new().cloned()))));
        Self {
            objects,
            recorder,
            pods,
            nodes,
            services: informers.of(),
            sets: informers.of(),
            budgets: informers.of(),
            notices,
            queue: Queue::default(),
            cache: Cache::default(),
            namespaces: Arc::default(),
            bindings: JoinSet::new(),
            writes: JoinSet::new(),
        }
    }

    pub async fn run(mut self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.services.synced().await;
        self.sets.synced().await;
        self.budgets.synced().await;
        loop {
            while let Ok(notice) = self.notices.try_recv() {
                self.notice(notice);
            }
            while let Some(bound) = self.bindings.try_join_next() {
                self.bound(bound);
            }
            while let Some(written) = self.writes.try_join_next() {
                propagate(written);
            }
            if let Some(pod) = self.queue.pop(Instant::now()) {
                self.schedule(&pod);
                // The caches move on between two pods.
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.queue.deadline();
            let wait = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.notice(notice),
                    None => return,
                },
                Some(bound) = self.bindings.join_next() => self.bound(bound),
                Some(written) = self.writes.join_next() => propagate(written),
                () = wait => {}
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let now = Instant::now();
        match notice {
            Notice::Pod(old, new) => self.pod(old.as_deref(), new.as_ref(), now),
            Notice::Node(old, Some(new)) => {
                self.cache.set_node(&new);
                for event in node_events(old.as_deref(), &new) {
                    self.queue.happened(event, cares, now);
                }
            }
            Notice::Node(Some(old), None) => self.cache.remove_node(&old.meta.name),
            Notice::Namespace(_, Some(new)) => {
                Arc::make_mut(&mut self.namespaces).insert(new.meta.name.clone(), new.meta.labels.clone());
            }
            Notice::Namespace(Some(old), None) => {
                Arc::make_mut(&mut self.namespaces).remove(&old.meta.name);
            }
            Notice::Node(None, None) | Notice::Namespace(None, None) => {}
        }
    }

    fn pod(&mut self, old: Option<&Pod>, new: Option<&Arc<Pod>>, now: Instant) {
        let Some(new) = new else {
            if let Some(old) = old {
                self.queue.remove(&old.meta.uid);
                if self.cache.remove_pod(&old.meta.uid) {
                    self.queue.happened(Event::PodDeleted, cares, now);
                }
            }
            return;
        };
        // A pod that was replaced under its name between two lists.
        if let Some(old) = old.filter(|old| old.meta.uid != new.meta.uid) {
            self.pod(Some(old), None, now);
        }
        let uid = &new.meta.uid;
        if new.is_terminal() {
            self.queue.remove(uid);
            if self.cache.remove_pod(uid) {
                self.queue.happened(Event::PodDeleted, cares, now);
            }
        } else if !new.node.is_empty() {
            self.queue.remove(uid);
            let placed = old.is_none_or(|old| old.node.is_empty() || old.meta.labels != new.meta.labels);
            self.cache.place(new, &new.node, false);
            if placed {
                self.queue.happened(Event::PodPlaced, cares, now);
            }
        } else if new.meta.is_deleting() {
            self.queue.remove(uid);
        } else if &*new.scheduler == DEFAULT_SCHEDULER && !self.cache.is_assumed(uid) {
            self.queue.set(new, now);
        }
    }

    /// The cluster as it will be when those that were promised room have taken it.
    fn snapshot(&self, pod: &Pod) -> Snapshot {
        let mut snapshot = self.cache.snapshot();
        for (node, other) in self.queue.nominated(pod.priority, &pod.meta.uid) {
            if let Some(place) = snapshot.nodes.iter_mut().find(|info| info.name() == &**node) {
                Arc::make_mut(place).add(other.clone());
            }
        }
        snapshot
    }

    fn surroundings(&self, pod: &Pod) -> Surroundings {
        let mut workload = AllOf::default();
        for service in self.services.in_namespace(&pod.meta.namespace) {
            if let Some(selector) = &service.selector
                && selector.iter().all(|(key, value)| pod.meta.label(key) == Some(value))
            {
                workload.labels.extend(selector.clone());
            }
        }
        if let Some(owner) = pod.meta.controller().filter(|owner| owner.kind == "ReplicaSet")
            && let Some(set) = self.sets.find(&pod.meta.namespace, &owner.name)
        {
            workload.selectors.push(set.spec.selector.clone());
        }
        Surroundings { workload, namespaces: self.namespaces.clone() }
    }

    fn schedule(&mut self, pod: &Arc<Pod>) {
        let snapshot = self.snapshot(pod);
        let around = self.surroundings(pod);
        let cycle = Cycle { pod, snapshot: &snapshot, surroundings: &around };
        match schedule(&cycle, rand::random()) {
            Ok(node) => self.bind(pod, node),
            Err(mut misfit) => {
                let found = preemption::find(pod, &snapshot, &around, &misfit, &self.budgets.all());
                let candidate = match found {
                    Ok(candidate) => Some(candidate),
                    Err(text) => {
                        if misfit.nodes > 0 {
                            misfit.preemption = text;
                        }
                        None
                    }
                };
                self.refuse(pod, &misfit, candidate);
            }
        }
    }

    fn bind(&mut self, pod: &Arc<Pod>, node: Arc<str>) {
        self.cache.place(pod, &node, true);
        let objects = self.objects.clone();
        let pod = pod.clone();
        self.bindings.spawn(async move {
            let meta = &pod.meta;
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": { "name": &*meta.name, "namespace": &*meta.namespace, "uid": &*meta.uid },
                "target": { "apiVersion": "v1", "kind": "Node", "name": &*node },
            });
            let result =
                objects.create_subresource(&kinds::PODS, &meta.namespace, &meta.name, "binding", &binding).await;
            Bound { pod, node, result }
        });
    }

    fn bound(&mut self, ended: Result<Bound, tokio::task::JoinError>) {
        let bound = match ended {
            Ok(bound) => bound,
            Err(error) => return propagate(Err(error)),
        };
        let now = Instant::now();
        let (pod, uid) = (&bound.pod, &bound.pod.meta.uid);
        let subject = Subject::of(&kinds::PODS, &pod.meta);
        match bound.result {
            Ok(_) => {
                self.queue.remove(uid);
                let text = format!("Successfully assigned {} to {}", pod.key(), bound.node);
                self.recorder.event_with_action(&subject, EventType::Normal, "Scheduled", "Binding", text);
            }
            Err(error) => {
                // The watch may have confirmed it, though the reply was lost.
                if self.cache.is_assumed(uid) {
                    self.cache.remove_pod(uid);
                    self.queue.happened(Event::PodDeleted, cares, now);
                }
                if is_not_found(&error) || is_conflict(&error) {
                    tracing::debug!(pod = %pod.key(), "not bound: {error}");
                } else {
                    let text = format!("binding rejected: {error}");
                    self.recorder.event_with_action(
                        &subject,
                        EventType::Warning,
                        "FailedScheduling",
                        "Scheduling",
                        text,
                    );
                }
                match self.pods.get(&pod.key()).filter(|now| now.meta.uid == *uid && now.node.is_empty()) {
                    Some(_) => self.queue.failed(uid, now),
                    None => self.queue.remove(uid),
                }
            }
        }
    }

    fn refuse(&mut self, pod: &Arc<Pod>, misfit: &Misfit, candidate: Option<Candidate>) {
        let subject = Subject::of(&kinds::PODS, &pod.meta);
        let message = misfit.to_string();
        self.recorder.event_with_action(
            &subject,
            EventType::Warning,
            "FailedScheduling",
            "Scheduling",
            message.as_str(),
        );
        self.queue.refused(&pod.meta.uid, misfit.plugins.clone(), Instant::now());
        match &candidate {
            Some(candidate) => self.queue.nominate(pod, &candidate.node),
            None => self.queue.clear_nomination(&pod.meta.uid),
        }
        let nominated = candidate.as_ref().map(|candidate| candidate.node.clone());
        if let Some(patch) = status_patch(pod, &message, nominated.as_deref(), Timestamp::now()) {
            let (objects, pod) = (self.objects.clone(), pod.clone());
            self.writes.spawn(async move {
                let meta = &pod.meta;
                let written =
                    objects.patch(&kinds::PODS, &meta.namespace, &meta.name, "status", Patch::Strategic, &patch).await;
                if let Err(error) = written
                    && !is_not_found(&error)
                {
                    tracing::warn!(pod = %pod.key(), "condition PodScheduled not written: {error}");
                }
            });
        }
        for victim in candidate.into_iter().flat_map(|candidate| {
            let node = candidate.node;
            candidate.victims.into_iter().map(move |victim| (victim, node.clone()))
        }) {
            self.preempt(pod, victim.0, &victim.1);
        }
    }

    fn preempt(&mut self, pod: &Arc<Pod>, victim: Arc<Pod>, node: &str) {
        let subject = Subject::of(&kinds::PODS, &victim.meta);
        let text = format!("Preempted by pod {} on node {node}", pod.meta.uid);
        self.recorder.event_with_action(&subject, EventType::Normal, "Preempted", "Preempting", text);
        let objects = self.objects.clone();
        self.writes.spawn(async move {
            let meta = &victim.meta;
            let now = Timestamp::now();
            let condition = json!({ "metadata": { "uid": &*meta.uid }, "status": { "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!("{DEFAULT_SCHEDULER}: preempting to accommodate a higher priority pod"),
                "lastTransitionTime": seconds(now),
            }] } });
            let marked =
                objects.patch(&kinds::PODS, &meta.namespace, &meta.name, "status", Patch::Strategic, &condition).await;
            let gone = |error: &kube::Error| is_not_found(error) || is_conflict(error);
            let deleted = match marked {
                Ok(_) => objects.delete(&kinds::PODS, &meta.namespace, &meta.name, &DeleteOptions::of(&meta.uid)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = deleted
                && !gone(&error)
            {
                tracing::warn!(pod = %victim.key(), "not preempted: {error}");
            }
        });
    }
}

/// A task that panicked is a bug that must be seen.
fn propagate(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The condition PodScheduled and the nomination; None: they are there.
fn status_patch(pod: &Pod, message: &str, nominated: Option<&str>, now: Timestamp) -> Option<Value> {
    let current = Condition::find(&pod.conditions, "PodScheduled");
    let same = current.is_some_and(|current| {
        &*current.status == "False" && &*current.reason == "Unschedulable" && &*current.message == message
    });
    let nomination_changes = nominated.is_some_and(|node| *node != *pod.nominated_node);
    if same && !nomination_changes {
        return None;
    }
    let since = current
        .filter(|current| &*current.status == "False")
        .and_then(|current| current.last_transition_time)
        .unwrap_or(now);
    let mut status = json!({ "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": seconds(since), "observedGeneration": pod.meta.generation,
    }] });
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node.into();
    }
    Some(json!({ "metadata": { "uid": &*pod.meta.uid }, "status": status }))
}

fn node_events(old: Option<&Node>, new: &Node) -> Vec<Event> {
    let Some(old) = old else { return vec![Event::NodeAdded] };
    let mut events = Vec::new();
    if old.allocatable != new.allocatable {
        events.push(Event::NodeResources);
    }
    if old.meta.labels != new.meta.labels {
        events.push(Event::NodeLabels);
    }
    if old.taints != new.taints || old.unschedulable != new.unschedulable {
        events.push(Event::NodeTaints);
    }
    events
}
