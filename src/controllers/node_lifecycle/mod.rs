//! Node health: a kubelet that is silent for the grace period loses its node.
//!
//! Silence is measured here, on the monotonic clock, from the last renewal that this process saw;
//! what clocks elsewhere say does not matter. Source: `pkg/controller/nodelifecycle`.

mod plan;

pub use plan::{NOT_READY, UNREACHABLE};

use super::context::{Context, NodeLifecycle, Running};
use super::seen::change;
use crate::api::time::seconds;
use crate::client::{self, Objects, kinds};
use crate::runtime::views::{Lease, Node, Pod};
use crate::runtime::{
    Action, Condition, Controller, EventType, Informer, InformerOptions, ObjectKey, Projection, Recorder, Store,
    Subject, WorkQueue,
};
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use plan::{Eviction, Zone, silent_conditions, taints, zone_allows};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "node-controller";
const LEASES: &str = "kube-node-lease";
/// One node after another loses its pods, not all at once.
const EVICTION_INTERVAL: Duration = Duration::from_secs(10);
const SLOW_EVICTION_INTERVAL: Duration = Duration::from_secs(100);
/// A node that never posted anything is given this long.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    let options = InformerOptions { namespace: Some(LEASES.to_owned()), ..InformerOptions::default() };
    let leases = Informer::<Lease>::start(context.informers.client().clone(), options);
    let seen: Arc<Mutex<HashMap<Arc<str>, Seen>>> = Arc::default();
    nodes.on_change({
        let (queue, seen, nodes) = (queue.clone(), seen.clone(), Arc::downgrade(&nodes));
        move |change| {
            let heartbeat = |node: &Node| {
                let ready = Condition::find(&node.conditions, "Ready")?;
                Some((ready.last_heartbeat_time, ready.status.clone()))
            };
            if let Some(node) = change.new() {
                let unknown =
                    Condition::find(&node.conditions, "Ready").is_some_and(|ready| &*ready.status == "Unknown");
                // What this controller wrote itself is no sign of life.
                if change.old().is_none_or(|old| heartbeat(old) != heartbeat(node)) && !unknown {
                    seen.lock().entry(node.meta.name.clone()).or_default().renewed();
                }
            }
            queue.add(change.object().key());
            let turned = change.old().map(|node| node.is_ready()) != change.new().map(|node| node.is_ready());
            if turned && let Some(nodes) = nodes.upgrade() {
                // Whether others may be evicted depends on how many are lost.
                nodes.all().iter().for_each(|node| queue.add(node.key()));
            }
        }
    });
    leases.store().on_change({
        let (queue, seen, nodes) = (queue.clone(), seen.clone(), nodes.clone());
        move |change| {
            let Some(lease) = change.new() else { return };
            if change.old().is_some_and(|old| old.spec.renew_time == lease.spec.renew_time) {
                return;
            }
            seen.lock().entry(lease.meta.name.clone()).or_default().renewed();
            // A healthy node's renewal wakes nobody: its own timer finds it renewed.
            if nodes.find("", &lease.meta.name).is_some_and(|node| !node.is_ready()) {
                queue.add(ObjectKey::new("", &lease.meta.name));
            }
        }
    });
    let controller = NodeHealth {
        objects: context.objects(NAME),
        recorder: context.recorder(NAME),
        options: context.config.node_lifecycle,
        nodes: nodes.clone(),
        pods: pods.clone(),
        seen,
        next_eviction: Mutex::new(Instant::now()),
        _leases: leases,
    };
    let leases = controller._leases.store().clone();
    Running::new(controller, queue, 1, [nodes.until_synced(), pods.until_synced(), leases.until_synced()], move || {
        nodes.keys()
    })
}

/// What this process knows of a node.
struct Seen {
    /// Its last sign of life, or when we first heard of it.
    at: Instant,
    alive: bool,
    registered: bool,
    /// The status of Ready when last looked at.
    ready: Option<Box<str>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { at: Instant::now(), alive: false, registered: false, ready: None }
    }
}

impl Seen {
    fn renewed(&mut self) {
        self.at = Instant::now();
        self.alive = true;
    }
}

struct NodeHealth {
    objects: Objects,
    recorder: Recorder,
    options: NodeLifecycle,
    nodes: Arc<Store<Node>>,
    pods: Arc<Store<Pod>>,
    seen: Arc<Mutex<HashMap<Arc<str>, Seen>>>,
    next_eviction: Mutex<Instant>,
    _leases: Informer<Lease>,
}

#[async_trait]
impl Controller for NodeHealth {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(node) = self.nodes.get(key) else {
            if self.seen.lock().remove(&key.name).is_some_and(|seen| seen.registered) {
                let subject = Subject {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: key.name.to_string(),
                    ..Subject::default()
                };
                let text = format!("Node {key} event: Removing Node {key} from Controller");
                self.recorder.event(&subject, EventType::Normal, "RemovingNode", text);
            }
            return Ok(Action::Done);
        };
        let (silence, grace, before) = self.look(&node);
        let now = Timestamp::now();
        if silence >= grace
            && let Some(conditions) = silent_conditions(&node, now)
        {
            if self.write_conditions(&node, &conditions).await? {
                let text = format!("Node {key} status is now: NodeNotReady");
                self.recorder.event(&Subject::of(&kinds::NODES, &node.meta), EventType::Normal, "NodeNotReady", text);
            }
            // The change comes back through the cache, with the taints to follow.
            return Ok(Action::Done);
        }
        let ready = Condition::find(&node.conditions, "Ready").map_or("", |condition| &condition.status);
        if ready == "Unknown" || (ready == "False" && before.as_deref() == Some("True")) {
            self.mark_pods_not_ready(&node).await?;
        }
        let next = match self.eviction(&node) {
            Ok(eviction) => {
                self.write_taints(&node, eviction, now).await?;
                Action::Done
            }
            Err(wait) => {
                self.write_taints(&node, Eviction::Later, now).await?;
                Action::After(wait)
            }
        };
        if ready == "Unknown" {
            return Ok(next);
        }
        Ok(next.sooner(Action::After(grace.saturating_sub(silence).max(Duration::from_millis(10)))))
    }
}

