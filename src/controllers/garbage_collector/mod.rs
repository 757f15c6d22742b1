//! Garbage collection: dependents go with their owners, in the way the deletion asked for.
//!
//! One metadata watch per kind feeds a graph of owners. The graph only says what to look at: before
//! anything is deleted the object and its missing owners are read live, UIDs compared, and the
//! deletion carries UID and revision. Source: `pkg/controller/garbagecollector`.

mod graph;

use super::context::{Context, Running};
use super::discovery::{Served, served};
use crate::client::{DeleteOptions, Kind, Objects, Propagation, is_not_found};
use crate::runtime::{Action, Controller, Informer, InformerOptions, Meta, Projection, Sink, WorkQueue, reflect};
use async_trait::async_trait;
use futures::future::BoxFuture;
use graph::{FOREGROUND, Graph, Identity, Node, ORPHAN, Standing, Verdict, verdict};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// The service account; kube-controller-manager's name for it.
const NAME: &str = "generic-garbage-collector";

/// Any object, as far as garbage collection cares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AnyObject {
    metadata: Meta,
}

impl Projection for AnyObject {
    type Object = Self;

    /// Always given in the options.
    const KIND: Kind = Kind::cluster("", "", "", "");

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

/// A CustomResourceDefinition: when one comes or goes, so do kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    metadata: Meta,
}

impl Projection for Definition {
    type Object = Self;

    const KIND: Kind =
        Kind::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let graph = Arc::new(Mutex::new(Graph::default()));
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let reader = context.informers.client().clone();
    let (synced, mut ready) = watch::channel(false);
    let monitors = Monitors {
        reader,
        graph: graph.clone(),
        queue: queue.clone(),
        kinds: kinds.clone(),
        running: HashMap::new(),
        tasks: JoinSet::new(),
        synced,
    };
    let controller =
        GarbageCollector { objects: context.objects(NAME), graph: graph.clone(), kinds, queue: queue.clone() };
    let mut running = Running::new(
        controller,
        queue,
        4,
        [Box::pin(async move {
            // The sender lives as long as the monitors, which run beside this.
            let _ = ready.wait_for(|ready| *ready).await;
        }) as BoxFuture<'static, ()>],
        move || graph.lock().all_with_owners(),
    );
    let work = running.task;
    running.task = Box::pin(async move {
        tokio::join!(monitors.run(), work);
    });
    running
}

/// One watch per kind.
struct Monitors {
    reader: kube::Client,
    graph: Arc<Mutex<Graph>>,
    queue: Arc<WorkQueue<Identity>>,
    kinds: Arc<Mutex<Vec<Served>>>,
    running: HashMap<Kind, AbortHandle>,
    tasks: JoinSet<()>,
    synced: watch::Sender<bool>,
}

impl Monitors {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        let (changed, mut changes) = mpsc::channel::<()>(1);
        let mut definitions: Option<Informer<Definition>> = None;
        loop {
            match served(&self.reader).await {
                Ok(served) => {
                    failures = 0;
                    let has_definitions = served.iter().any(|served| served.kind == Definition::KIND);
                    self.follow(served).await;
                    self.synced.send_replace(true);
                    if has_definitions && definitions.is_none() {
                        let informer = Informer::<Definition>::start(self.reader.clone(), InformerOptions::default());
                        let changed = changed.clone();
                        informer.store().on_change(move |_| {
                            // Full: a look is due anyway.
                            let _ = changed.try_send(());
                        });
                        definitions = Some(informer);
                    }
                    if changes.recv().await.is_none() {
                        return;
                    }
                    // A new kind is served a moment after its definition is there.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => {
                    tracing::warn!(controller = NAME, "discovery failed: {error}");
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(100 << failures.min(8))).await;
                }
            }
        }
    }

    /// Watch what is served, and nothing else. Waits until each new kind's first list is in.
    async fn follow(&mut self, served: Vec<Served>) {
        let wanted: Vec<Kind> = served
            .iter()
            .filter(|served| served.has(&["list", "watch", "delete"]))
            // Events are many, short-lived and own nothing.
            .filter(|served| served.kind.plural != "events")
            .map(|served| served.kind.clone())
            .collect();
        *self.kinds.lock() = served;
        self.running.retain(|kind, task| {
            let keep = wanted.contains(kind);
            if !keep {
                task.abort();
            }
            keep
        });
        let mut waiting = Vec::new();
        for kind in wanted {
            if self.running.contains_key(&kind) {
                continue;
            }
            let (listed, has_listed) = watch::channel(false);
            let sink = Arc::new(KindSink {
                kind: Arc::new(kind.clone()),
                graph: self.graph.clone(),
                queue: self.queue.clone(),
                listed,
            });
            let options =
                InformerOptions { metadata_only: true, kind: Some(kind.clone()), ..InformerOptions::default() };
            let task = self.tasks.spawn(reflect::<AnyObject>(self.reader.clone(), options, sink));
            self.running.insert(kind, task);
            waiting.push(has_listed);
        }
        for mut listed in waiting {
            // A watch that was aborted meanwhile is not waited for.
            let _ = listed.wait_for(|listed| *listed).await;
        }
    }
}

