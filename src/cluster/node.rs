//! Composes a node: container runtime, kubelet, and, once the node has its pod network, proxy, DNS
//! and the way to the other nodes. The same on a server and on an agent.

use super::files::Layout;
use super::join::ClusterNetwork;
use super::options::{Cidr, NodeOptions, Taint, check_reachable};
use super::supervisor::Supervisor;
use crate::api::names;
use crate::apiserver::admission::node_restriction::labels::is_forbidden;
use crate::container::image::registries::Registries;
use crate::container::{self, Config as RuntimeConfig, Runtime};
use crate::kubelet::{self, Kubelet};
use crate::net::addresses::MachineAddresses;
use crate::net::ipam::PodCidr;
use crate::net::overlay::{Overlay, VXLAN_OVERHEAD};
use crate::proxy::peers::NodeView;
use crate::proxy::rules::NodeNetwork;
use crate::runtime::directory_watch::{DirectoryWatch, WatchFlags};
use crate::runtime::{Informer, InformerOptions};
use crate::storage::{LockError, LockFile};
use crate::{dns, proxy};
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The kubelet's port.
pub const KUBELET_PORT: u16 = 10250;

/// Of a link whose MTU nobody says: bytes.
const ETHERNET_MTU: u32 = 1500;

/// On small disks a share of 15 % is much, and the disk is the user's, too: as k3s has it.
const EVICTION_HARD: [(&str, &str); 2] = [("imagefs.available", "5%"), ("nodefs.available", "5%")];

/// After a change in the images directory.
const SETTLE: Duration = Duration::from_millis(200);

/// Everything a node is made of.
pub struct Node {
    pub name: String,
    pub options: NodeOptions,
    /// `<data-dir>/agent`.
    pub data_directory: PathBuf,
    pub network: ClusterNetwork,
    /// The node's own, the first of each family first.
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    pub machine: watch::Receiver<MachineAddresses>,
    /// As `system:node:<name>`.
    pub kubelet_client: kube::Client,
    /// As `system:kube-proxy`.
    pub proxy_client: kube::Client,
    pub serving: watch::Receiver<Arc<rustls::ServerConfig>>,
    pub authorizer: Arc<dyn kubelet::server::Authorizer>,
}

/// Keep a second node off the directories of this one, which `orch killall` finds by it.
pub fn lock(data_directory: &Path) -> Result<LockFile> {
    LockFile::take(&Layout::new(data_directory).node_lock()).map_err(|error| match error {
        LockError::Held { holder, .. } => anyhow!(
            "data directory {} is in use by process {holder}: stop that node, or use another --data-dir",
            data_directory.display()
        ),
        LockError::Io { .. } => error.into(),
    })
}

/// The node's name: as given, else the host's, in lower case.
pub fn name(options: &NodeOptions) -> Result<String> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("read the host name")?.to_string_lossy().to_ascii_lowercase(),
    };
    if let Some(wrong) = crate::api::names::dns_subdomain(&name).first() {
        anyhow::bail!("node name {name:?}: {wrong}; choose one with --node-name");
    }
    Ok(name)
}

/// What a node is told to be and cannot, before anything is started.
pub fn check(options: &NodeOptions) -> Result<()> {
    let name = name(options)?;
    Registries::read(&options.registries).context("--private-registry")?;
    if let Some(path) = &options.resolv_conf {
        std::fs::read(path).with_context(|| format!("--resolv-conf: read {}", path.display()))?;
    }
    if let Some(address) = options.ip {
        check_reachable("node-ip", address)?;
        if std::net::UdpSocket::bind((address, 0)).is_err() {
            tracing::warn!(
                "--node-ip {address} is not an address of this machine: nobody reaches its pods until it is"
            );
        }
    }
    let wrong = |key: &str, value: &str| names::qualified_name(key).into_iter().chain(names::label_value(value)).next();
    for (key, value) in &options.labels {
        if let Some(wrong) = wrong(key, value) {
            bail!("--node-label {key}={value}: {wrong}");
        }
        if is_forbidden(key) {
            bail!(
                "--node-label {key}={value}: a node may not give itself this label: leave it out, and run \"kubectl label node {name} {key}={value}\" when the node is there"
            );
        }
    }
    for Taint { key, value, effect } in &options.taints {
        if let Some(wrong) = wrong(key, value) {
            bail!("--node-taint {key}={value}:{effect}: {wrong}");
        }
    }
    Ok(())
}

/// An id that stays with the machine.
pub fn machine_id() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let id = read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id")).filter(|id| !id.is_empty());
    id.unwrap_or_default()
}

