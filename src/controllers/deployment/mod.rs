//! Deployment: roll pods from one template to the next, through ReplicaSets.
//!
//! `plan` decides, this file applies. Source: `pkg/controller/deployment`.

mod plan;
mod scaling;
mod status;
#[cfg(test)]
mod tests;
mod working;

use super::context::{Context, Running};
use super::ownership::{claim_all, controller_reference, owner_key, owners};
use super::pod_control::message;
use super::seen::{modify, write_status};
use super::template_hash;
use crate::client::{self, DeleteOptions, Objects, is_already_exists, is_namespace_terminating, is_not_found, kinds};
use crate::runtime::views::{Deployment, DeploymentStatus, Pod, ReplicaSet};
use crate::runtime::{
    Action, Condition, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue,
};
use async_trait::async_trait;
use jiff::Timestamp;
use plan::{Change, plan};
use serde_json::{Value, json};
use std::sync::Arc;
use working::{REVISION, Working};

const NAME: &str = "deployment-controller";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let deployments = context.informers.of::<Deployment>();
    let sets = context.informers.of::<ReplicaSet>();
    let pods = context.informers.of::<Pod>();
    deployments.feed(&queue);
    sets.on_change({
        let (queue, deployments) = (queue.clone(), deployments.clone());
        move |change| owners(change, &deployments).into_iter().for_each(|owner| queue.add(owner))
    });
    // Recreate waits until the last old pod is gone.
    pods.on_change({
        let (queue, deployments, sets) = (queue.clone(), deployments.clone(), sets.clone());
        move |change| {
            let pod = &change.object().meta;
            let gone = change.new().is_none_or(|pod| pod.is_terminal());
            let set = owner_key(&kinds::REPLICA_SETS, pod).filter(|_| gone).and_then(|key| sets.get(&key));
            let Some(key) = set.and_then(|set| owner_key(&kinds::DEPLOYMENTS, &set.meta)) else { return };
            if deployments.get(&key).is_some_and(|deployment| &*deployment.spec.strategy.kind == "Recreate") {
                queue.add(key);
            }
        }
    });
    let controller = Deployments {
        objects: context.objects(NAME),
        recorder: context.recorder(NAME),
        deployments: deployments.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
    };
    Running::new(
        controller,
        queue,
        4,
        [deployments.until_synced(), sets.until_synced(), pods.until_synced()],
        move || deployments.keys(),
    )
}

struct Deployments {
    objects: Objects,
    recorder: Recorder,
    deployments: Arc<Store<Deployment>>,
    sets: Arc<Store<ReplicaSet>>,
    pods: Arc<Store<Pod>>,
}

#[async_trait]
impl Controller for Deployments {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Action::Done) };
        if deployment.spec.selector.is_empty() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&self.subject(&deployment), EventType::Warning, "SelectingAll", text);
            return Ok(Action::Done);
        }
        let sets = claim_all(
            &self.objects,
            &kinds::DEPLOYMENTS,
            &deployment.meta,
            Some(&deployment.spec.selector),
            &self.sets,
            |_| true,
        )
        .await?;
        let now = Timestamp::now();
        let plan = plan(&deployment, &sets, self.old_pods(&deployment, &sets), now);
        for change in plan.changes {
            if !self.apply(&deployment, change).await? {
                // The world is another than planned on: plan again when the caches show it.
                return Ok(Action::Done);
            }
        }
        if let Some(status) = status_changes(&deployment, &plan.status) {
            write_status(&self.objects, &kinds::DEPLOYMENTS, &deployment.meta, &status).await?;
        }
        Ok(status::next_look(&deployment, &plan.status, now).map_or(Action::Done, Action::After))
    }
}

impl Deployments {
    fn subject(&self, deployment: &Deployment) -> Subject {
        Subject::of(&kinds::DEPLOYMENTS, &deployment.meta)
    }

    /// Whether pods of another template than the current are still there, for Recreate.
    fn old_pods(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        &*deployment.spec.strategy.kind == "Recreate"
            && sets
                .iter()
                .filter(|set| !template_hash::same_template(&set.spec.template, &deployment.spec.template))
                .flat_map(|set| self.pods.controlled_by(&set.meta.uid))
                .any(|pod| !pod.is_terminal())
    }

    /// False: give up this round.
    async fn apply(&self, deployment: &Deployment, change: Change) -> anyhow::Result<bool> {
        match change {
            Change::Create(set) => self.create(deployment, &set).await,
            Change::Update(set) => {
                self.update(deployment, &set).await?;
                Ok(true)
            }
            Change::Delete(set) => {
                let options = DeleteOptions::of(&set.meta.uid);
                match self.objects.delete(&kinds::REPLICA_SETS, &set.meta.namespace, &set.meta.name, &options).await {
                    Ok(_) => Ok(true),
                    Err(error) if is_not_found(&error) => Ok(true),
                    Err(error) => Err(error.into()),
                }
            }
            Change::Revision(revision) => {
                let change = |live: &mut Value| {
                    let live = &mut live["metadata"]["annotations"][REVISION];
                    std::mem::replace(live, revision.as_str().into()) != revision.as_str()
                };
                modify(&self.objects, &kinds::DEPLOYMENTS, &deployment.meta, "status", change).await?;
                Ok(true)
            }
        }
    }