struct KindSink {
    kind: Arc<Kind>,
    graph: Arc<Mutex<Graph>>,
    queue: Arc<WorkQueue<Identity>>,
    listed: watch::Sender<bool>,
}

impl KindSink {
    fn look(&self, identities: Vec<Identity>) {
        for identity in identities {
            self.queue.add(identity);
        }
    }
}

impl Sink<AnyObject> for KindSink {
    fn apply(&self, object: AnyObject) {
        let look = self.graph.lock().apply(Node::new(&self.kind, &object.metadata));
        self.look(look);
    }

    fn remove(&self, last: AnyObject) {
        let look = self.graph.lock().remove(&last.metadata.uid);
        self.look(look);
    }

    fn replace(&self, objects: Vec<AnyObject>) {
        let mut look = Vec::new();
        {
            let mut graph = self.graph.lock();
            let mut seen = HashSet::with_capacity(objects.len());
            for object in objects {
                seen.insert(object.metadata.uid.clone());
                look.extend(graph.apply(Node::new(&self.kind, &object.metadata)));
            }
            for uid in graph.missing(&self.kind, &seen) {
                look.extend(graph.remove(&uid));
            }
        }
        self.look(look);
        self.listed.send_replace(true);
    }
}

struct GarbageCollector {
    objects: Objects,
    graph: Arc<Mutex<Graph>>,
    kinds: Arc<Mutex<Vec<Served>>>,
    queue: Arc<WorkQueue<Identity>>,
}

#[async_trait]
impl Controller for GarbageCollector {
    type Key = Identity;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, identity: &Identity) -> anyhow::Result<Action> {
        if !self.graph.lock().needs_look(&identity.uid) {
            return Ok(Action::Done);
        }
        let (kind, key) = (&*identity.kind, &identity.key);
        let Some(live) = self.objects.find(kind, &key.namespace, &key.name).await? else {
            // Its watch will say so.
            return Ok(Action::Done);
        };
        let object: AnyObject = serde_json::from_value(json!({ "metadata": live["metadata"] }))?;
        if object.metadata.uid != identity.uid {
            return Ok(Action::Done);
        }
        let node = Node::new(&identity.kind, &object.metadata);
        if node.deleting && node.orphan {
            return self.orphan_dependents(&node).await;
        }
        if node.waits_for_dependents() {
            return self.finish_foreground(&node).await;
        }
        if node.deleting {
            return Ok(Action::Done);
        }
        let mut owners = Vec::with_capacity(node.owners.len());
        for owner in &node.owners {
            owners.push((owner.uid.clone(), self.standing(identity, owner).await?));
        }
        let dependents = self.graph.lock().dependents(&identity.uid);
        match verdict(&owners, !dependents.is_empty()) {
            Verdict::Keep => {}
            Verdict::Detach(uids) => self.detach(identity, &uids).await?,
            Verdict::Delete => {
                let policy = if node.orphan {
                    Propagation::Orphan
                } else if node.foreground {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                self.delete(identity, &object.metadata, policy).await?;
            }
            // In a circle all would wait for each other: this one lets go of its owners. When its watch
            // shows that, it is looked at again.
            Verdict::DeleteForeground
                if dependents.iter().any(Node::waits_for_dependents)
                    && node.owners.iter().any(|owner| owner.blocks) =>
            {
                self.unblock(identity).await?;
            }
            Verdict::DeleteForeground => {
                self.delete(identity, &object.metadata, Propagation::Foreground).await?;
            }
        }
        Ok(Action::Done)
    }
}

