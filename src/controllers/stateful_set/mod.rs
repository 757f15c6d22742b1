//! StatefulSet: pods with a name, a place and volumes of their own, made and updated in order.
//!
//! `plan` decides, this file applies; `identity` and `claims` say what a place is. Versions are
//! kept by [`history`](super::history). Source: `pkg/controller/statefulset`.

mod claims;
mod identity;
mod plan;
#[cfg(test)]
mod tests;

use super::context::{Context, Running};
use super::history::{self, History, NewRevision};
use super::ownership::{Claims, claim_with, follow};
use super::pod_control::message;
use super::seen::write_status;
use super::template_hash::template_hash;
use crate::client::{DeleteOptions, Objects, Patch, is_already_exists, kinds};
use crate::runtime::views::{ControllerRevision, PersistentVolumeClaim, Pod, StatefulSet, StatefulSetStatus};
use crate::runtime::{
    Action, Change, Controller, EventType, Expectations, Meta, ObjectKey, Projection, Recorder, Store, Subject,
    WorkQueue,
};
use anyhow::anyhow;
use async_trait::async_trait;
use claims::Need;
use futures::future::join_all;
use identity::ordinal;
use jiff::Timestamp;
use plan::{Plan, Revisions, Step};
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "statefulset-controller";

/// At most so many steps at a time.
const BURST: usize = 500;

/// Where its revisions keep their hash; its pods name the revision itself.
const REVISION_LABEL: &str = "controller.kubernetes.io/hash";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let expectations = Arc::new(Expectations::default());
    let sets = context.informers.of::<StatefulSet>();
    let pods = context.informers.of::<Pod>();
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let revisions = context.informers.of::<ControllerRevision>();
    sets.feed(&queue);
    follow(&pods, &sets, &queue, &expectations);
    claims.on_change({
        let (queue, sets) = (queue.clone(), sets.clone());
        move |change| {
            // A pod may wait for the old claim's end.
            if let Change::Deleted(claim) = change {
                let meta = &claim.meta;
                sets.in_namespace(&meta.namespace)
                    .iter()
                    .filter(|set| claims::is_of(set, &meta.name))
                    .for_each(|set| queue.add(set.key()));
            }
        }
    });
    let objects = context.objects(NAME);
    let controller = StatefulSets {
        recorder: context.recorder(NAME),
        history: History {
            objects: objects.clone(),
            revisions: revisions.clone(),
            kind: kinds::STATEFUL_SETS,
            label: REVISION_LABEL,
        },
        objects,
        expectations,
        sets: sets.clone(),
        pods: pods.clone(),
        claims: claims.clone(),
    };
    Running::new(
        controller,
        queue,
        2,
        [sets.until_synced(), revisions.until_synced(), claims.until_synced(), pods.until_synced()],
        move || sets.keys(),
    )
}

struct StatefulSets {
    objects: Objects,
    recorder: Recorder,
    history: History,
    expectations: Arc<Expectations>,
    sets: Arc<Store<StatefulSet>>,
    pods: Arc<Store<Pod>>,
    claims: Arc<Store<PersistentVolumeClaim>>,
}

/// The versions between which an update goes, and all there are.
struct Versions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    all: Vec<Arc<ControllerRevision>>,
}

#[async_trait]
impl Controller for StatefulSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        // What was just done must show before more is done.
        if !self.expectations.satisfied(key) {
            return Ok(Action::Done);
        }
        self.sync(key, &set).await
    }
}

impl StatefulSets {
    async fn sync(&self, key: &ObjectKey, set: &StatefulSet) -> anyhow::Result<Action> {
        let Some(versions) = self.versions(set).await? else { return Ok(Action::Done) };
        let claims = Claims {
            owner_kind: &kinds::STATEFUL_SETS,
            selector: Some(&set.spec.selector),
            finalizer: None,
            is_member: &|pod| identity::is_member(&set.meta.name, pod),
        };
        let pods = claim_with(&self.objects, &claims, &set.meta, &self.pods, |_| true).await?;
        let now = Timestamp::now();
        let names = Revisions { current: &versions.current.meta.name, update: &versions.update.meta.name };
        let Plan { phases, status } = plan::plan(set, &pods, names, &*self.claims, now);
        let done = self.apply(key, set, &versions, &phases).await;
        self.write_status(set, &status).await?;
        self.clean_up(set, &versions, &pods).await?;
        done?;
        let next = pods.iter().filter_map(|pod| pod.available_in(set.spec.min_ready_seconds, now)).min();
        Ok(next.map_or(Action::Done, Action::After))
    }

