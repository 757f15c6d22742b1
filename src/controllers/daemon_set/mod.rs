//! DaemonSet: a pod on every node that fits, rolled from version to version.
//!
//! `placement` says which nodes, `plan` decides, this file applies; versions are kept by
//! [`history`](super::history). Source: `pkg/controller/daemon`.

mod failures;
mod placement;
mod plan;
#[cfg(test)]
mod tests;

use super::context::{Context, Running};
use super::history::{self, History, NewRevision, hash_of};
use super::ownership::{claim_all, follow, owners};
use super::pod_control::PodControl;
use super::seen::modify;
use super::template_hash::template_hash;
use crate::client::{Patch, kinds};
use crate::runtime::views::{ControllerRevision, DaemonSet, DaemonSetStatus, Node, Pod};
use crate::runtime::{
    Action, Change, Controller, EventType, Expectations, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue,
};
use async_trait::async_trait;
use failures::{Failures, Place};
use jiff::Timestamp;
use placement::{placement, pod, pod_on};
use plan::{ByNode, Changes, by_node, manage, roll};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Its service account; its events name it otherwise.
const ACCOUNT: &str = "daemon-set-controller";
const NAME: &str = "daemonset-controller";

/// At most so many creations and deletions at a time.
const BURST: usize = 250;

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let expectations = Arc::new(Expectations::default());
    let sets = context.informers.of::<DaemonSet>();
    let pods = context.informers.of::<Pod>();
    let nodes = context.informers.of::<Node>();
    let revisions = context.informers.of::<ControllerRevision>();
    sets.feed(&queue);
    follow(&pods, &sets, &queue, &expectations);
    revisions.on_change({
        let (queue, sets) = (queue.clone(), sets.clone());
        move |change| {
            // One that is made with its owner is the owner's work, or somebody's who has a reason: no news.
            if matches!(change, Change::Added(revision) if revision.meta.controller().is_some()) {
                return;
            }
            owners(change, &sets).into_iter().for_each(|owner| queue.add(owner));
        }
    });
    nodes.on_change({
        let (queue, sets) = (queue.clone(), sets.clone());
        move |change| node_changed(change, &queue, &sets)
    });
    let objects = context.objects(ACCOUNT);
    let recorder = Recorder::new(objects.clone(), NAME, "");
    let controller = DaemonSets {
        control: PodControl { objects: objects.clone(), recorder, kind: kinds::DAEMON_SETS, expectations },
        history: History {
            objects,
            revisions: revisions.clone(),
            kind: kinds::DAEMON_SETS,
            label: history::HASH_LABEL,
        },
        failures: Failures::default(),
        sets: sets.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
    };
    Running::new(
        controller,
        queue,
        2,
        [sets.until_synced(), revisions.until_synced(), pods.until_synced(), nodes.until_synced()],
        move || sets.keys(),
    )
}

/// The sets to which the node is now something else than before.
fn node_changed(change: Change<'_, Node>, queue: &WorkQueue<ObjectKey>, sets: &Store<DaemonSet>) {
    if let Change::Updated { old, new } = change
        && old.meta.labels == new.meta.labels
        && old.taints == new.taints
    {
        return;
    }
    for set in sets.all() {
        let place = |node: Option<&Arc<Node>>| node.map(|node| placement(&set, node));
        if place(change.old()) != place(change.new()) {
            queue.add(set.key());
        }
    }
}

struct DaemonSets {
    control: PodControl,
    history: History,
    failures: Failures,
    sets: Arc<Store<DaemonSet>>,
    pods: Arc<Store<Pod>>,
    nodes: Arc<Store<Node>>,
}

/// The version that pods are made of now, and those before.
struct Versions {
    hash: String,
    old: Vec<Arc<ControllerRevision>>,
}

