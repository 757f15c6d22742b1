//! The runtime's state: what sandboxes and containers there are, kept in step with their shims.
//!
//! Memory is authoritative while orch runs; [`super::record`] and the shims bring it back after a
//! restart. A watcher task per sandbox follows its shim's events; nothing polls.

use super::binary::{self, Binary};
use super::cgroup::Cgroups;
use super::image::ImageStore;
use super::process::{boot_id, now};
use super::record::{self, ContainerRecord, SandboxRecord};
use super::shim::protocol::{Exit, Reply, Request, Running};
use super::shim_client::Connection;
use crate::api::cri::{ContainerState, CriError, RuntimeEvent};
use crate::net::ipam::{Ipam, PodCidr};
use crate::net::link;
use anyhow::{Context, Result};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

/// Where the runtime lives, and what distinguishes it from another one on the same kernel.
#[derive(Clone, Debug)]
pub struct Config {
    /// `/var/lib/orch/agent`: images, records, writable layers.
    pub data_dir: PathBuf,
    /// `/run/orch`: sockets, bundles, mounts; mode 0700.
    pub run_dir: PathBuf,
    /// Part of every name outside these directories; empty for the node that has the machine to itself.
    pub instance: String,
    /// Of this node, once it is known; see [`Runtime::set_pod_cidr`].
    pub pod_cidr: Option<PodCidr>,
    /// Of pod links; zero: the kernel's default.
    pub mtu: u32,
    /// Mirrors and credentials, `/etc/orch/registries.yaml`; need not exist.
    pub registries: PathBuf,
    /// The binary that helpers are run from; None: the one of this process.
    pub helper: Option<PathBuf>,
}

pub(super) struct Sandbox {
    pub record: SandboxRecord,
    pub ready: bool,
}

pub(super) struct Container {
    pub record: ContainerRecord,
    pub state: ContainerState,
    pub exit: Option<Exit>,
    /// True once it ended.
    pub ended: watch::Sender<bool>,
}

#[derive(Default)]
pub(super) struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
}

/// Sandboxes, containers and images of one node.
pub struct Runtime {
    pub(super) config: Config,
    pub(super) cgroups: Cgroups,
    pub(super) ipam: Ipam,
    pub(super) images: Arc<ImageStore>,
    pub(super) binary: Arc<Binary>,
    pub(super) state: Mutex<State>,
    pub(super) pod_cidr: Mutex<Option<PodCidr>>,
    /// `CAP_…` names that this process could give.
    pub(super) capabilities: Vec<String>,
    pub(super) open_files: u64,
    /// Compiled seccomp profiles: most containers have the same one.
    filters: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    events: broadcast::Sender<RuntimeEvent>,
    watchers: Mutex<JoinSet<()>>,
    pub(super) own: Weak<Runtime>,
}