/// The node's addresses as the flags say, else the machine's as they change, else `fallback`.
pub fn node_addresses(
    options: &NodeOptions,
    mut machine: watch::Receiver<MachineAddresses>,
    fallback: Ipv4Addr,
) -> watch::Receiver<Vec<IpAddr>> {
    let given = options.ip;
    let current =
        move |machine: &MachineAddresses| vec![given.unwrap_or_else(|| machine.primary.unwrap_or(fallback).into())];
    let (sender, receiver) = watch::channel(current(&machine.borrow_and_update()));
    tokio::spawn(async move {
        while machine.changed().await.is_ok() {
            let now = current(&machine.borrow_and_update());
            sender.send_if_modified(|list| std::mem::replace(list, now.clone()) != now);
        }
    });
    receiver
}

/// The resolv.conf with the machine's real servers: systemd-resolved's own where `/etc/resolv.conf`
/// names only its loopback stub.
fn resolv_conf(options: &NodeOptions) -> PathBuf {
    const STUB: &str = "/etc/resolv.conf";
    const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    if let Some(path) = &options.resolv_conf {
        return path.clone();
    }
    let only_loopback = std::fs::read_to_string(STUB).is_ok_and(|text| {
        let mut servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).peekable();
        servers.peek().is_some() && servers.all(|server| server.trim().starts_with("127."))
    });
    if only_loopback && Path::new(RESOLVED).exists() { RESOLVED.into() } else { STUB.into() }
}

fn taint(taint: &Taint) -> k8s_openapi::api::core::v1::Taint {
    k8s_openapi::api::core::v1::Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.clone(),
        time_added: None,
    }
}

