//! The container runtime interface: what a kubelet asks of a container runtime.
//!
//! The shapes follow `k8s.io/cri-api` (`runtime.v1`), reduced to what Linux needs. The kubelet
//! calls [`ContainerRuntime`] and [`ImageService`]; `container` implements them with libcontainer,
//! tests with a fake. Times are wall clock, durations monotonic.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot};

pub type Result<T> = std::result::Result<T, CriError>;

/// What went wrong, as far as the kubelet acts on it. The text names the object and the mend.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CriError {
    #[error("{0}")]
    NotFound(String),
    /// The image reference does not parse: `InvalidImageName`.
    #[error("{0}")]
    InvalidImageName(String),
    /// The registry refused or did not have it: `ErrImagePull`.
    #[error("{0}")]
    ImagePull(String),
    /// The registry could not be reached: `RegistryUnavailable`.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The command is not found or cannot be executed: `StartError`, exit code 127 or 126 (128 otherwise).
    #[error("{message}")]
    StartFailed { exit_code: i32, message: String },
    #[error("{0}")]
    DeadlineExceeded(String),
    #[error("{0}")]
    Internal(String),
}

/// A pod sandbox: the pause process, its namespaces, address and cgroup. 64 hex digits.
pub type SandboxId = String;
/// A container. 64 hex digits.
pub type ContainerId = String;