impl GarbageCollector {
    async fn standing(&self, dependent: &Identity, owner: &graph::Owner) -> anyhow::Result<Standing> {
        if let Some(known) = self.graph.lock().get(&owner.uid) {
            return Ok(if known.waits_for_dependents() { Standing::Waiting } else { Standing::Solid });
        }
        let kind = self
            .kinds
            .lock()
            .iter()
            .map(|served| &served.kind)
            .find(|kind| kind.group == *owner.group && kind.kind == *owner.kind)
            .cloned();
        let Some(kind) = kind else {
            anyhow::bail!("{dependent}: its owner's kind {} of group {:?} is not served", owner.kind, owner.group);
        };
        if kind.namespaced && dependent.key.namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner: nothing says where to look.
            return Ok(Standing::Solid);
        }
        let live = self.objects.find(&kind, &dependent.key.namespace, &owner.name).await?;
        let Some(live) = live.filter(|live| live["metadata"]["uid"].as_str() == Some(&*owner.uid)) else {
            return Ok(Standing::Gone);
        };
        let waits = !live["metadata"]["deletionTimestamp"].is_null() && has_finalizer(&live, FOREGROUND);
        Ok(if waits { Standing::Waiting } else { Standing::Solid })
    }

    async fn delete(&self, identity: &Identity, live: &Meta, policy: Propagation) -> anyhow::Result<()> {
        let options = DeleteOptions::of(&identity.uid).resource_version(&live.resource_version).propagation(policy);
        let key = &identity.key;
        match self.objects.delete(&identity.kind, &key.namespace, &key.name, &options).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Take ownerReferences off.
    async fn detach(&self, identity: &Identity, owners: &[Arc<str>]) -> anyhow::Result<()> {
        self.change(identity, |metadata| {
            let Some(references) = metadata["ownerReferences"].as_array_mut() else { return false };
            let before = references.len();
            references.retain(|reference| !owners.iter().any(|uid| reference["uid"].as_str() == Some(uid)));
            before != references.len()
        })
        .await
    }

    /// Its owners need not wait for it any more.
    async fn unblock(&self, identity: &Identity) -> anyhow::Result<()> {
        self.change(identity, |metadata| {
            let mut changed = false;
            for reference in metadata["ownerReferences"].as_array_mut().into_iter().flatten() {
                if reference["blockOwnerDeletion"] == true {
                    reference["blockOwnerDeletion"] = false.into();
                    changed = true;
                }
            }
            changed
        })
        .await
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: &str) -> anyhow::Result<()> {
        self.change(identity, |metadata| {
            let Some(finalizers) = metadata["finalizers"].as_array_mut() else { return false };
            let before = finalizers.len();
            finalizers.retain(|own| own.as_str() != Some(finalizer));
            before != finalizers.len()
        })
        .await
    }

    async fn change(&self, identity: &Identity, mut change: impl FnMut(&mut Value) -> bool) -> anyhow::Result<()> {
        let key = &identity.key;
        let result = self
            .objects
            .modify(&identity.kind, &key.namespace, &key.name, "", |live| {
                live["metadata"]["uid"].as_str() == Some(&*identity.uid) && change(&mut live["metadata"])
            })
            .await;
        match result {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A deletion that leaves the dependents: take their references off, then let it go.
    async fn orphan_dependents(&self, node: &Node) -> anyhow::Result<Action> {
        let uid = node.identity.uid.clone();
        let dependents = self.graph.lock().dependents(&uid);
        for dependent in dependents {
            self.detach(&dependent.identity, std::slice::from_ref(&uid)).await?;
        }
        self.remove_finalizer(&node.identity, ORPHAN).await?;
        Ok(Action::Done)
    }

    /// A deletion in which the dependents go first.
    async fn finish_foreground(&self, node: &Node) -> anyhow::Result<Action> {
        let uid = &node.identity.uid;
        let dependents = self.graph.lock().dependents(uid);
        let blocking: Vec<Identity> = dependents
            .into_iter()
            .filter(|dependent| dependent.owners.iter().any(|owner| owner.uid == *uid && owner.blocks))
            .map(|dependent| dependent.identity)
            .collect();
        if blocking.is_empty() {
            self.remove_finalizer(&node.identity, FOREGROUND).await?;
            return Ok(Action::Done);
        }
        for dependent in blocking {
            self.queue.add(dependent);
        }
        Ok(Action::Done)
    }
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|own| own.iter().any(|own| own.as_str() == Some(finalizer)))
}
