//! Disruption: what PodDisruptionBudgets allow, for the eviction subresource to read, and the end of
//! `DisruptionTarget` conditions that came to nothing. Source: `pkg/controller/disruption`.

mod plan;
mod scale;

use super::context::{Context, Running};
use super::pod_control::message;
use crate::api::time::seconds;
use crate::client::{Objects, Patch, is_conflict, is_not_found, kinds};
use crate::runtime::views::{Deployment, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController};
use crate::runtime::{
    Action, Change, Condition, Controller, EventType, Meta, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue,
};
use async_trait::async_trait;
use jiff::Timestamp;
use plan::{Disrupted, Expect};
use scale::{Owners, Scale};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const ACCOUNT: &str = "disruption-controller";
/// The source of its events.
const EVENT_SOURCE: &str = "controllermanager";

/// A pod that was to be disrupted and is not on its way out after so long was not.
const STALE: Duration = Duration::from_secs(2 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Budget(ObjectKey),
    /// With a condition to be ended.
    Pod(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(key) => write!(f, "{key}"),
            Self::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let budgets = context.informers.of::<PodDisruptionBudget>();
    let pods = context.informers.of::<Pod>();
    let sets = context.informers.of::<ReplicaSet>();
    let deployments = context.informers.of::<Deployment>();
    let controllers = context.informers.of::<ReplicationController>();
    let objects = context.objects(ACCOUNT);
    let recorder = Recorder::new(objects.clone(), EVENT_SOURCE, "");
    budgets.on_change({
        let queue = queue.clone();
        move |change| queue.add(Key::Budget(change.object().key()))
    });
    pods.on_change({
        let (queue, budgets, recorder) = (queue.clone(), budgets.clone(), recorder.clone());
        move |change| pod_changed(change, &queue, &budgets, &recorder)
    });
    let controller = Disruption {
        owners: Owners {
            objects: objects.clone(),
            sets: sets.clone(),
            deployments: deployments.clone(),
            controllers: controllers.clone(),
        },
        objects,
        recorder,
        budgets: budgets.clone(),
        pods: pods.clone(),
    };
    Running::new(
        controller,
        queue,
        1,
        [
            budgets.until_synced(),
            pods.until_synced(),
            sets.until_synced(),
            deployments.until_synced(),
            controllers.until_synced(),
        ],
        move || budgets.all().iter().map(|budget| Key::Budget(budget.key())).collect(),
    )
}

fn pod_changed(
    change: Change<'_, Pod>,
    queue: &WorkQueue<Key>,
    budgets: &Store<PodDisruptionBudget>,
    recorder: &Recorder,
) {
    let pod = change.object();
    let in_namespace = budgets.in_namespace(&pod.meta.namespace);
    for state in change.states() {
        for budget in in_namespace.iter().filter(|budget| budget.selects(&state.meta.labels)) {
            queue.add(Key::Budget(budget.key()));
        }
    }
    let Some(pod) = change.new() else { return };
    let mut selecting = in_namespace.iter().filter(|budget| budget.selects(&pod.meta.labels));
    if let (Some(first), Some(_)) = (selecting.next(), selecting.next()) {
        let (namespace, name) = (&*pod.meta.namespace, &*pod.meta.name);
        let chosen = &*first.meta.name;
        let text =
            format!("Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {chosen:?} arbitrarily.");
        let subject = Subject::of(&kinds::PODS, &pod.meta);
        recorder.event(&subject, EventType::Warning, "MultiplePodDisruptionBudgets", text);
    }
    if let Some(wait) = stale_in(pod, Timestamp::now()) {
        queue.add_after(Key::Pod(pod.key()), wait);
    }
}

/// When a pod's condition that it is to be disrupted is no longer true. None: it has none, or is on its way out,
/// or its kubelet ends it, which may take as long as it takes.
fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if !pod.is_active() {
        return None;
    }
    let condition = Condition::find(&pod.conditions, "DisruptionTarget")?;
    if &*condition.status != "True" || &*condition.reason == "TerminationByKubelet" {
        return None;
    }
    let since = now.duration_since(condition.last_transition_time?);
    Some(STALE.saturating_sub(since.unsigned_abs()))
}

struct Disruption {
    objects: Objects,
    recorder: Recorder,
    owners: Owners,
    budgets: Arc<Store<PodDisruptionBudget>>,
    pods: Arc<Store<Pod>>,
}

#[async_trait]
impl Controller for Disruption {
    type Key = Key;

    fn name(&self) -> &'static str {
        ACCOUNT
    }

    async fn reconcile(&self, key: &Key) -> anyhow::Result<Action> {
        match key {
            Key::Pod(key) => self.end_disruption(key).await,
            Key::Budget(key) => {
                let Some(budget) = self.budgets.get(key) else { return Ok(Action::Done) };
                match self.sync(&budget).await {
                    Err(error) if !error.downcast_ref().is_some_and(is_conflict) => {
                        tracing::warn!(budget = %key, "{error:#}");
                        self.fail(&budget, &error).await?;
                        Ok(Action::Done)
                    }
                    done => done,
                }
            }
        }
    }
}

impl Disruption {
    fn warn(&self, budget: &PodDisruptionBudget, reason: &str, text: String) {
        let subject = Subject::of(&kinds::POD_DISRUPTION_BUDGETS, &budget.meta);
        self.recorder.event(&subject, EventType::Warning, reason, text);
    }

