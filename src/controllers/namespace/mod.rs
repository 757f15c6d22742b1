//! Namespace deletion: everything in it, pods first, then the namespace itself.
//! Source: `pkg/controller/namespace`.

mod plan;

use super::context::{Context, Running};
use super::discovery::{Served, served};
use super::pod_control::message;
use super::seen::modify;
use crate::client::{DeleteOptions, Kind, Objects, Propagation, is_conflict, is_not_found, kinds, status_code};
use crate::runtime::views::{Namespace, Pod};
use crate::runtime::{Action, Change, Controller, ObjectKey, Store, WorkQueue};
use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::ListParams;
use plan::{Progress, set_conditions};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// How long to wait for what has no grace period to tell.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let namespaces = context.informers.of::<Namespace>();
    let pods = context.informers.of::<Pod>();
    namespaces.feed_if(&queue, |namespace| namespace.meta.is_deleting());
    // The last pod going is what most deletions wait for.
    pods.on_change({
        let (queue, namespaces, pods) = (queue.clone(), namespaces.clone(), Arc::downgrade(&pods));
        move |change| {
            let Change::Deleted(pod) = change else { return };
            let key = ObjectKey::new("", &pod.meta.namespace);
            let deleting = namespaces.get(&key).is_some_and(|namespace| namespace.meta.is_deleting());
            let empty = pods.upgrade().is_some_and(|pods| pods.in_namespace(&pod.meta.namespace).is_empty());
            if deleting && empty {
                queue.add(key);
            }
        }
    });
    let controller = Namespaces { objects: context.objects(NAME), namespaces: namespaces.clone() };
    Running::new(controller, queue, 4, [namespaces.until_synced(), pods.until_synced()], move || namespaces.keys())
}

struct Namespaces {
    objects: Objects,
    namespaces: Arc<Store<Namespace>>,
}

#[async_trait]
impl Controller for Namespaces {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(cached) = self.namespaces.get(key).filter(|namespace| namespace.meta.is_deleting()) else {
            return Ok(Action::Done);
        };
        // A cache never justifies emptying a namespace.
        let Some(live) = self.objects.find(&kinds::NAMESPACES, "", &key.name).await? else {
            return Ok(Action::Done);
        };
        let same = live["metadata"]["uid"].as_str() == Some(&*cached.meta.uid);
        if !same || live["metadata"]["deletionTimestamp"].is_null() || finalizers(&live).is_empty() {
            return Ok(Action::Done);
        }
        let progress = self.empty(&key.name).await;
        let now = Timestamp::now();
        let change = |live: &mut Value| set_conditions(live, &progress, now);
        let updated = modify(&self.objects, &kinds::NAMESPACES, &cached.meta, "status", change).await?;
        let Some(mut namespace) = updated else { return Ok(Action::Done) };
        if !progress.is_done() {
            let wait = progress.wait.and_then(|seconds| u64::try_from(seconds).ok());
            let wait = wait.map_or(LOOK_AGAIN, |seconds| Duration::from_secs(seconds / 2 + 1));
            return Ok(Action::After(wait.min(LOOK_AGAIN)));
        }
        let left: Vec<Value> =
            finalizers(&namespace).into_iter().filter(|own| own != FINALIZER).map(Value::from).collect();
        namespace["spec"]["finalizers"] = left.into();
        match self.objects.update(&kinds::NAMESPACES, "", &key.name, "finalize", &namespace).await {
            Err(error) if is_not_found(&error) => Ok(Action::Done),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}

fn finalizers(namespace: &Value) -> Vec<String> {
    let own = namespace["spec"]["finalizers"].as_array();
    own.into_iter().flatten().filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
}

impl Namespaces {
    /// Ask for everything to go, and see what is left. Pods go first: what they use stays until
    /// they are gone.
    async fn empty(&self, namespace: &str) -> Progress {
        let mut progress = Progress::default();
        let served = match served(self.objects.client()).await {
            Ok(served) => served,
            Err(error) => {
                progress.discovery_error = Some(message(&error));
                return progress;
            }
        };
        let kinds: Vec<Served> = served
            .into_iter()
            .filter(|served| served.kind.namespaced && served.has(&["delete", "list"]))
            // The same objects as the core group's.
            .filter(|served| !(served.kind.group == "events.k8s.io" && served.kind.plural == "events"))
            .collect();
        let (pods, others): (Vec<Served>, Vec<Served>) =
            kinds.into_iter().partition(|served| served.kind == kinds::PODS);
        for served in &pods {
            self.empty_kind(namespace, served, &mut progress).await;
        }
        if !progress.is_done() {
            return progress;
        }
        for served in &others {
            self.empty_kind(namespace, served, &mut progress).await;
        }
        progress
    }

    async fn empty_kind(&self, namespace: &str, served: &Served, progress: &mut Progress) {
        match self.try_empty(namespace, served).await {
            Ok(left) => {
                let Some(items) = left["items"].as_array().filter(|items| !items.is_empty()) else { return };
                progress.remaining.insert(qualified(&served.kind), items.len());
                for item in items {
                    for finalizer in item["metadata"]["finalizers"].as_array().into_iter().flatten() {
                        let name = finalizer.as_str().unwrap_or_default();
                        *progress.finalizers.entry(name.to_owned()).or_default() += 1;
                    }
                    let grace = item["metadata"]["deletionGracePeriodSeconds"].as_i64();
                    progress.wait = progress.wait.max(grace);
                }
            }
            Err(error) => progress.content_errors.push(message(&error)),
        }
    }

    /// The list of what is left.
    async fn try_empty(&self, namespace: &str, served: &Served) -> Result<Value, kube::Error> {
        let kind = &served.kind;
        let gone = |error: &kube::Error| is_not_found(error) || status_code(error) == Some(405);
        let before = match self.objects.list(kind, namespace, &ListParams::default()).await {
            Ok(list) => list,
            // The kind went meanwhile.
            Err(error) if gone(&error) => return Ok(Value::Null),
            Err(error) => return Err(error),
        };
        let items = before["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return Ok(Value::Null);
        }
        let background = DeleteOptions::default().propagation(Propagation::Background);
        if served.has(&["deletecollection"]) {
            match self.objects.delete_collection(kind, namespace, &background).await {
                Err(error) if !gone(&error) => return Err(error),
                _ => {}
            }
        } else {
            for item in items {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                match self.objects.delete(kind, namespace, name, &background).await {
                    Err(error) if !gone(&error) && !is_conflict(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        self.objects.list(kind, namespace, &ListParams::default()).await
    }
}

/// `pods.`, `deployments.apps`: as Kubernetes prints a group resource here.
fn qualified(kind: &Kind) -> String {
    format!("{}.{}", kind.plural, kind.group)
}