#[async_trait]
impl Controller for DaemonSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(set) = self.sets.get(key) else {
            self.control.expectations.forget(key);
            return Ok(Action::Done);
        };
        if set.spec.selector.is_empty() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            let subject = Subject::of(&kinds::DAEMON_SETS, &set.meta);
            self.control.recorder.event(&subject, EventType::Warning, "SelectingAll", text);
            return Ok(Action::Done);
        }
        // Its revisions may be gone before its pods: nothing can be said of it any more.
        if set.meta.is_deleting() {
            return Ok(Action::Done);
        }
        let Some(versions) = self.versions(&set).await? else { return Ok(Action::Done) };
        let mut nodes = self.nodes.all();
        nodes.sort_by(|one, two| one.meta.name.cmp(&two.meta.name));
        let hash = versions.hash.clone();
        let settled = self.control.expectations.satisfied(key);
        let updated = if settled { self.update(key, &set, &nodes, versions).await } else { Ok(Action::Done) };
        let pods = by_node(self.claimed(&set).await?);
        let status = plan::status(&set, &nodes, &pods, &hash, Timestamp::now(), settled);
        self.write_status(&set, &status).await?;
        let min_ready = u64::try_from(set.spec.min_ready_seconds).unwrap_or_default();
        let again = if min_ready > 0 && status.number_ready != status.number_available {
            Action::After(Duration::from_secs(min_ready))
        } else {
            Action::Done
        };
        Ok(updated?.sooner(again))
    }
}

impl DaemonSets {
    async fn claimed(&self, set: &DaemonSet) -> anyhow::Result<Vec<Arc<Pod>>> {
        claim_all(&self.control.objects, &kinds::DAEMON_SETS, &set.meta, Some(&set.spec.selector), &self.pods, |_| true)
            .await
    }

    /// Find or make the revision of the current template. None: try again when the caches show what
    /// was written.
    async fn versions(&self, set: &DaemonSet) -> anyhow::Result<Option<Versions>> {
        let all = self.history.of(&set.meta, &set.spec.selector).await?;
        if let Some(bare) = all.iter().find(|revision| hash_of(revision).is_empty()) {
            self.history.label(bare, &bare.meta.name).await?;
            return Ok(None);
        }
        let data = history::data(&set.spec.template);
        let (mut same, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|revision| *revision.data == data);
        let number = history::next_number(&old);
        let Some(current) = same.pop() else {
            let new = NewRevision {
                hash: template_hash(&set.spec.template, set.status.collision_count),
                labels: serde_json::from_value(set.spec.template["metadata"]["labels"].clone())?,
                annotations: set.meta.annotations.clone(),
                data,
                number,
            };
            return match self.history.create(&set.meta, new).await? {
                Some(made) => Ok(Some(Versions { hash: hash_of(&made).to_owned(), old })),
                None => self.collided(set).await.map(|()| None),
            };
        };
        let hash = hash_of(&current).to_owned();
        if !same.is_empty() {
            self.merge(set, &hash, &same).await?;
        }
        if current.revision < number {
            self.history.renumber(&current, number).await?;
        }
        Ok(Some(Versions { hash, old }))
    }

    /// Several revisions of the same template: one stays, and pods of the others become its.
    async fn merge(&self, set: &DaemonSet, hash: &str, others: &[Arc<ControllerRevision>]) -> anyhow::Result<()> {
        for pod in self.claimed(set).await? {
            if pod.meta.label(history::HASH_LABEL) == Some(hash) {
                continue;
            }
            let patch = json!({ "metadata": { "uid": &*pod.meta.uid, "labels": { history::HASH_LABEL: hash } } });
            self.control
                .objects
                .patch(&kinds::PODS, &pod.meta.namespace, &pod.meta.name, "", Patch::Merge, &patch)
                .await?;
        }
        for other in others {
            self.history.delete(other).await?;
        }
        Ok(())
    }

    /// The hash of the template is another template's: count on, unless that has happened meanwhile.
    async fn collided(&self, set: &DaemonSet) -> anyhow::Result<()> {
        let count = set.status.collision_count.unwrap_or_default();
        self.modify_status(set, |live| {
            if live["status"]["collisionCount"].as_i64().unwrap_or_default() == i64::from(count) {
                live["status"]["collisionCount"] = (count + 1).into();
            }
        })
        .await
    }