/// Where a namespace comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NamespaceMode {
    /// One for the pod.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The machine's own.
    Node,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PodSandboxConfig {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// How often the sandbox was made before.
    pub attempt: u32,
    pub hostname: String,
    /// `/etc/resolv.conf` of the pod.
    pub dns: DnsConfig,
    /// `/var/log/pods/<ns>_<name>_<uid>`.
    pub log_directory: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    /// `hostUsers: false`: a user namespace; host id of the first of `length` ids.
    pub user_namespace: Option<IdMapping>,
    pub sysctls: BTreeMap<String, String>,
    /// Path below the pods' cgroup root, made by the runtime: `burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Limits of the whole pod.
    pub resources: LinuxResources,
    /// kubernetes.io/ingress-bandwidth and egress-bandwidth, bytes per second.
    pub ingress_bandwidth: Option<u64>,
    pub egress_bandwidth: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMapping {
    pub host_id: u32,
    pub length: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodSandboxStatus {
    pub id: SandboxId,
    pub config: PodSandboxConfig,
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Empty with the host's network.
    pub ips: Vec<IpAddr>,
}

/// Cgroup limits in Kubernetes's units. `None` or zero: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinuxResources {
    /// cgroup v1 scale (2..=262144); the runtime converts to cpu.weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per `cpu_period`.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    pub oom_score_adj: i32,
    pub pids_limit: Option<i64>,
    /// Page size ("2MB") to bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files and values as they are (memory.min …).
    pub unified: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    pub attempt: u32,
    /// As the pod names it, for status.
    pub image: String,
    /// The image's id, from [`ImageService::pull_image`] or [`ImageService::image_status`].
    pub image_id: String,
    /// Empty: the image's entrypoint.
    pub command: Vec<String>,
    /// Empty with an empty command: the image's cmd.
    pub args: Vec<String>,
    pub working_dir: String,
    /// In order; later ones win.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory: `<container>/<attempt>.log`.
    pub log_path: PathBuf,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: LinuxResources,
    pub security: SecurityContext,
    /// Signal of a graceful stop, by name; empty: the image's, else SIGTERM.
    pub stop_signal: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// Absolute, inside the container.
    pub container_path: PathBuf,
    /// Absolute, on the host; already resolved beneath its volume.
    pub host_path: PathBuf,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: MountPropagation,
    /// An image volume: mount this image's root file system instead of `host_path`.
    pub image_id: Option<String>,
    pub image_sub_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    /// Of `rwm`.
    pub permissions: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SeccompProfile {
    #[default]
    RuntimeDefault,
    Unconfined,
    /// A file on the host.
    Localhost(PathBuf),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityContext {
    pub privileged: bool,
    /// None: the image's user.
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// User by name, from the image, where `run_as_user` is not set.
    pub supplemental_groups: Vec<i64>,
    /// Only those of `supplemental_groups`; the image's /etc/group is not read.
    pub strict_supplemental_groups: bool,
    pub readonly_rootfs: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub seccomp: SeccompProfile,
    /// None: the default; Some([]): nothing (procMount Unmasked).
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    /// The pid namespace: the pod's, an own one, or the node's; `target_pid_of` overrides it.
    pub pid: NamespaceMode,
    /// Ephemeral containers: join this container's pid namespace.
    pub target_container: Option<ContainerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// The shim or the record is gone.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox_id: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    /// Nanoseconds since the epoch; 0: not yet.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    /// 128 + signal when it was killed.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// `OOMKilled`, `Completed`, `Error`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub log_path: PathBuf,
    /// The limits in force, read back from the cgroup.
    pub resources: Option<LinuxResources>,
    /// uid, gid, supplementary groups of the first process.
    pub user: Option<(u32, u32, Vec<u32>)>,
}

/// A container changed state; the kubelet relists on `Lagged`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeEvent {
    pub pod_uid: String,
    pub sandbox_id: SandboxId,
    /// None: the sandbox itself.
    pub container_id: Option<ContainerId>,
}

pub struct ExecOutput {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

pub type Input = Box<dyn AsyncWrite + Send + Unpin>;
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A running exec or attach session; dropping it hangs up.
pub struct Session {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub resize: mpsc::Sender<TerminalSize>,
    /// The exit code; for attach, when the container ended or the streams closed.
    pub exit: oneshot::Receiver<Result<i32>>,
}

/// Usage counters of one container or of a whole pod cgroup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupStats {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    pub cpu_usage_core_nanos: u64,
    pub memory_usage_bytes: u64,
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub memory_page_faults: u64,
    pub memory_major_page_faults: u64,
    pub process_count: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerStats {
    pub id: ContainerId,
    pub cgroup: CgroupStats,
    /// The writable layer.
    pub rootfs_used_bytes: u64,
    pub rootfs_inodes_used: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxStats {
    pub id: SandboxId,
    pub cgroup: CgroupStats,
    /// Of the pod's eth0.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub containers: Vec<ContainerStats>,
}

/// Pod sandboxes and containers.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Name and version, for node status: (`orch`, `0.1.0`).
    fn version(&self) -> (String, String);

    /// Make and start a sandbox; on error nothing of it is left.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<PodSandboxStatus>;
    /// Kill all its containers and release its address. Idempotent.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Remove it and its containers' records. Idempotent; goes on after an error and reports them all.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>>;
    /// Change the limits of the pod's cgroup.
    async fn update_pod_sandbox(&self, id: &str, resources: &LinuxResources) -> Result<()>;

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Stop signal, then SIGKILL after `grace`. Returns when it is gone. Idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    /// All of the node, or of one sandbox.
    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>>;
    async fn update_container(&self, id: &str, resources: &LinuxResources) -> Result<()>;
    /// The log file was renamed: open it anew.
    async fn reopen_log(&self, id: &str) -> Result<()>;

    /// Run to the end; `DeadlineExceeded` after `timeout` (zero: none). Output is bounded at 16 MiB.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session>;
    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session>;
    /// A connection to a port on the pod's loopback.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream>;

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>>;
    /// State changes from now on.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Digest of the config: `sha256:…`.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Numeric user, or name, of the image's config.
    pub uid: Option<i64>,
    pub username: String,
    pub pinned: bool,
}

/// A credential for one registry; empty fields: anonymous.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    pub identity_token: String,
    pub registry_token: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilesystemUsage {
    pub mountpoint: PathBuf,
    pub used_bytes: u64,
    pub inodes_used: u64,
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// The node's images.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// By reference, digest or id; None: not here.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    /// Pull from its registry or a mirror; tries the credentials in order, then anonymously.
    async fn pull_image(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image>;
    async fn remove_image(&self, image: &str) -> Result<()>;
    async fn filesystem(&self) -> Result<FilesystemUsage>;
}
