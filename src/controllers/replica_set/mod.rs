//! ReplicaSet and ReplicationController: keep the asked number of pods that match.
//!
//! Source: `pkg/controller/replicaset`.

mod plan;
mod sets;

use super::context::{Context, Running};
use super::ownership::{claim_all, follow};
use super::pod_control::{PodControl, message, pod_from_template};
use super::seen::write_status;
use crate::runtime::views::{Pod, ReplicaSet, ReplicationController};
use crate::runtime::{Action, Controller, Expectations, ObjectKey, Store, WorkQueue};
use async_trait::async_trait;
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
    sets.feed(&queue);
    let pods = context.informers.of::<Pod>();
    let expectations = Arc::new(Expectations::default());
    follow(&pods, &sets, &queue, &expectations);
    let control = PodControl {
        objects: context.objects(flavor.controller),
        recorder: context.recorder(flavor.controller),
        kind: P::KIND,
        expectations,
    };
    let synced = [sets.until_synced(), pods.until_synced()];
    let controller = ReplicaSets { flavor, control, sets: sets.clone(), pods };
    Running::new(controller, queue, 4, synced, move || sets.keys())
}

struct ReplicaSets {
    flavor: Flavor,
    control: PodControl,
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
            self.control.expectations.forget(key);
            return Ok(Action::Done);
        };
        let settled = self.control.expectations.satisfied(key);
        let selector = (!set.spec.selector.is_empty()).then_some(&set.spec.selector);
        let pods =
            claim_all(&self.control.objects, &self.control.kind, &set.meta, selector, &self.pods, Pod::is_active)
                .await?;
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
            write_status(&self.control.objects, &self.control.kind, &set.meta, &next).await?;
        }
        if let Some((_, error)) = failed {
            return Err(error.into());
        }
        Ok(plan::next_look(&set, &pods, now).map_or(Action::Done, Action::After))
    }
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
                self.control.expectations.expect(key, 0, victims.iter().map(|pod| pod.meta.uid.clone()));
                match self.control.delete_all(&set.meta, &victims).await {
                    None => Ok(()),
                    Some(error) => Err((Failure::delete(message(&error)), error)),
                }
            }
        }
    }

    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        self.control.expectations.expect(key, count, []);
        let pod = pod_from_template(&self.control.kind, &set.meta, &set.spec.template);
        let pods = (0..count).map(|_| pod.clone());
        self.control.create_slowly(&set.meta, pods).await.map_err(|(error, _)| error)
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