    async fn update(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        nodes: &[Arc<Node>],
        versions: Versions,
    ) -> anyhow::Result<Action> {
        let Versions { hash, old } = versions;
        let now = Timestamp::now();
        let pods = by_node(self.claimed(set).await?);
        let changes = manage(set, nodes, &pods, &hash, now, |node| {
            let generation = set.status.observed_generation;
            let place = Place { set: set.meta.uid.clone(), generation, node: node.into() };
            self.failures.may_replace(place, Instant::now())
        });
        let again = changes.again;
        self.tell_of_ended(set, &changes);
        self.apply(key, set, &hash, changes).await?;
        // What was just done must show before more is done.
        if &*set.spec.update_strategy.kind == "RollingUpdate" && self.control.expectations.satisfied(key) {
            let pods = by_node(self.claimed(set).await?);
            self.apply(key, set, &hash, roll(set, nodes, &pods, &hash, now)).await?;
        }
        self.clean_up(set, old, &pods).await?;
        Ok(again.map_or(Action::Done, Action::After))
    }

    fn tell_of_ended(&self, set: &DaemonSet, changes: &Changes) {
        let subject = Subject::of(&kinds::DAEMON_SETS, &set.meta);
        for (pod, node) in &changes.ended {
            let (kind, reason, what, will) = match &*pod.phase {
                "Failed" => (EventType::Warning, "FailedDaemonPod", "failed", "kill"),
                _ => (EventType::Normal, "SucceededDaemonPod", "succeeded", "delete"),
            };
            let text = format!("Found {what} daemon pod {} on node {node}, will try to {will} it", pod.meta.key());
            self.control.recorder.event(&subject, kind, reason, text);
        }
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        hash: &str,
        mut changes: Changes,
    ) -> Result<(), kube::Error> {
        changes.create.truncate(BURST);
        changes.delete.truncate(BURST);
        let deleted = changes.delete.iter().map(|pod| pod.meta.uid.clone());
        self.control.expectations.expect(key, changes.create.len(), deleted);
        let template = if changes.create.is_empty() { Value::Null } else { pod(set, hash) };
        let pods = changes.create.iter().map(|node| pod_on(template.clone(), node));
        let created = self.control.create_slowly(&set.meta, pods).await.map_err(|(error, _)| error);
        let deleted = self.control.delete_all(&set.meta, &changes.delete).await;
        created.and(deleted.map_or(Ok(()), Err))
    }

    /// Delete revisions beyond the limit that no pod runs.
    async fn clean_up(&self, set: &DaemonSet, old: Vec<Arc<ControllerRevision>>, pods: &ByNode) -> anyhow::Result<()> {
        let Some(limit) = set.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()) else {
            return Ok(());
        };
        let is_live = |revision: &ControllerRevision| {
            let hash = Some(hash_of(revision));
            pods.values().flatten().any(|pod| pod.meta.label(history::HASH_LABEL) == hash)
        };
        for revision in history::surplus(old, limit, is_live) {
            self.history.delete(&revision).await?;
        }
        Ok(())
    }

    async fn write_status(&self, set: &DaemonSet, next: &DaemonSetStatus) -> anyhow::Result<()> {
        if *next == set.status {
            return Ok(());
        }
        self.modify_status(set, |live| {
            let status = &mut live["status"];
            for (field, value) in [
                ("desiredNumberScheduled", next.desired_number_scheduled),
                ("currentNumberScheduled", next.current_number_scheduled),
                ("numberMisscheduled", next.number_misscheduled),
                ("numberReady", next.number_ready),
            ] {
                status[field] = value.into();
            }
            let optional = [
                ("observedGeneration", next.observed_generation),
                ("updatedNumberScheduled", next.updated_number_scheduled.into()),
                ("numberAvailable", next.number_available.into()),
                ("numberUnavailable", next.number_unavailable.into()),
            ];
            for (field, value) in optional {
                status[field] = value.into();
                if value == 0
                    && let Some(status) = status.as_object_mut()
                {
                    status.remove(field);
                }
            }
        })
        .await
    }

    async fn modify_status(&self, set: &DaemonSet, change: impl Fn(&mut Value)) -> anyhow::Result<()> {
        let change = |live: &mut Value| {
            let before = live["status"].clone();
            change(live);
            live["status"] != before
        };
        modify(&self.control.objects, &kinds::DAEMON_SETS, &set.meta, "status", change).await.map(drop)
    }
}