/// Tells the nodes on one kernel apart; empty for the one in the usual place.
fn instance(data_directory: &Path) -> String {
    if data_directory == Path::new("/var/lib/orch/agent") {
        return String::new();
    }
    let digest = Sha256::digest(data_directory.as_os_str().as_encoded_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl Node {
    /// What the container runtime is opened with; also for the commands that work without a server.
    pub fn runtime_config(data_directory: &Path, run_directory: &Path) -> RuntimeConfig {
        RuntimeConfig {
            data_dir: data_directory.to_owned(),
            run_dir: run_directory.to_owned(),
            instance: instance(data_directory),
            pod_cidr: None,
            mtu: 0,
            registries: PathBuf::new(),
            helper: None,
        }
    }

    /// Start all parts under the supervisor.
    pub async fn start(self, supervisor: &mut Supervisor) -> Result<()> {
        // Pods on every node agree on one MTU that also fits the overlay.
        let mtu = self.machine.borrow().mtu.unwrap_or(ETHERNET_MTU).saturating_sub(VXLAN_OVERHEAD);
        let config = RuntimeConfig {
            mtu,
            registries: self.options.registries.clone(),
            ..Self::runtime_config(&self.data_directory, &self.options.directories.run)
        };
        let runtime = Runtime::open(config).await.context("open the container runtime")?;
        let shutdown = supervisor.shutdown();
        let (ready, network_ready) = watch::channel(Err("the node has no pod network yet".to_owned()));
        let config = self.kubelet_config(network_ready)?;
        runtime.images().expect_import();
        supervisor.spawn(
            "kubelet",
            Kubelet::run(config, runtime.clone(), runtime.clone(), self.kubelet_client.clone(), shutdown.clone()),
        );
        supervisor.spawn(
            "image archives",
            import_images(runtime.clone(), self.data_directory.join("images"), shutdown.clone()),
        );
        supervisor.spawn("image socket", {
            let (runtime, directory, shutdown) =
                (runtime.clone(), self.options.directories.run.clone(), shutdown.clone());
            async move { container::image::control::serve(runtime, &directory, shutdown).await }
        });
        supervisor.spawn("node network", self.network(runtime, ready, shutdown));
        Ok(())
    }

    fn kubelet_config(&self, network_ready: watch::Receiver<Result<(), String>>) -> Result<kubelet::Config> {
        let mut config = kubelet::Config::new(&self.name, self.addresses.clone(), network_ready);
        config.root_directory = self.options.directories.kubelet.clone();
        config.pod_logs_directory = self.options.directories.pod_logs.clone();
        if let Some(logs) = self.options.directories.pod_logs.parent() {
            config.container_logs_directory = logs.join("containers");
        }
        config.static_pod_directory = Some(self.data_directory.join("pod-manifests"));
        config.cluster_dns = vec![self.network.cluster_dns.into()];
        config.cluster_domain = self.network.cluster_domain.clone();
        config.resolv_conf = resolv_conf(&self.options);
        config.node_labels = self.options.labels.clone();
        config.node_taints = self.options.taints.iter().map(taint).collect();
        config.kubelet_version = crate::api::version::KUBERNETES.to_owned();
        config.max_pods = self.options.max_pods;
        config.eviction_hard.extend(EVICTION_HARD.map(|(signal, value)| (signal.to_owned(), value.to_owned())));
        config.server = Some(kubelet::ServerConfig {
            address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), KUBELET_PORT),
            tls: self.serving.clone(),
            authorizer: self.authorizer.clone(),
        });
        super::kubelet_flags::apply(&self.options.kubelet, &mut config)?;
        Ok(config)
    }

    /// Wait for the node's pod network, then run what needs it.
    async fn network(
        self,
        runtime: Arc<Runtime>,
        ready: watch::Sender<Result<(), String>>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let cidr = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            cidr = self.pod_cidr() => cidr?,
        };
        runtime.set_pod_cidr(cidr).await.context("set up the pods' gateway")?;
        let cluster: Cidr = self.network.cluster_cidr.parse().context("the cluster's pod network")?;
        let services: Cidr = self.network.service_cidr.parse().context("the cluster's Service network")?;
        let overlay = Overlay::open()?;
        let (services, pods) = ((services.address, services.prefix), (cluster.address, cluster.prefix));
        overlay.claim(services, pods, cidr.gateway()).await?;
        drop(ready.send_replace(Ok(())));

        let mut parts: JoinSet<Result<()>> = JoinSet::new();
        parts.spawn({
            let shutdown = shutdown.clone();
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => Ok(()),
                    kept = overlay.keep_claimed(services, pods, cidr.gateway()) => kept,
                }
            }
        });
        let without = |part: &str| self.network.disabled.iter().any(|name| name == part);
        if !without("dns") {
            let config = dns::Config {
                listen: SocketAddr::new(cidr.gateway().into(), 53),
                domain: self.network.cluster_domain.clone(),
                resolv_conf: resolv_conf(&self.options),
            };
            parts.spawn(dns::run(config, self.proxy_client.clone(), shutdown.clone()));
        }
        if !without("proxy") {
            let network = NodeNetwork {
                cluster_cidr: self.network.cluster_cidr.clone(),
                service_cidr: self.network.service_cidr.clone(),
                dns_address: cidr.gateway(),
                cluster_dns: self.network.cluster_dns,
                open_ports: vec![self.network.api_port],
            };
            let config = proxy::Config { node_name: self.name.clone(), network };
            let (own, of_node) = (self.proxy_client.clone(), self.kubelet_client.clone());
            parts.spawn(proxy::run(config, own, of_node, shutdown.clone()));
        }
        let peers = proxy::peers::Config {
            node_name: self.name.clone(),
            pod_network: (cidr.network(), cidr.prefix()),
            local: self.local_address(),
        };
        parts.spawn(proxy::peers::run(peers, self.proxy_client.clone(), shutdown.clone()));
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the node's network panicked")??;
            if !shutdown.is_cancelled() {
                anyhow::bail!("a part of the node's network ended by itself");
            }
        }
        Ok(())
    }

    /// The address that other nodes reach this one at, and its link's MTU, as they change.
    fn local_address(&self) -> watch::Receiver<Option<(Ipv4Addr, u32)>> {
        let (mut addresses, machine) = (self.addresses.clone(), self.machine.clone());
        let current = move |addresses: &[IpAddr]| {
            let mtu = machine.borrow().mtu.unwrap_or(ETHERNET_MTU);
            addresses.iter().find_map(|address| match address {
                IpAddr::V4(address) => Some((*address, mtu)),
                IpAddr::V6(_) => None,
            })
        };
        let (sender, receiver) = watch::channel(current(&addresses.borrow_and_update()));
        tokio::spawn(async move {
            while addresses.changed().await.is_ok() {
                sender.send_replace(current(&addresses.borrow_and_update()));
            }
        });
        receiver
    }

    async fn pod_cidr(&self) -> Result<PodCidr> {
        let own =
            InformerOptions { field_selector: Some(format!("metadata.name={}", self.name)), ..Default::default() };
        let informer: Informer<NodeView> = Informer::start(self.kubelet_client.clone(), own);
        let mut changes = informer.store().changes();
        while let Some((_, node)) = changes.recv().await {
            if let Some((address, prefix)) = node.and_then(|node| node.pod_network) {
                return format!("{address}/{prefix}").parse();
            }
        }
        anyhow::bail!("the watch of the own node ended")
    }
}

/// Import the archives of the images directory, now and whenever one is put there.
async fn import_images(runtime: Arc<Runtime>, directory: PathBuf, shutdown: CancellationToken) -> Result<()> {
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
    let changes = DirectoryWatch::new(&directory, flags).with_context(|| format!("watch {}", directory.display()))?;
    loop {
        for error in runtime.images().import_directory().await {
            tracing::error!("{error:#}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = changes.changed() => changed.context("watch the images directory")?,
        }
        // Archives that are copied one after the other come together.
        tokio::time::sleep(SETTLE).await;
    }
}
