//! Taint eviction: pods leave a node that has a NoExecute taint they do not tolerate, or not for
//! ever. Source: `pkg/controller/tainteviction`.

use super::context::{Context, Running};
use super::seen::modify;
use crate::api::time::seconds;
use crate::client::{DeleteOptions, Objects, kinds};
use crate::runtime::views::{Node, Pod, Taint, Toleration};
use crate::runtime::{Action, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue};
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const ACCOUNT: &str = "node-controller";

/// As it names itself, also in its events.
const NAME: &str = "taint-eviction-controller";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    nodes.on_change({
        let (queue, pods) = (queue.clone(), pods.clone());
        move |change| {
            let of = |node: Option<&Arc<Node>>| node.map(|node| no_execute(node)).unwrap_or_default();
            if of(change.old()) != of(change.new()) {
                pods.by_index(Pod::NODE, &change.object().meta.name).iter().for_each(|pod| queue.add(pod.key()));
            }
        }
    });
    pods.on_change({
        let (queue, nodes) = (queue.clone(), nodes.clone());
        move |change| {
            let pod = change.object();
            let moved = change.old().is_none_or(|old| old.node != pod.node || old.tolerations != pod.tolerations);
            let tainted = || nodes.find("", &pod.node).is_some_and(|node| !no_execute(&node).is_empty());
            if change.new().is_none() || (moved && !pod.node.is_empty() && tainted()) {
                queue.add(pod.key());
            }
        }
    });
    let objects = context.objects(ACCOUNT);
    let controller = TaintEviction {
        recorder: Recorder::new(objects.clone(), NAME, ""),
        objects,
        nodes: nodes.clone(),
        pods: pods.clone(),
        since: Mutex::default(),
    };
    let all = pods.clone();
    Running::new(controller, queue, 4, [nodes.until_synced(), pods.until_synced()], move || all.keys())
}

fn no_execute(node: &Node) -> Vec<Taint> {
    node.taints.iter().filter(|taint| &*taint.effect == "NoExecute").cloned().collect()
}

/// When a pod must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    Never,
    Now,
    After(Duration),
}

/// Every taint must be tolerated; the shortest of the times counts.
pub fn eviction(taints: &[Taint], tolerations: &[Toleration]) -> Eviction {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let tolerating: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| toleration.tolerates(taint)).collect();
        if tolerating.is_empty() {
            return Eviction::Now;
        }
        for seconds in tolerating.iter().filter_map(|toleration| toleration.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |shortest| shortest.min(seconds)));
        }
    }
    match shortest {
        None => Eviction::Never,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Eviction::After(Duration::from_secs(seconds)),
            _ => Eviction::Now,
        },
    }
}

struct TaintEviction {
    objects: Objects,
    recorder: Recorder,
    nodes: Arc<Store<Node>>,
    pods: Arc<Store<Pod>>,
    /// Pods that are to go, and since when their time runs.
    since: Mutex<HashMap<ObjectKey, (Arc<str>, Instant)>>,
}

#[async_trait]
impl Controller for TaintEviction {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let pod = self.pods.get(key).filter(|pod| !pod.meta.is_deleting() && !pod.node.is_empty());
        let Some(pod) = pod else {
            self.since.lock().remove(key);
            return Ok(Action::Done);
        };
        let taints = self.nodes.find("", &pod.node).map(|node| no_execute(&node)).unwrap_or_default();
        let decision = if taints.is_empty() { Eviction::Never } else { eviction(&taints, &pod.tolerations) };
        match decision {
            Eviction::Never => {
                if self.since.lock().remove(key).is_some() {
                    let text = format!("Cancelling deletion of Pod {key}");
                    self.event(&pod, text);
                }
                Ok(Action::Done)
            }
            Eviction::Now => {
                self.evict(&pod).await?;
                Ok(Action::Done)
            }
            Eviction::After(delay) => {
                let since = {
                    let mut all = self.since.lock();
                    let entry = all.entry(key.clone()).or_insert_with(|| (pod.meta.uid.clone(), Instant::now()));
                    if entry.0 != pod.meta.uid {
                        *entry = (pod.meta.uid.clone(), Instant::now());
                    }
                    entry.1
                };
                let left = delay.saturating_sub(since.elapsed());
                if left.is_zero() {
                    self.evict(&pod).await?;
                    return Ok(Action::Done);
                }
                Ok(Action::After(left))
            }
        }
    }
}

impl TaintEviction {
    fn event(&self, pod: &Pod, text: String) {
        let subject = Subject::of(&kinds::PODS, &pod.meta);
        self.recorder.event(&subject, EventType::Normal, "TaintManagerEviction", text);
    }

    async fn evict(&self, pod: &Pod) -> anyhow::Result<()> {
        let meta = &pod.meta;
        self.since.lock().remove(&pod.key());
        self.event(pod, format!("Marking for deletion Pod {}", pod.key()));
        let message = "Taint manager: deleting due to NoExecute taint";
        let marked = mark_disrupted(&self.objects, pod, "DeletionByTaintManager", message, false).await?;
        if !marked {
            return Ok(());
        }
        let options = DeleteOptions::of(&meta.uid);
        self.objects.delete_as_seen(&kinds::PODS, &meta.namespace, &meta.name, &options).await?;
        Ok(())
    }
}

/// Set the condition DisruptionTarget (and the phase Failed) of a live pod; false: it is gone.
pub async fn mark_disrupted(
    objects: &Objects,
    pod: &Pod,
    reason: &str,
    message: &str,
    fail: bool,
) -> anyhow::Result<bool> {
    let change = |live: &mut Value| disrupt(&mut live["status"], reason, message, fail, Timestamp::now());
    Ok(modify(objects, &kinds::PODS, &pod.meta, "status", change).await?.is_some())
}

fn disrupt(status: &mut Value, reason: &str, message: &str, fail: bool, now: Timestamp) -> bool {
    let mut changed = false;
    if fail && status["phase"] != "Failed" && status["phase"] != "Succeeded" {
        status["phase"] = "Failed".into();
        changed = true;
    }
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": seconds(now), "lastProbeTime": null,
    });
    match status["conditions"].as_array_mut() {
        Some(conditions) => match conditions.iter_mut().find(|own| own["type"] == "DisruptionTarget") {
            Some(own) if own["status"] == "True" && own["reason"] == reason => return changed,
            Some(own) => *own = condition,
            None => conditions.push(condition),
        },
        None => status["conditions"] = json!([condition]),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration { key: key.into(), operator: "Exists".into(), toleration_seconds: seconds, ..Toleration::default() }
    }

    #[test]
    fn evictions() {
        let two = [taint("a"), taint("b")];
        assert_eq!(eviction(&two, &[toleration("a", None)]), Eviction::Now);
        assert_eq!(eviction(&two, &[toleration("", None)]), Eviction::Never);
        let both = [toleration("a", Some(300)), toleration("b", Some(20))];
        assert_eq!(eviction(&two, &both), Eviction::After(Duration::from_secs(20)));
        assert_eq!(eviction(&two[..1], &[toleration("a", Some(0))]), Eviction::Now);
        assert_eq!(eviction(&two[..1], &[toleration("a", Some(-3))]), Eviction::Now);
    }

    #[test]
    fn disruption_is_marked_once() {
        let mut status = json!({ "phase": "Running" });
        let now = Timestamp::UNIX_EPOCH;
        assert!(disrupt(&mut status, "DeletionByPodGC", "gone", true, now));
        assert_eq!(status["phase"], "Failed");
        assert!(!disrupt(&mut status, "DeletionByPodGC", "gone", true, now));
    }
}