    async fn create(&self, deployment: &Deployment, working: &Working) -> anyhow::Result<bool> {
        let meta = &deployment.meta;
        let set = &working.set;
        let object = json!({
            "metadata": {
                "name": working.name(),
                "namespace": &*meta.namespace,
                "labels": set.meta.labels,
                "annotations": working.annotations,
                "ownerReferences": [controller_reference(&kinds::DEPLOYMENTS, meta)],
            },
            "spec": {
                "replicas": working.replicas,
                "minReadySeconds": working.min_ready_seconds,
                "selector": selector(&set.spec.selector),
                "template": &*set.spec.template,
            },
        });
        match self.objects.create(&kinds::REPLICA_SETS, &meta.namespace, object).await {
            Ok(_) => {
                if working.replicas > 0 {
                    let text = format!("Scaled up replica set {} from 0 to {}", working.name(), working.replicas);
                    self.recorder.event(&self.subject(deployment), EventType::Normal, "ScalingReplicaSet", text);
                }
                Ok(true)
            }
            Err(error) if is_already_exists(&error) => {
                self.collided(deployment, working).await?;
                Ok(false)
            }
            Err(error) if is_namespace_terminating(&error) => Ok(false),
            Err(error) => {
                let text = format!("Failed to create new replica set \"{}\": {}", working.name(), message(&error));
                self.recorder.event(
                    &self.subject(deployment),
                    EventType::Warning,
                    "ReplicaSetCreateError",
                    text.as_str(),
                );
                let mut status = deployment.status.clone();
                let next = status::conditions::progressing("False", "ReplicaSetCreateError", text, Timestamp::now());
                status::conditions::set(&mut status.conditions, next);
                if let Some(status) = status_changes(deployment, &status) {
                    write_status(&self.objects, &kinds::DEPLOYMENTS, &deployment.meta, &status).await?;
                }
                Err(error.into())
            }
        }
    }

    /// The name is taken: by our own set that the cache does not show yet, or by another template
    /// with the same hash, which then counts as a collision.
    async fn collided(&self, deployment: &Deployment, working: &Working) -> anyhow::Result<()> {
        let meta = &deployment.meta;
        let Some(live) = self.objects.find(&kinds::REPLICA_SETS, &meta.namespace, working.name()).await? else {
            anyhow::bail!("replica set {}/{} came and went", meta.namespace, working.name());
        };
        let live = ReplicaSet::project(client::typed(&live)?);
        let ours = live.meta.is_controlled_by(&meta.uid);
        if ours && template_hash::same_template(&live.spec.template, &deployment.spec.template) {
            return Ok(());
        }
        let collisions = deployment.status.collision_count.unwrap_or_default() + 1;
        let status = DeploymentStatus { collision_count: Some(collisions), ..deployment.status.clone() };
        if let Some(status) = status_changes(deployment, &status) {
            write_status(&self.objects, &kinds::DEPLOYMENTS, &deployment.meta, &status).await?;
        }
        Ok(())
    }

    async fn update(&self, deployment: &Deployment, working: &Working) -> anyhow::Result<()> {
        let meta = &working.set.meta;
        let mut before = None;
        let written = self
            .objects
            .modify(&kinds::REPLICA_SETS, &meta.namespace, &meta.name, "", |live| {
                // The plan was made for this very state.
                if live["metadata"]["resourceVersion"].as_str() != Some(&*meta.resource_version) {
                    return false;
                }
                before = live["spec"]["replicas"].as_i64();
                live["metadata"]["annotations"] = json!(working.annotations);
                live["spec"]["replicas"] = working.replicas.into();
                if working.min_ready_seconds != working.set.spec.min_ready_seconds {
                    live["spec"]["minReadySeconds"] = working.min_ready_seconds.into();
                }
                true
            })
            .await?;
        if written.is_none() {
            return Ok(());
        }
        let Some(before) = before else {
            anyhow::bail!("replica set {} changed since it was read", working.set.key());
        };
        let size = i64::from(working.replicas);
        if before != size {
            let direction = if before < size { "up" } else { "down" };
            let text = format!("Scaled {direction} replica set {} from {before} to {size}", working.name());
            self.recorder.event(&self.subject(deployment), EventType::Normal, "ScalingReplicaSet", text);
        }
        Ok(())
    }
}

fn selector(selector: &crate::runtime::LabelSelector) -> Value {
    let mut value = json!({ "matchLabels": selector.match_labels });
    if !selector.match_expressions.is_empty() {
        value["matchExpressions"] = selector
            .match_expressions
            .iter()
            .map(|requirement| {
                let mut value = json!({ "key": requirement.key, "operator": requirement.operator });
                if !requirement.values.is_empty() {
                    value["values"] = json!(requirement.values);
                }
                value
            })
            .collect();
    }
    value
}

/// The status to write; None: it is there already.
fn status_changes(deployment: &Deployment, next: &DeploymentStatus) -> Option<Value> {
    if *next == deployment.status {
        return None;
    }
    let mut status = json!({ "observedGeneration": next.observed_generation });
    for (field, value) in [
        ("replicas", next.replicas),
        ("updatedReplicas", next.updated_replicas),
        ("readyReplicas", next.ready_replicas),
        ("availableReplicas", next.available_replicas),
        ("unavailableReplicas", next.unavailable_replicas),
    ] {
        if value != 0 {
            status[field] = value.into();
        }
    }
    if let Some(terminating) = next.terminating_replicas {
        status["terminatingReplicas"] = terminating.into();
    }
    if let Some(collisions) = next.collision_count {
        status["collisionCount"] = collisions.into();
    }
    status["conditions"] = next.conditions.iter().map(Condition::wire).collect();
    Some(status)
}
