//! ReplicaSet and ReplicationController: keep the asked number of pods that match.
//!
//! Source: `pkg/controller/replicaset`.

mod plan;
mod sets;

use super::context::{Context, Running};
use super::ownership::claim_all;
use super::pod_control::{PodControl, message, pod_from_template};
use crate::client::{Kind, Objects, is_namespace_terminating};
use crate::runtime::views::{Pod, ReplicaSet, ReplicationController};
use crate::runtime::{Action, Change, Controller, Expectations, Meta, ObjectKey, Store, WorkQueue};
use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use std::sync::Arc;

use plan::{Failure, status};
use sets::{AsSet, Flavor, Sets};

pub fn start(context: &Context) -> Running {
    start_flavor::<ReplicaSet>(context, Flavor::REPLICA_SET)
}

pub fn start_replication_controllers(context: &Context) -> Running {
    start_flavor::<ReplicationController>(context, Flavor::REPLICATION_CONTROLLER)
}

fn start_flavor<P: AsSet>(context: &Context, flavor: Flavor) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let sets = context.informers.of::<P>();
    sets.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.object().key())
    });
    let synced = sets.until_synced();
    run(context, flavor, queue, sets, synced)
}

fn run(
    context: &Context,
    flavor: Flavor,
    queue: Arc<WorkQueue<ObjectKey>>,
    sets: Arc<dyn Sets>,
    synced: BoxFuture<'static, ()>,
) -> Running {
    let expectations = Arc::new(Expectations::default());
    let pods = context.informers.of::<Pod>();
    pods.on_change({
        let (queue, expectations, sets, kind) =
            (queue.clone(), expectations.clone(), sets.clone(), flavor.kind.clone());
        move |change| pod_changed(change, &kind, &queue, &expectations, &*sets)
    });
    let objects = context.objects(flavor.controller);
    let recorder = context.recorder(flavor.controller);
    let control = PodControl { objects: objects.clone(), recorder, kind: flavor.kind.clone() };
    let controller = ReplicaSets { flavor, objects, control, expectations, sets: sets.clone(), pods: pods.clone() };
    Running::new(controller, queue, 4, [synced, pods.until_synced()], move || {
        sets.all().iter().map(|set| set.meta.key()).collect()
    })
}

fn owner_key(kind: &Kind, pod: &Pod) -> Option<ObjectKey> {
    let owner = pod.meta.controller().filter(|owner| owner.kind == kind.kind)?;
    Some(ObjectKey { namespace: pod.meta.namespace.clone(), name: owner.name.as_str().into() })
}

fn pod_changed(
    change: Change<'_, Pod>,
    kind: &Kind,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Expectations,
    sets: &dyn Sets,
) {
    match change {
        Change::Added(pod) => {
            if let Some(owner) = owner_key(kind, pod) {
                expectations.created(&owner, 1);
            }
        }
        Change::Updated { new, .. } if !new.meta.is_deleting() => {}
        Change::Updated { new: pod, .. } | Change::Deleted(pod) => {
            if let Some(owner) = owner_key(kind, pod) {
                expectations.deleted(&owner, &pod.meta.uid);
            }
        }
    }
    for owner in change.old().into_iter().chain(change.new()).filter_map(|pod| owner_key(kind, pod)) {
        queue.add(owner);
    }
    // An orphan, or one that was released: any set that selects it may want it.
    if let Some(pod) = change.new()
        && pod.meta.controller().is_none()
    {
        for set in sets.in_namespace(&pod.meta.namespace) {
            if set.spec.selector.matches(&pod.meta.labels) {
                queue.add(set.meta.key());
            }
        }
    }
}

struct ReplicaSets {
    flavor: Flavor,
    objects: Objects,
    control: PodControl,
    expectations: Arc<Expectations>,
    sets: Arc<dyn Sets>,
    pods: Arc<Store<Pod>>,
}

#[async_trait]
impl Controller for ReplicaSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        self.flavor.controller
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let settled = self.expectations.satisfied(key);
        let selector = (!set.spec.selector.is_empty()).then_some(&set.spec.selector);
        let pods = claim_all(&self.objects, &self.flavor.kind, &set.meta, selector, &self.pods, Pod::is_active).await?;
        let now = Timestamp::now();
        let mut failed = None;
        if settled && !set.meta.is_deleting() {
            failed = self.scale(key, &set, &pods).await.err();
        }
        let failure = failed.as_ref().map(|failed| &failed.0);
        let mut desired = status(&set, &pods, failure, now);
        if !self.flavor.counts_terminating {
            desired.terminating = None;
        }
        if let Some(next) = desired.changes(&set) {
            write_status(&self.objects, &self.flavor.kind, &set.meta, next).await?;
        }
        if let Some((_, error)) = failed {
            // It ends with the namespace.
            return if is_namespace_terminating(&error) { Ok(Action::Done) } else { Err(error.into()) };
        }
        Ok(plan::next_look(&set, &pods, now).map_or(Action::Done, Action::After))
    }
}

async fn write_status(objects: &Objects, kind: &Kind, set: &Meta, next: serde_json::Value) -> anyhow::Result<()> {
    objects
        .modify(kind, &set.namespace, &set.name, "status", |live| {
            if live["metadata"]["uid"].as_str() != Some(&*set.uid) || live["status"] == next {
                return false;
            }
            live["status"] = next.clone();
            true
        })
        .await?;
    Ok(())
}

impl ReplicaSets {
    /// Make or delete pods; the error comes with what the status says of it.
    async fn scale(&self, key: &ObjectKey, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), (Failure, kube::Error)> {
        match plan::plan(set, pods, &self.related(set), Timestamp::now()) {
            plan::Change::None => Ok(()),
            plan::Change::Create(count) => {
                self.create(key, set, count).await.map_err(|error| (Failure::create(message(&error)), error))
            }
            plan::Change::Delete(victims) => {
                self.expectations.expect(key, 0, victims.iter().map(|pod| pod.meta.uid.clone()));
                let deletions = victims.iter().map(|pod| async {
                    let result = self.control.delete(&set.meta, &pod.meta).await;
                    if result.is_err() {
                        self.expectations.deleted(key, &pod.meta.uid);
                    }
                    result
                });
                match join_all(deletions).await.into_iter().find_map(Result::err) {
                    None => Ok(()),
                    Some(error) => Err((Failure::delete(message(&error)), error)),
                }
            }
        }
    }

    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        self.expectations.expect(key, count, []);
        let pod = pod_from_template(&self.flavor.kind, &set.meta, &set.spec.template);
        let pods = (0..count).map(|_| pod.clone());
        self.control.create_slowly(&set.meta, pods).await.map_err(|(error, missing)| {
            // What was not tried will not be seen either.
            self.expectations.created(key, missing);
            error
        })
    }

    /// The active pods of all ReplicaSets that the same owner controls: those of an old and a new
    /// version count together when it comes to which node is crowded.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let sets = match set.meta.controller() {
            Some(owner) => self.sets.controlled_by(&owner.uid),
            None => return self.pods.controlled_by(&set.meta.uid),
        };
        sets.iter().flat_map(|set| self.pods.controlled_by(&set.meta.uid)).collect()
    }
}
