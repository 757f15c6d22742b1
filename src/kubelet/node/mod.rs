//! The node: its object, status and lease.
//!
//! Entry: [`Node::run`]. The lease is renewed every quarter of its duration; with that beat come
//! the few system calls that look for pressure, so an idle node has no other timer. The status is
//! written when something in it changed, else every few minutes.

mod lease;
mod machine;
mod status;

pub use machine::{Machine, meminfo};

use super::config::Config;
use super::context::Context;
use super::eviction::{Eviction, Pressure};
use super::logs::rotate::{Limits, rotate};
use super::pods::Pods;
use super::resources::ResourceList;
use crate::client::{self, Kind, Patch, kinds};
use crate::resources::core::pod_spec::resource_requirements::is_extended;
use crate::runtime::{Backoff, Condition, EventType, Informer, InformerOptions, Meta, Projection, Subject};
use k8s_openapi::api::core::v1::{Node as NodeObject, NodeStatus};
use lease::Lease;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A node that was ready before has its network again within this time, or is not ready.
const NETWORK_RETURNS: Duration = Duration::from_secs(10);

/// A report that is not answered within this time is tried again.
const ANSWER: Duration = Duration::from_secs(10);

/// What pods may use before the disk is known more exactly.
pub fn allocatable(config: &Config, machine: &Machine) -> ResourceList {
    status::allocatable(config, machine, storage_bytes(config))
}

/// The size of the file system with the kubelet's directory.
fn storage_bytes(config: &Config) -> u64 {
    rustix::fs::statvfs(&config.root_directory).map_or(0, |stat| stat.f_blocks * stat.f_frsize)
}

pub struct Node {
    context: Arc<Context>,
    machine: Machine,
    pods: Arc<Pods>,
    registered: watch::Sender<Registered>,
    /// As the API holds it.
    written: Mutex<NodeStatus>,
    /// The last report did not arrive: it goes with the next beat.
    owed: AtomicBool,
}

impl Node {
    pub fn new(context: Arc<Context>, machine: Machine, pods: Arc<Pods>) -> Self {
        let labels = own_labels(&context.config, &machine);
        let registered = watch::Sender::new(Registered { labels, extended: ResourceList::new() });
        Self { context, machine, pods, registered, written: Mutex::default(), owed: AtomicBool::new(false) }
    }