    async fn sync(&self, budget: &PodDisruptionBudget) -> anyhow::Result<Action> {
        let mut pods = self.pods.in_namespace(&budget.meta.namespace);
        pods.retain(|pod| budget.selects(&pod.meta.labels));
        if pods.is_empty() {
            let subject = Subject::of(&kinds::POD_DISRUPTION_BUDGETS, &budget.meta);
            self.recorder.event(&subject, EventType::Normal, "NoPods", "No matching pods found");
        }
        let (expected, desired) = match self.counts(budget, &pods).await {
            Ok(counts) => counts,
            Err(error) => {
                let text = format!("Failed to calculate the number of expected pods: {}", text_of(&error));
                self.warn(budget, "CalculateExpectedPodCountFailed", text);
                return Err(error);
            }
        };
        let now = Timestamp::now();
        let Disrupted { under_way, late, next } = plan::disrupted(budget, &pods, now);
        for pod in pods.iter().filter(|pod| late.contains(&pod.meta.name)) {
            let namespace = &budget.meta.namespace;
            let text = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            self.recorder.event(&Subject::of(&kinds::PODS, &pod.meta), EventType::Warning, "NotDeleted", text);
        }
        let current = plan::current_healthy(&pods, &under_way);
        let status = plan::status(budget, expected, desired, current, under_way);
        if !plan::is_current(budget, &status) {
            self.write(budget, |live| plan::write(live, &status, now)).await?;
        }
        let left = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        Ok(left.map_or(Action::Done, Action::After))
    }

    /// Expected pods, and how many of them must be healthy.
    async fn counts(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> anyhow::Result<(i32, i32)> {
        let expected = match plan::expect(budget) {
            Expect::Pods => i32::try_from(pods.len()).unwrap_or(i32::MAX),
            Expect::Scale => {
                let Scale { replicas, unmanaged } = self.owners.scale(pods).await?;
                if !unmanaged.is_empty() {
                    let selector = plan::go_text(budget.spec.selector.as_ref());
                    let text = format!(
                        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. \
                         As a result, the status of the PDB cannot be calculated correctly, which may result in \
                         undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the \
                         PDB to an integer value."
                    );
                    self.warn(budget, "UnmanagedPods", text);
                }
                replicas
            }
        };
        Ok((expected, plan::desired_healthy(budget, expected)?))
    }

    async fn fail(&self, budget: &PodDisruptionBudget, error: &anyhow::Error) -> anyhow::Result<()> {
        let (text, now) = (text_of(error), Timestamp::now());
        self.write(budget, |live| plan::write_failure(live, &text, now)).await
    }

    /// Over the very state that was looked at: an eviction may have spent from the budget since.
    async fn write(&self, budget: &PodDisruptionBudget, change: impl Fn(&mut Value)) -> anyhow::Result<()> {
        let Meta { namespace, name, resource_version, .. } = &budget.meta;
        self.objects
            .modify(&kinds::POD_DISRUPTION_BUDGETS, namespace, name, "status", |live| {
                // A newer state is on its way to the cache, and comes here then.
                if live["metadata"]["resourceVersion"].as_str() != Some(&**resource_version) {
                    return false;
                }
                let before = live["status"].clone();
                change(live);
                live["status"] != before
            })
            .await?;
        Ok(())
    }

    async fn end_disruption(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(pod) = self.pods.get(key) else { return Ok(Action::Done) };
        let now = Timestamp::now();
        match stale_in(&pod, now) {
            None => return Ok(Action::Done),
            Some(wait) if !wait.is_zero() => return Ok(Action::After(wait)),
            Some(_) => {}
        }
        let mut condition = json!({
            "type": "DisruptionTarget", "status": "False", "lastTransitionTime": seconds(now),
            "reason": null, "message": null,
        });
        if pod.meta.generation > 0 {
            condition["observedGeneration"] = pod.meta.generation.into();
        }
        let patch = json!({ "metadata": { "uid": &*pod.meta.uid }, "status": { "conditions": [condition] } });
        let kind = &kinds::PODS;
        match self.objects.patch(kind, &key.namespace, &key.name, "status", Patch::Strategic, &patch).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}

fn text_of(error: &anyhow::Error) -> String {
    error.downcast_ref().map_or_else(|| format!("{error:#}"), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disruption_that_came_to_nothing_ends() {
        let now: Timestamp = "2026-01-01T00:01:30Z".parse().expect("a time");
        let check = |change: fn(&mut Value), expected: Option<u64>| {
            let mut pod = json!({ "metadata": { "name": "a" }, "status": { "phase": "Running", "conditions": [
                { "type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
            change(&mut pod);
            let pod = Pod::project(serde_json::from_value(pod).expect("a pod"));
            assert_eq!(stale_in(&pod, now), expected.map(Duration::from_secs));
        };
        check(|_| {}, Some(30));
        check(|pod| pod["status"]["conditions"][0]["lastTransitionTime"] = "2025-01-01T00:00:00Z".into(), Some(0));
        check(|pod| pod["status"]["conditions"][0]["status"] = "False".into(), None);
        check(|pod| pod["status"]["conditions"][0]["reason"] = "TerminationByKubelet".into(), None);
        check(|pod| pod["status"]["phase"] = "Failed".into(), None);
        check(|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(), None);
    }
}