impl Runtime {
    /// Open the stores and find the sandboxes and containers of before again.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        if !nix::unistd::geteuid().is_root() {
            anyhow::bail!("the container runtime needs root: run orch as root");
        }
        for directory in
            [&config.data_dir, &config.run_dir, &config.run_dir.join("s"), &config.data_dir.join("sandboxes")]
        {
            record::private_directory(directory)?;
        }
        let binary = Arc::new(Binary::open(config.helper.as_deref().unwrap_or(Path::new(binary::OWN)))?);
        let prepared = {
            let (config, binary) = (config.clone(), Arc::clone(&binary));
            tokio::task::spawn_blocking(move || -> Result<_> {
                let cgroups = Cgroups::open(&config.instance)?;
                let ipam = Ipam::open(&config.data_dir.join("network"))?;
                let images = ImageStore::open(&config.data_dir, &config.registries, binary)?;
                Ok((cgroups, ipam, images))
            })
        };
        let (cgroups, ipam, images) = prepared.await.context("open the stores")??;
        let capabilities = caps::read(None, caps::CapSet::Bounding).context("read the own capabilities")?;
        let (_, open_files) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        let runtime = Arc::new_cyclic(|own| Self {
            pod_cidr: Mutex::new(None),
            cgroups,
            ipam,
            images: Arc::new(images),
            binary,
            state: Mutex::default(),
            capabilities: capabilities.into_iter().map(|capability| capability.to_string()).collect(),
            open_files,
            filters: Mutex::default(),
            events: broadcast::Sender::new(1024),
            watchers: Mutex::default(),
            own: own.clone(),
            config,
        });
        runtime.recover().await?;
        if let Some(cidr) = runtime.config.pod_cidr {
            runtime.set_pod_cidr(cidr).await?;
        }
        Ok(runtime)
    }

    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    /// The network for the pods of this node became known: the node gets the gateway's address.
    pub async fn set_pod_cidr(&self, cidr: PodCidr) -> Result<()> {
        let label = gateway_label(&self.config.instance);
        tokio::task::spawn_blocking(move || link::ensure_gateway(&label, cidr)).await??;
        *self.pod_cidr.lock() = Some(cidr);
        Ok(())
    }

    /// The filter program of a seccomp profile.
    pub(super) fn filter(&self, profile: &serde_json::Value) -> Result<Arc<Vec<u8>>> {
        /// Profiles come from pods: what is kept of them is bounded.
        const KEPT: usize = 16;
        let text = profile.to_string();
        if let Some(filter) = self.filters.lock().get(&text) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(super::spec::filter::compile(profile)?);
        let mut filters = self.filters.lock();
        if filters.len() >= KEPT {
            filters.pop_first();
        }
        filters.insert(text, Arc::clone(&filter));
        Ok(filter)
    }

    pub(super) fn sandbox_data(&self, id: &str) -> PathBuf {
        self.config.data_dir.join("sandboxes").join(id)
    }

    pub(super) fn sandbox_run(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("s").join(id)
    }

    pub(super) fn container_data(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox_data(sandbox).join(id)
    }

    pub(super) fn bundle(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox_run(sandbox).join("c").join(id)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    pub(super) fn emit(&self, sandbox: &str, container: Option<&str>) {
        let pod_uid = self.state.lock().sandboxes.get(sandbox).map(|sandbox| sandbox.record.config.uid.clone());
        // Nobody listens yet: they list when they begin.
        let _ = self.events.send(RuntimeEvent {
            pod_uid: pod_uid.unwrap_or_default(),
            sandbox_id: sandbox.to_owned(),
            container_id: container.map(str::to_owned),
        });
    }

    /// The id of the one whose id begins so, as command lines abbreviate it.
    pub(super) fn container_field<T>(&self, id: &str, read: impl FnOnce(&Container) -> T) -> Result<T, CriError> {
        let state = self.state.lock();
        state.containers.get(id).map(read).ok_or_else(|| CriError::NotFound(format!("container {id} does not exist")))
    }

    pub(super) fn sandbox_field<T>(&self, id: &str, read: impl FnOnce(&Sandbox) -> T) -> Result<T, CriError> {
        let state = self.state.lock();
        state.sandboxes.get(id).map(read).ok_or_else(|| CriError::NotFound(format!("pod sandbox {id} does not exist")))
    }

    /// Follow a shim. Its end is the end of what it owned.
    pub(super) fn watch(&self, sandbox: String, connection: Connection) {
        let own = self.own.clone();
        let mut watchers = self.watchers.lock();
        while watchers.try_join_next().is_some() {}
        watchers.spawn(async move {
            loop {
                let message = connection.receive().await;
                let Some(runtime) = own.upgrade() else { return };
                match message {
                    Ok(Some((Reply::Event { container: Some(container), exit }, _))) => {
                        runtime.container_ended(&container, exit).await;
                    }
                    Ok(Some((Reply::Event { container: None, .. }, _))) => runtime.pause_ended(&sandbox),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return runtime.shim_ended(&sandbox).await,
                }
            }
        });
    }

    pub(super) async fn container_ended(&self, id: &str, exit: Exit) {
        let ended = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get_mut(id) else { return };
            if container.exit.is_some() {
                return;
            }
            container.state = ContainerState::Exited;
            container.exit = Some(exit);
            (container.record.clone(), container.ended.clone())
        };
        let (record, sender) = ended;
        self.emit(&record.sandbox_id, Some(id));
        sender.send_replace(true);
        self.clear_container(&record).await;
    }

    /// Nothing of an ended container but its record and its writable layer stays.
    async fn clear_container(&self, record: &ContainerRecord) {
        let parent = self.sandbox_field(&record.sandbox_id, |sandbox| sandbox.record.config.cgroup_parent.clone());
        let bundle = self.bundle(&record.sandbox_id, &record.id);
        let group = parent.ok().map(|parent| self.cgroups.group(&format!("{parent}/{}", record.id)));
        let id = record.id.clone();
        let cleared = tokio::task::spawn_blocking(move || -> Result<()> {
            let removed = group.map_or(Ok(()), |group| group.remove());
            record::remove_directory(&bundle)?;
            removed
        });
        if let Err(error) = cleared.await.map_err(anyhow::Error::from).and_then(|outcome| outcome) {
            tracing::warn!("container {id}: clear up: {error:#}");
        }
    }

    fn pause_ended(&self, id: &str) {
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.ready = false;
        }
        self.emit(id, None);
    }

    /// The shim died without being asked to: what it owned cannot be known or controlled any more.
    async fn shim_ended(&self, id: &str) {
        let (stopped, group) = {
            let mut state = self.state.lock();
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return };
            let stopped = std::mem::replace(&mut sandbox.ready, false) && sandbox.record.stopped;
            (stopped, self.cgroups.group(&sandbox.record.config.cgroup_parent))
        };
        if !stopped {
            let killed = tokio::task::spawn_blocking(move || group.kill(std::time::Duration::from_secs(10))).await;
            if let Ok(Err(error)) = killed {
                tracing::warn!("pod sandbox {id}: end what its shim left: {error:#}");
            }
        }
        self.lose_containers(id, "the shim of the pod ended").await;
        self.emit(id, None);
    }

    /// All containers of a sandbox that have not ended by their own account end as unknown, unless the
    /// shim wrote down how.
    pub(super) async fn lose_containers(&self, sandbox: &str, why: &str) {
        let left: Vec<String> = {
            let state = self.state.lock();
            let left = state.containers.values().filter(|container| {
                container.record.sandbox_id == sandbox && container.state == ContainerState::Running
            });
            left.map(|container| container.record.id.clone()).collect()
        };
        for id in left {
            let recorded = record::read_exit(&self.container_data(sandbox, &id)).ok().flatten();
            let exit = recorded.unwrap_or_else(|| lost(why));
            self.container_ended(&id, exit).await;
        }
    }

    /// Read the records, ask the shims, end what is of an earlier boot.
    async fn recover(&self) -> Result<()> {
        let root = self.config.data_dir.join("sandboxes");
        for id in record::directories(&root)? {
            let directory = root.join(&id);
            match record::read::<SandboxRecord>(&directory.join(record::SANDBOX)) {
                Ok(Some(sandbox)) => self.recover_sandbox(sandbox).await?,
                // Cut short before the record was there, or damaged by a power cut.
                outcome => {
                    if let Err(error) = outcome {
                        tracing::warn!("pod sandbox {id} is dropped: {error:#}");
                    }
                    record::remove_directory(&directory)?;
                }
            }
        }
        // Run directories without a record are of sandboxes that were never finished.
        for id in record::directories(&self.config.run_dir.join("s"))? {
            if !self.state.lock().sandboxes.contains_key(&id) {
                self.clear_run_directory(&id)?;
            }
        }
        let owners: BTreeSet<String> = {
            let state = self.state.lock();
            state
                .sandboxes
                .values()
                .filter(|sandbox| !sandbox.record.stopped)
                .map(|sandbox| sandbox.record.id.clone())
                .collect()
        };
        self.ipam.release_except(&owners)
    }

    async fn recover_sandbox(&self, mut sandbox: SandboxRecord) -> Result<()> {
        let id = sandbox.id.clone();
        let same_boot = sandbox.boot_id == boot_id();
        let mut containers = Vec::new();
        for name in record::directories(&self.sandbox_data(&id))? {
            let directory = self.container_data(&id, &name);
            match record::read::<ContainerRecord>(&directory.join(record::CONTAINER)) {
                Ok(Some(container)) => containers.push(container),
                Ok(None) | Err(_) => record::remove_directory(&directory)?,
            }
        }
        let finished = sandbox.shim.is_some();
        let connection = if same_boot && !sandbox.stopped && finished { self.reconnect(&id).await } else { None };
        if connection.is_none() && !sandbox.stopped {
            if same_boot {
                self.end_leftovers(&sandbox).await;
            }
            sandbox.stopped = true;
            sandbox.ips.clear();
            record::write(&self.sandbox_data(&id).join(record::SANDBOX), &sandbox)?;
        }
        let (running, ready) = match &connection {
            Some((_, running, pause_alive)) => (running.clone(), *pause_alive),
            None => (Vec::new(), false),
        };
        let why = if same_boot { "the shim of the pod is gone" } else { "the machine was restarted" };
        {
            let mut state = self.state.lock();
            state.sandboxes.insert(id.clone(), Sandbox { record: sandbox, ready });
            for mut container in containers {
                // Behind the shim's answer: what it no longer runs has its record by then.
                let exit = record::read_exit(&self.container_data(&id, &container.id)).ok().flatten();
                let live = running.iter().find(|running| running.container == container.id).cloned();
                let (container_state, exit) = match (&live, exit) {
                    (_, Some(exit)) => (ContainerState::Exited, Some(exit)),
                    (Some(_), None) => (ContainerState::Running, None),
                    (None, None) if container.running.is_none() => (ContainerState::Created, None),
                    (None, None) => (ContainerState::Exited, Some(lost(why))),
                };
                container.running = live.or(container.running);
                let ended = watch::Sender::new(exit.is_some());
                state
                    .containers
                    .insert(container.id.clone(), Container { record: container, state: container_state, exit, ended });
            }
        }
        match connection {
            Some((connection, ..)) => self.watch(id, connection),
            None => self.clear_run_directory(&id)?,
        }
        Ok(())
    }

    /// Subscribed first, so that nothing ends unseen between the two answers.
    async fn reconnect(&self, id: &str) -> Option<(Connection, Vec<Running>, bool)> {
        let connection = Connection::open(&self.sandbox_run(id)).ok()?;
        connection.call(&Request::Subscribe, &[]).await.ok()?;
        let (reply, _) = super::shim_client::call(&self.sandbox_run(id), &Request::State, &[]).await.ok()?;
        match reply {
            Reply::State { running, pause_alive } => Some((connection, running, pause_alive)),
            _ => None,
        }
    }

    /// A sandbox of this boot whose shim is gone: end its processes, link and cgroups.
    async fn end_leftovers(&self, sandbox: &SandboxRecord) {
        let group = self.cgroups.group(&sandbox.config.cgroup_parent);
        let processes = [sandbox.shim.clone(), sandbox.pause.clone()];
        let host_link = sandbox.host_link.clone();
        let ended = tokio::task::spawn_blocking(move || -> Vec<anyhow::Error> {
            let mut errors = Vec::new();
            for process in processes.iter().flatten() {
                errors.extend(process.signal(libc::SIGKILL).err().map(anyhow::Error::from));
            }
            errors.extend(group.kill(std::time::Duration::from_secs(10)).err());
            errors.extend(group.remove().err());
            if !host_link.is_empty() {
                errors.extend(link::Netlink::open().and_then(|mut host| host.delete_link(&host_link)).err());
            }
            errors
        });
        for error in ended.await.unwrap_or_else(|error| vec![error.into()]) {
            tracing::warn!("pod sandbox {}: end what is left of it: {error:#}", sandbox.id);
        }
    }

    /// Unmount and remove a sandbox's run directory.
    pub(super) fn clear_run_directory(&self, id: &str) -> Result<()> {
        let directory = self.sandbox_run(id);
        unmount(&directory.join(super::sandbox::SHM))?;
        record::remove_directory(&directory)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.watchers.lock().abort_all();
    }
}

/// How a container ended whose shim cannot say it.
pub(super) fn lost(why: &str) -> Exit {
    Exit {
        exit_code: 137,
        finished_at: now(),
        reason: "ContainerStatusUnknown".into(),
        message: format!("The container could not be located: {why}"),
        ..Exit::default()
    }
}

/// Detach what is mounted at a path; nothing there is fine.
pub(super) fn unmount(path: &std::path::Path) -> Result<()> {
    use rustix::io::Errno;
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmount {}", path.display())),
    }
}

/// What the pods' gateway address is found by; a label begins with the interface's name.
pub(super) fn gateway_label(instance: &str) -> String {
    if instance.is_empty() { "lo:orch".into() } else { format!("lo:{instance:.12}") }
}

/// What the names of this instance's pod links begin with.
pub(super) fn link_prefix(instance: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(instance.as_bytes());
    format!("o{:02x}{:02x}", digest[0], digest[1])
}