impl NodeHealth {
    /// How long it has been silent, how long it may, and its readiness when last looked at.
    fn look(&self, node: &Node) -> (Duration, Duration, Option<Box<str>>) {
        let mut all = self.seen.lock();
        let seen = all.entry(node.meta.name.clone()).or_default();
        if !seen.registered {
            seen.registered = true;
            let name = &node.meta.name;
            let text = format!("Node {name} event: Registered Node {name} in Controller");
            self.recorder.event(&Subject::of(&kinds::NODES, &node.meta), EventType::Normal, "RegisteredNode", text);
        }
        let ready = Condition::find(&node.conditions, "Ready").map(|condition| condition.status.clone());
        let grace = if seen.alive || ready.is_some() {
            self.options.grace_period
        } else {
            self.options.grace_period.max(STARTUP_GRACE)
        };
        (seen.at.elapsed(), grace, std::mem::replace(&mut seen.ready, ready))
    }

    /// Whether its pods may be driven off; Err: later, after this long.
    fn eviction(&self, node: &Node) -> Result<Eviction, Duration> {
        let all = self.nodes.all();
        let ready = all.iter().filter(|node| node.is_ready()).count();
        let interval = match zone_allows(ready, all.len() - ready) {
            Zone::FullDisruption => return Ok(Eviction::Stopped),
            Zone::PartialDisruption { large: false } => return Ok(Eviction::Later),
            Zone::PartialDisruption { large: true } => SLOW_EVICTION_INTERVAL,
            Zone::Normal => EVICTION_INTERVAL,
        };
        let has = node.has_taint(NOT_READY, "NoExecute") || node.has_taint(UNREACHABLE, "NoExecute");
        let ready = Condition::find(&node.conditions, "Ready").map_or("", |condition| &condition.status);
        if has || !matches!(ready, "False" | "Unknown") {
            return Ok(Eviction::Allowed);
        }
        let now = Instant::now();
        let mut next = self.next_eviction.lock();
        if *next > now {
            return Err(*next - now);
        }
        *next = now + interval;
        Ok(Eviction::Allowed)
    }

    /// False: somebody wrote meanwhile.
    async fn write_conditions(&self, node: &Node, conditions: &[Condition]) -> anyhow::Result<bool> {
        let meta = &node.meta;
        let mut written = false;
        self.objects
            .modify(&kinds::NODES, "", &meta.name, "status", |live| {
                // A kubelet that wrote meanwhile is not silent.
                written = live["metadata"]["resourceVersion"].as_str() == Some(&*meta.resource_version);
                if written {
                    live["status"]["conditions"] = conditions.iter().map(Condition::wire).collect();
                }
                written
            })
            .await?;
        Ok(written)
    }

    async fn write_taints(&self, node: &Node, eviction: Eviction, now: Timestamp) -> anyhow::Result<()> {
        let Some(wanted) = taints(node, eviction, now) else { return Ok(()) };
        let meta = &node.meta;
        self.objects
            .modify(&kinds::NODES, "", &meta.name, "", |live| {
                let Ok(live_node) = client::typed(&live).map(Node::project) else { return false };
                if live_node.meta.uid != meta.uid || live_node.taints == wanted {
                    return false;
                }
                let Some(wanted) = taints(&live_node, eviction, now) else { return false };
                live["spec"]["taints"] = wanted.iter().map(taint).collect();
                true
            })
            .await?;
        Ok(())
    }

    async fn mark_pods_not_ready(&self, node: &Node) -> anyhow::Result<()> {
        for pod in self.pods.by_index(Pod::NODE, &node.meta.name) {
            if !pod.is_ready() {
                continue;
            }
            let meta = &pod.meta;
            let now = Timestamp::now();
            let unready = |live: &mut Value| {
                let conditions = live["status"]["conditions"].as_array_mut();
                let ready = conditions.and_then(|all| all.iter_mut().find(|own| own["type"] == "Ready"));
                let Some(ready) = ready.filter(|ready| ready["status"] == "True") else { return false };
                ready["status"] = "False".into();
                ready["lastTransitionTime"] = seconds(now).into();
                true
            };
            if change(&self.objects, &kinds::PODS, meta, "status", unready).await? {
                let subject = Subject::of(&kinds::PODS, meta);
                self.recorder.event(&subject, EventType::Warning, "NodeNotReady", "Node is not ready");
            }
        }
        Ok(())
    }
}

fn taint(taint: &crate::runtime::views::Taint) -> Value {
    let mut value = json!({ "key": &*taint.key, "effect": &*taint.effect });
    if !taint.value.is_empty() {
        value["value"] = (*taint.value).into();
    }
    if let Some(time) = taint.time_added {
        value["timeAdded"] = seconds(time).into();
    }
    value
}