    /// Find or make the revision of the current template. None: try again when the caches show what
    /// was written.
    async fn versions(&self, set: &StatefulSet) -> anyhow::Result<Option<Versions>> {
        let all = self.history.of(&set.meta, &set.spec.selector).await?;
        let data = history::data(&set.spec.template);
        let number = history::next_number(&all);
        let same = all.iter().rev().find(|revision| *revision.data == data).cloned();
        let update = match same {
            Some(same) => {
                if all.last().is_some_and(|last| *last.data != data) {
                    self.history.renumber(&same, number).await?;
                }
                same
            }
            None => {
                let collisions = Some(set.status.collision_count.unwrap_or_default());
                let new = NewRevision {
                    hash: template_hash(&data, collisions),
                    labels: serde_json::from_value(set.spec.template["metadata"]["labels"].clone())?,
                    annotations: set.meta.annotations.clone(),
                    data,
                    number,
                };
                match self.history.create(&set.meta, new).await? {
                    Some(made) => made,
                    None => {
                        // Another revision has the name: the next try takes another hash.
                        let collisions = collisions.map(|count| count + 1);
                        let status = StatefulSetStatus { collision_count: collisions, ..set.status.clone() };
                        self.write_status(set, &status).await?;
                        return Ok(None);
                    }
                }
            }
        };
        let current = all.iter().find(|revision| *revision.meta.name == *set.status.current_revision);
        Ok(Some(Versions { current: current.unwrap_or(&update).clone(), update, all }))
    }

    /// Each phase in batches: of one where the pods are in order; else they double as long as all of one succeed.
    async fn apply(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        versions: &Versions,
        phases: &[Vec<Step>],
    ) -> anyhow::Result<()> {
        let steps = || phases.iter().flatten();
        let created = steps().filter(|step| matches!(step, Step::Create { .. })).count();
        let deleted = steps().filter_map(|step| match step {
            Step::Delete(pod) => Some(pod.meta.uid.clone()),
            _ => None,
        });
        self.expectations.expect(key, created, deleted);
        let mut result = Ok(());
        for phase in phases {
            let (mut batch, mut left) = (1, phase.as_slice());
            while result.is_ok() && !left.is_empty() {
                let (steps, later) = left.split_at(batch.min(left.len()));
                let done = join_all(steps.iter().map(|step| async {
                    self.step(set, versions, step).await.inspect_err(|_| self.unexpect(key, step))
                }));
                result = done.await.into_iter().collect();
                left = later;
                if !plan::is_ordered(set) {
                    batch = (batch * 2).min(BURST);
                }
            }
            // What was not tried will not be seen either.
            left.iter().for_each(|step| self.unexpect(key, step));
        }
        result
    }

    fn unexpect(&self, key: &ObjectKey, step: &Step) {
        match step {
            Step::Create { .. } => self.expectations.created(key, 1),
            Step::Delete(pod) => self.expectations.deleted(key, &pod.meta.uid),
            Step::Claims(_) | Step::Mend(_) => {}
        }
    }

