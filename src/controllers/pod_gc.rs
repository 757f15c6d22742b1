//! Pod garbage collection: pods whose node is gone, pods that were deleted before they were bound,
//! and finished pods beyond a threshold. Source: `pkg/controller/podgc`.

use super::context::{Context, Running};
use super::taint_eviction::mark_disrupted;
use crate::client::{DeleteOptions, Objects, kinds};
use crate::runtime::views::{Node, Pod};
use crate::runtime::{Action, Change, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "pod-garbage-collector";
/// Finished pods that are kept in all.
const TERMINATED_THRESHOLD: usize = 12_500;
/// How long a node must be missing.
const QUARANTINE: Duration = Duration::from_secs(40);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    pods.on_change({
        let (queue, nodes, pods) = (queue.clone(), nodes.clone(), Arc::downgrade(&pods));
        move |change| {
            let Some(pod) = change.new() else { return };
            let orphaned = !pod.node.is_empty() && nodes.has_synced() && nodes.find("", &pod.node).is_none();
            let unbound = pod.node.is_empty() && pod.meta.is_deleting();
            if orphaned || unbound {
                queue.add(pod.key());
            }
            let finished = pod.is_terminal() && change.old().is_none_or(|old| !old.is_terminal());
            if finished && pods.upgrade().is_some_and(|pods| pods.len() > TERMINATED_THRESHOLD) {
                queue.add(ObjectKey::default());
            }
        }
    });
    nodes.on_change({
        let (queue, pods) = (queue.clone(), pods.clone());
        move |change| {
            if let Change::Deleted(node) = change {
                pods.by_index(Pod::NODE, &node.meta.name).iter().for_each(|pod| queue.add(pod.key()));
            }
        }
    });
    let controller =
        PodGc { objects: context.objects(NAME), nodes: nodes.clone(), pods: pods.clone(), missing: Mutex::default() };
    let all = pods.clone();
    let first = queue.clone();
    Running::new(
        controller,
        queue,
        1,
        [Box::pin(async move {
            nodes.synced().await;
            pods.synced().await;
            // Nodes that went while nobody looked.
            for pod in pods.all().iter().filter(|pod| !pod.node.is_empty() && nodes.find("", &pod.node).is_none()) {
                first.add(pod.key());
            }
            first.add(ObjectKey::default());
        }) as BoxFuture<'static, ()>],
        move || all.all().iter().map(|pod| pod.key()).chain([ObjectKey::default()]).collect(),
    )
}

/// The finished pods to delete, oldest first.
fn beyond_threshold(mut finished: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let surplus = finished.len().saturating_sub(threshold);
    finished.sort_by(|one, two| one.meta.age_order().cmp(&two.meta.age_order()));
    finished.truncate(surplus);
    finished
}

struct PodGc {
    objects: Objects,
    nodes: Arc<Store<Node>>,
    pods: Arc<Store<Pod>>,
    /// Nodes that pods name and nobody knows, since when.
    missing: Mutex<HashMap<Arc<str>, Instant>>,
}

#[async_trait]
impl Controller for PodGc {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    /// The empty key: all finished pods together.
    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if *key == ObjectKey::default() {
            if self.pods.len() > TERMINATED_THRESHOLD {
                let finished: Vec<Arc<Pod>> = self.pods.all().into_iter().filter(|pod| pod.is_terminal()).collect();
                for pod in beyond_threshold(finished, TERMINATED_THRESHOLD) {
                    self.delete(&pod).await?;
                }
            }
            return Ok(Action::Done);
        }
        let Some(pod) = self.pods.get(key) else { return Ok(Action::Done) };
        if pod.node.is_empty() {
            if pod.meta.is_deleting() {
                self.delete(&pod).await?;
            }
            return Ok(Action::Done);
        }
        if self.nodes.find("", &pod.node).is_some() {
            self.missing.lock().remove(&pod.node);
            return Ok(Action::Done);
        }
        let since = *self.missing.lock().entry(pod.node.clone()).or_insert_with(Instant::now);
        let left = QUARANTINE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        if self.objects.find(&kinds::NODES, "", &pod.node).await?.is_some() {
            return Ok(Action::Done);
        }
        let message = "PodGC: node no longer exists";
        if mark_disrupted(&self.objects, &pod, "DeletionByPodGC", message, true).await? {
            self.delete(&pod).await?;
        }
        Ok(Action::Done)
    }
}

impl PodGc {
    /// At once: there is no kubelet that could say goodbye.
    async fn delete(&self, pod: &Pod) -> anyhow::Result<()> {
        let options = DeleteOptions::of(&pod.meta.uid).grace_period(0);
        self.objects.delete_as_seen(&kinds::PODS, &pod.meta.namespace, &pod.meta.name, &options).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_finished_pods_go() {
        let pod = |name: &str, second: i64| {
            let mut pod = Pod::default();
            pod.meta.name = name.into();
            pod.meta.creation_timestamp = jiff::Timestamp::from_second(second).ok();
            Arc::new(pod)
        };
        let pods = vec![pod("b", 20), pod("a", 10), pod("c", 30)];
        let names: Vec<String> = beyond_threshold(pods, 1).iter().map(|pod| pod.meta.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