    /// What the API says of the node; before that, what it registers with.
    pub fn registered(&self) -> watch::Receiver<Registered> {
        self.registered.subscribe()
    }

    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            result = self.live() => result,
        }
    }

    async fn live(&self) -> anyhow::Result<()> {
        let config = &self.context.config;
        self.register().await;
        let options = InformerOptions {
            field_selector: Some(format!("metadata.name={}", config.node_name)),
            ..InformerOptions::default()
        };
        let informer: Informer<NodeView> = Informer::start(self.context.client.client().clone(), options);
        let registered = self.registered.clone();
        informer.store().on_change(move |change| {
            if let Some(node) = change.new() {
                let new = node.registered();
                registered.send_if_modified(|registered| std::mem::replace(registered, new) != *registered);
            }
        });
        let mut gone = informer.store().changes();
        let mut lease = Lease::new(self.context.clone());
        let mut eviction = Eviction::new(self.context.clone(), self.pods.clone());
        let mut addresses = config.node_addresses.clone();
        let mut network = config.network_ready.clone();
        let mut pressure = Pressure::default();
        // On a receiver of its own: pods that wait for the network are still to be woken by it below.
        self.await_network(network.clone()).await;
        self.report(&pressure, false).await;
        let mut report_at = Instant::now() + config.node_status_report;
        loop {
            if Instant::now() >= report_at {
                report_at = Instant::now() + config.node_status_report;
                self.report(&pressure, true).await;
            }
            tokio::select! {
                () = lease.due() => {
                    lease.renew().await;
                    self.rotate_logs().await;
                    let now = eviction.look().await;
                    let owed = self.owed.swap(false, Ordering::Relaxed);
                    if now != pressure || owed {
                        pressure = now;
                        self.report(&pressure, owed).await;
                    }
                }
                () = next(&mut addresses) => {
                    self.pods.refresh_statuses();
                    self.report(&pressure, false).await;
                }
                () = next(&mut network) => {
                    self.pods.refresh_statuses();
                    self.report(&pressure, false).await;
                }
                change = gone.recv() => {
                    match change {
                        // The object was deleted under us: a node that lives has one.
                        Some((Some(_), None)) => {
                            self.register().await;
                            self.report(&pressure, true).await;
                        }
                        // Nothing was heard of this node for a while, so its state counts as unknown.
                        Some((_, Some(node))) if node.is_unknown() => {
                            *self.written.lock() = NodeStatus::default();
                            self.report(&pressure, true).await;
                        }
                        _ => {}
                    }
                }
                () = tokio::time::sleep_until(report_at) => {}
            }
        }
    }

    /// A node that was ready stays so over a restart of orch: its pods go on meanwhile, and are not to leave
    /// their Services for the moment in which their network is found again.
    async fn await_network(&self, mut network: watch::Receiver<Result<(), String>>) {
        let conditions = self.written.lock().conditions.clone().unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            // Late or never: then the report says so.
            let _ = tokio::time::timeout(NETWORK_RETURNS, network.wait_for(Result::is_ok)).await;
        }
    }

    /// Set aside the logs of running containers that grew too large.
    async fn rotate_logs(&self) {
        let config = &self.context.config;
        let limits = Limits { max_size: config.container_log_max_size, max_files: config.container_log_max_files };
        for shared in self.pods.all() {
            let logs: Vec<(String, std::path::PathBuf)> = {
                let state = shared.state.lock();
                state.view.running().map(|container| (container.id.clone(), container.log_path.clone())).collect()
            };
            for (id, path) in logs {
                let path = shared.log_directory().join(path);
                if let Err(error) = rotate(&*self.context.runtime, &id, &path, limits).await {
                    tracing::warn!(pod = %shared.key, %error, "rotate a container's log");
                }
            }
        }
    }

    /// Create the object, or bring the labels of the one that is there up to date. Tries for ever.
    async fn register(&self) {
        let config = &self.context.config;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
        loop {
            match self.try_register().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(node = %config.node_name, %error, "register the node: trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn try_register(&self) -> Result<(), kube::Error> {
        let config = &self.context.config;
        let objects = &self.context.client;
        let labels = own_labels(config, &self.machine);
        let status = self.compute(&Pressure::default(), &NodeStatus::default()).await;
        if let Some(found) = objects.find(&kinds::NODES, "", &config.node_name).await? {
            let node: NodeObject = client::typed(&found).map_err(kube::Error::SerdeError)?;
            let have = node.metadata.labels.clone().unwrap_or_default();
            let missing: BTreeMap<&String, &String> =
                labels.iter().filter(|(name, value)| have.get(*name) != Some(value)).collect();
            if !missing.is_empty() {
                let patch = json!({"metadata": {"labels": missing}});
                objects.patch(&kinds::NODES, "", &config.node_name, "", Patch::Merge, &patch).await?;
            }
            *self.written.lock() = node.status.unwrap_or_default();
            return Ok(());
        }
        if !config.register_node {
            return Ok(());
        }
        let mut object = json!({
            "metadata": {
                "name": config.node_name,
                "labels": labels,
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": {},
            "status": status,
        });
        if !config.node_taints.is_empty() {
            object["spec"]["taints"] = json!(config.node_taints);
        }
        if let Some(provider) = &config.provider_id {
            object["spec"]["providerID"] = provider.as_str().into();
        }
        match objects.create(&kinds::NODES, "", object).await {
            Ok(_) => {
                *self.written.lock() = status;
                let subject = self.subject();
                let name = &config.node_name;
                self.context.recorder.event(&subject, EventType::Normal, "Starting", "Starting kubelet.");
                let message = format!("Node {name} status is now: NodeReady");
                self.context.recorder.event(&subject, EventType::Normal, "NodeReady", message);
                Ok(())
            }
            Err(error) if client::is_already_exists(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn subject(&self) -> Subject {
        let name = &self.context.config.node_name;
        Subject {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.clone(),
            uid: name.clone(),
            ..Subject::default()
        }
    }

    async fn compute(&self, pressure: &Pressure, old: &NodeStatus) -> NodeStatus {
        let config = &self.context.config;
        let (name, version) = self.context.runtime.version();
        let mut not_ready = Vec::new();
        if let Err(error) = config.network_ready.borrow().as_ref() {
            not_ready.push(format!("container runtime network not ready: {error}"));
        }
        let images = match self.context.image_service.list_images().await {
            Ok(images) => images,
            Err(error) => {
                not_ready.push(format!("container runtime is down: {error}"));
                Vec::new()
            }
        };
        let facts = status::Facts {
            addresses: config.node_addresses.borrow().clone(),
            hostname: config.node_name.clone(),
            storage_bytes: storage_bytes(config),
            runtime_version: format!("{name}://{version}"),
            not_ready,
            memory_pressure: pressure.memory,
            disk_pressure: pressure.disk,
            pid_pressure: pressure.pids,
            images,
            server_port: config.server.as_ref().map_or(10250, |server| server.address.port()),
        };
        let status = status::compute(config, &self.machine, &facts, old, jiff::Timestamp::now());
        if let Some(allocatable) = &status.allocatable {
            self.context.allocatable.store(Arc::new(allocatable.clone()));
        }
        status
    }

    /// Write the status where it differs, or `always`.
    async fn report(&self, pressure: &Pressure, always: bool) {
        let old = self.written.lock().clone();
        let status = self.compute(pressure, &old).await;
        if !always && !status::differs(&old, &status) {
            return;
        }
        let name = &self.context.config.node_name;
        let body = match patch(&old, &status) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "encode the node's status");
                return;
            }
        };
        let objects = &self.context.client;
        let outcome = tokio::time::timeout(ANSWER, async {
            objects.patch(&kinds::NODES, "", name, "status", Patch::Strategic, &body).await
        })
        .await;
        self.owed.store(!matches!(outcome, Ok(Ok(_))), Ordering::Relaxed);
        match outcome {
            Ok(Ok(_)) => *self.written.lock() = status,
            Ok(Err(error)) if client::is_not_found(&error) => self.register().await,
            Ok(Err(error)) => tracing::warn!(node = %name, %error, "write the node's status"),
            Err(_) => tracing::warn!(node = %name, "write the node's status: no answer"),
        }
    }
}

/// The next change; never, once nobody can make one. Cancel-safe.
async fn next<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Conditions and addresses merge by type: gone addresses are deleted by name.
fn patch(old: &NodeStatus, new: &NodeStatus) -> Result<Value, serde_json::Error> {
    let mut status = serde_json::to_value(new)?;
    let mut addresses = vec![json!({"$patch": "replace"})];
    addresses.extend(status["addresses"].as_array().cloned().unwrap_or_default());
    status["addresses"] = Value::Array(addresses);
    for list in ["capacity", "allocatable"] {
        let before = serde_json::to_value(if list == "capacity" { &old.capacity } else { &old.allocatable })?;
        for name in before.as_object().into_iter().flatten().map(|(name, _)| name) {
            if status[list].get(name).is_none() && !name.contains('/') {
                status[list][name] = Value::Null;
            }
        }
    }
    Ok(json!({ "status": status }))
}

fn own_labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let fixed = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ];
    let mut labels: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    labels.extend(config.node_labels.clone());
    labels
}

/// What others say of the node, and pods are measured against.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registered {
    pub labels: BTreeMap<String, String>,
    /// Extended resources, which somebody wrote into its status.
    pub extended: ResourceList,
}

/// What the kubelet reads of its own node.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct NodeView {
    metadata: Meta,
    status: StatusView,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct StatusView {
    conditions: Vec<Condition>,
    allocatable: ResourceList,
}

impl NodeView {
    fn registered(&self) -> Registered {
        let extended = self.status.allocatable.iter().filter(|(name, _)| is_extended(name));
        Registered {
            labels: self.metadata.labels.clone(),
            extended: extended.map(|(name, amount)| (name.clone(), amount.clone())).collect(),
        }
    }

    /// The node lifecycle controller took what the kubelet had said for out of date.
    fn is_unknown(&self) -> bool {
        self.status.conditions.iter().any(|condition| &*condition.kind == "Ready" && &*condition.status == "Unknown")
    }
}

impl Projection for NodeView {
    type Object = Self;
    const KIND: Kind = kinds::NODES;

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.metadata
    }
}