    async fn step(&self, set: &StatefulSet, versions: &Versions, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Create { ordinal, updated } => {
                let revision = if *updated { &versions.update } else { &versions.current };
                self.create(set, revision, *ordinal).await
            }
            Step::Claims(pod) => {
                let ordinal = ordinal(&pod.meta.name).unwrap_or_default();
                let stays = identity::in_range(set, ordinal);
                if stays {
                    self.make_claims(set, &pod.meta.name, ordinal).await?;
                }
                let owned = self.own_claims(set, ordinal, Some(&pod.meta)).await;
                if let Err(error) = owned.as_ref()
                    && stays
                {
                    self.tell(set, "Update", &pod.meta.name, Some(error.to_string()));
                }
                owned.map(drop)
            }
            Step::Mend(pod) => {
                let mended = self.mend(set, pod).await;
                if !matches!(mended, Ok(false)) {
                    self.tell(set, "Update", &pod.meta.name, mended.as_ref().err().map(ToString::to_string));
                }
                mended.map(drop)
            }
            Step::Delete(pod) => {
                let options = DeleteOptions::of(&pod.meta.uid);
                let deleted =
                    self.objects.delete_as_seen(&kinds::PODS, &pod.meta.namespace, &pod.meta.name, &options).await;
                if !matches!(deleted, Ok(true)) {
                    self.expectations.deleted(&set.key(), &pod.meta.uid);
                }
                if !matches!(deleted, Ok(false)) {
                    self.tell(set, "Delete", &pod.meta.name, deleted.as_ref().err().map(message));
                }
                Ok(deleted.map(drop)?)
            }
        }
    }

    async fn create(&self, set: &StatefulSet, revision: &ControllerRevision, ordinal: i32) -> anyhow::Result<()> {
        let name = identity::pod_name(set, ordinal);
        let made = self.make_claims(set, &name, ordinal).await;
        made.inspect_err(|error| self.tell(set, "Create", &name, Some(error.to_string())))?;
        let pod = identity::pod(set, &history::template(revision), &revision.meta.name, ordinal);
        let created = self.objects.create(&kinds::PODS, &set.meta.namespace, pod).await;
        if created.as_ref().is_err_and(is_already_exists) {
            // Somebody's, or ours and not yet in the cache: no event tells of it.
            return Ok(created.map(drop)?);
        }
        let owned = self.own_claims(set, ordinal, None).await;
        owned.inspect_err(|error| self.tell(set, "Update", &name, Some(error.to_string())))?;
        self.tell(set, "Create", &name, created.as_ref().err().map(message));
        Ok(created.map(drop)?)
    }

    /// False: the cache was behind, and nothing was wrong.
    async fn mend(&self, set: &StatefulSet, pod: &Pod) -> anyhow::Result<bool> {
        let name = &pod.meta.name;
        let ordinal = ordinal(name).unwrap_or_default();
        if !identity::has_claims(set, pod, ordinal) {
            self.make_claims(set, name, ordinal).await?;
        }
        let owned = self.own_claims(set, ordinal, Some(&pod.meta)).await?;
        let is_itself = identity::is_itself(set, pod);
        if !is_itself {
            let mut patch = identity::patch(set, ordinal);
            patch["metadata"]["uid"] = (*pod.meta.uid).into();
            let namespace = &pod.meta.namespace;
            let patched = self.objects.patch(&kinds::PODS, namespace, name, "", Patch::Strategic, &patch).await;
            patched.map_err(|error| saying(error, |why| why))?;
        }
        Ok(owned || !is_itself)
    }

    /// Make the claims that are missing. Each is tried; the error tells of all that are not there, or not yet seen:
    /// one that exists may be on its way out.
    async fn make_claims(&self, set: &StatefulSet, pod: &str, ordinal: i32) -> anyhow::Result<()> {
        let (mut texts, mut first) = (Vec::new(), None);
        for (template, need) in claims::needs(set, ordinal, None, &*self.claims) {
            let name = claims::claim_name(set, template, ordinal);
            match need {
                Need::Gone => texts.push(format!("pvc {name} is being deleted")),
                Need::Made => {
                    if let Err(error) = self.make_claim(set, pod, &name, claims::claim(set, template, ordinal)).await {
                        texts.push(format!("failed to create PVC {name}: {}", message(&error)));
                        first = first.or(Some(error));
                    }
                }
                Need::Owners { .. } => {}
            }
        }
        let text = match texts.as_slice() {
            [] => return Ok(()),
            [text] => text.clone(),
            texts => format!("[{}]", texts.join(", ")),
        };
        Err(match first {
            None => anyhow!(text),
            Some(error) => saying(error, |_| text),
        })
    }

    /// Give the claims of a pod the owners that the policy asks for. Whether any had others.
    async fn own_claims(&self, set: &StatefulSet, ordinal: i32, pod: Option<&Meta>) -> anyhow::Result<bool> {
        let namespace = &set.meta.namespace;
        let mut changed = false;
        for template in &set.spec.volume_claim_templates {
            let name = claims::claim_name(set, template, ordinal);
            let Some(claim) = self.claims.find(namespace, &name) else { continue };
            if claims::is_contested(set, ordinal, pod, &claim.meta) {
                let text = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                self.event(set, EventType::Warning, "ConflictingController", text);
            }
            if claims::owners(set, ordinal, pod, &claim.meta).is_none() {
                continue;
            }
            let mut written = false;
            let change = |live: &mut Value| {
                written = claims::give_owners(set, ordinal, pod, live);
                written
            };
            let kind = &kinds::PERSISTENT_VOLUME_CLAIMS;
            let result = self.objects.modify(kind, namespace, &name, "", change).await;
            result.map_err(|error| {
                saying(error, |why| format!("could not update claim {name} for delete policy ownerRefs: {why}"))
            })?;
            changed |= written;
        }
        Ok(changed)
    }

    async fn make_claim(&self, set: &StatefulSet, pod: &str, name: &str, claim: Value) -> Result<(), kube::Error> {
        let owner = &set.meta.name;
        match self.objects.create(&kinds::PERSISTENT_VOLUME_CLAIMS, &set.meta.namespace, claim).await {
            Ok(_) => {
                let text = format!("Create Claim {name} Pod {pod} in StatefulSet {owner} success");
                self.event(set, EventType::Normal, "SuccessfulCreate", text);
                Ok(())
            }
            Err(error) if is_already_exists(&error) => Err(error),
            Err(error) => {
                let told = message(&error);
                let text = format!("Create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: {told}");
                self.event(set, EventType::Warning, "FailedCreate", text);
                Err(error)
            }
        }
    }

    /// The event of what was done to a pod, or of why it was not.
    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, error: Option<String>) {
        let done = format!("{verb} Pod {pod} in StatefulSet {}", set.meta.name);
        match error {
            None => self.event(set, EventType::Normal, &format!("Successful{verb}"), format!("{done} successful")),
            Some(error) => {
                self.event(set, EventType::Warning, &format!("Failed{verb}"), format!("{done} failed error: {error}"));
            }
        }
    }

    fn event(&self, set: &StatefulSet, kind: EventType, reason: &str, text: String) {
        self.recorder.event(&Subject::of(&kinds::STATEFUL_SETS, &set.meta), kind, reason, text);
    }

    /// Delete revisions beyond the limit that no pod runs.
    async fn clean_up(&self, set: &StatefulSet, versions: &Versions, pods: &[Arc<Pod>]) -> anyhow::Result<()> {
        let Some(limit) = set.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()) else {
            return Ok(());
        };
        let is_live = |revision: &ControllerRevision| {
            let name = &revision.meta.name;
            *name == versions.current.meta.name
                || *name == versions.update.meta.name
                || pods.iter().any(|pod| pod.meta.label(history::HASH_LABEL) == Some(&**name))
        };
        let old = versions.all.iter().filter(|revision| !is_live(revision)).cloned().collect();
        for revision in history::surplus(old, limit, |_| false) {
            self.history.delete(&revision).await?;
        }
        Ok(())
    }

    async fn write_status(&self, set: &StatefulSet, next: &StatefulSetStatus) -> anyhow::Result<()> {
        if *next == set.status {
            return Ok(());
        }
        write_status(&self.objects, &kinds::STATEFUL_SETS, &set.meta, &status_of(next)).await
    }
}

/// An error whose text is what an event quotes.
fn saying(error: kube::Error, text: impl FnOnce(String) -> String) -> anyhow::Error {
    let text = text(message(&error));
    anyhow::Error::from(error).context(text)
}

/// As it is on the wire.
fn status_of(status: &StatefulSetStatus) -> Value {
    let mut object = json!({ "replicas": status.replicas, "availableReplicas": status.available_replicas });
    let optional = [
        ("observedGeneration", status.observed_generation),
        ("readyReplicas", status.ready_replicas.into()),
        ("currentReplicas", status.current_replicas.into()),
        ("updatedReplicas", status.updated_replicas.into()),
    ];
    for (field, value) in optional.into_iter().filter(|(_, value)| *value != 0) {
        object[field] = value.into();
    }
    for (field, value) in [("currentRevision", &status.current_revision), ("updateRevision", &status.update_revision)] {
        if !value.is_empty() {
            object[field] = (**value).into();
        }
    }
    if let Some(count) = status.collision_count {
        object["collisionCount"] = count.into();
    }
    object
}
