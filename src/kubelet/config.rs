//! What the kubelet is told at start: names, directories, reserves, thresholds.
//!
//! Defaults are Kubernetes's (KubeletConfiguration v1beta1) unless noted.

use super::server::Authorizer;
use super::volumes::Mounter;
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub struct Config {
    pub node_name: String,
    /// The machine's addresses that the node publishes, the first of each family first. A change
    /// is published at once.
    pub node_addresses: watch::Receiver<Vec<IpAddr>>,
    /// Pods, volumes, checkpoints: `/var/lib/kubelet`.
    pub root_directory: PathBuf,
    /// `/var/log/pods`.
    pub pod_logs_directory: PathBuf,
    /// Links by container: `/var/log/containers`.
    pub container_logs_directory: PathBuf,
    /// Manifests of static pods; None: none.
    pub static_pod_directory: Option<PathBuf>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolver file, for `dnsPolicy: Default` and search domains.
    pub resolv_conf: PathBuf,
    /// The node's hosts file, for pods in its network.
    pub hosts_file: PathBuf,
    pub register_node: bool,
    pub node_labels: BTreeMap<String, String>,
    /// Given to the node when it first registers.
    pub node_taints: Vec<Taint>,
    pub provider_id: Option<String>,
    /// `v1.36.0+orch`.
    pub kubelet_version: String,
    pub max_pods: u32,
    /// Of each pod; None: as the kernel allows.
    pub pod_pids_limit: Option<i64>,
    /// Taken off capacity: resource name to quantity.
    pub reserved: BTreeMap<String, String>,
    /// Signal (`memory.available`, `nodefs.available`, `nodefs.inodesFree`, `imagefs.available`,
    /// `imagefs.inodesFree`, `pid.available`) to a quantity or a percentage.
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_pressure_transition: Duration,
    /// Percent of the image file system above which images are removed, and down to which.
    pub image_gc_high: u8,
    pub image_gc_low: u8,
    pub image_minimum_age: Duration,
    /// Bytes.
    pub container_log_max_size: u64,
    pub container_log_max_files: u32,
    pub node_lease_duration: Duration,
    /// At most so long between two writes of an unchanged node status.
    pub node_status_report: Duration,
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The node's HTTPS server; None: none (tests).
    pub server: Option<ServerConfig>,
    /// Mounts of volumes: the kernel's, or none (tests without root).
    pub mounter: Arc<dyn Mounter>,
    /// More of the node's life to put in its conditions: why it is not ready, empty: it is.
    pub network_ready: watch::Receiver<Result<(), String>>,
}

/// Where and to whom the node's HTTPS server answers.
#[derive(Clone)]
pub struct ServerConfig {
    pub address: SocketAddr,
    /// As it is now. Client certificates are optional and only proven to be held: the authorizer
    /// checks who signed them.
    pub tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    pub authorizer: Arc<dyn Authorizer>,
}

impl Config {
    /// Defaults for a node of that name below `/var`.
    pub fn new(
        node_name: &str,
        node_addresses: watch::Receiver<Vec<IpAddr>>,
        network_ready: watch::Receiver<Result<(), String>>,
    ) -> Self {
        let text = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        Self {
            node_name: node_name.to_owned(),
            node_addresses,
            root_directory: PathBuf::from("/var/lib/kubelet"),
            pod_logs_directory: PathBuf::from("/var/log/pods"),
            container_logs_directory: PathBuf::from("/var/log/containers"),
            static_pod_directory: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            hosts_file: PathBuf::from("/etc/hosts"),
            register_node: true,
            node_labels: BTreeMap::new(),
            node_taints: Vec::new(),
            provider_id: None,
            kubelet_version: "v1.36.0+orch".to_owned(),
            max_pods: 110,
            pod_pids_limit: None,
            reserved: BTreeMap::new(),
            eviction_hard: text(&[
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
                ("imagefs.inodesFree", "5%"),
            ]),
            eviction_pressure_transition: Duration::from_secs(300),
            image_gc_high: 85,
            image_gc_low: 80,
            image_minimum_age: Duration::from_secs(120),
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            node_lease_duration: Duration::from_secs(40),
            node_status_report: Duration::from_secs(300),
            allowed_unsafe_sysctls: Vec::new(),
            server: None,
            mounter: Arc::new(super::volumes::KernelMounter),
            network_ready,
        }
    }

    /// `<root>/pods/<uid>`.
    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.root_directory.join("pods").join(uid)
    }

    /// `/var/log/pods/<namespace>_<name>_<uid>`.
    pub fn pod_log_directory(&self, pod: &super::pod::PodKey) -> PathBuf {
        self.pod_logs_directory.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }
}
