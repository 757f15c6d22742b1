//! Pod sandboxes: the cgroup, the shim with its pause, the address and the link.
//!
//! The record is written before anything that it names is made, so a crash between the two leaves
//! nothing that a start does not find and remove.

use super::process::{boot_id, now};
use super::record::{self, SandboxRecord};
use super::runtime::{Runtime, Sandbox, link_prefix, unmount};
use super::shim::protocol::{Ready, Request, ShimConfig};
use super::shim::{self};
use super::shim_client::{self, Connection};
use crate::api::cri::{ContainerState, DnsConfig, LinuxResources, NamespaceMode, PodSandboxConfig, PodSandboxStatus};
use crate::net::link::{self, PodLink};
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// In the run directory: the pod's /dev/shm, and files of its containers.
pub const SHM: &str = "shm";
pub const RESOLV_CONF: &str = "resolv.conf";
pub const HOSTNAME: &str = "hostname";

const SHM_SIZE: &str = "64m";
const START_PATIENCE: Duration = Duration::from_secs(60);
/// What limits a pause and its shim: nothing but their own size.
const PAUSE_OOM_SCORE_ADJ: i32 = -998;

/// 64 hex digits.
pub fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Runtime {
    pub(super) async fn start_sandbox(&self, config: &PodSandboxConfig) -> Result<PodSandboxStatus> {
        let runtime = self.own.upgrade().context("the runtime is closing")?;
        let id = new_id();
        let named = format!("pod {}/{}", config.namespace, config.name);
        match runtime.try_start_sandbox(&id, config).await {
            Ok(status) => {
                runtime.emit(&id, None);
                Ok(status)
            }
            Err(error) => {
                if let Err(cleanup) = runtime.remove_sandbox(&id).await {
                    tracing::warn!("{named}: clear up after a failed start: {cleanup:#}");
                }
                Err(error.context(named))
            }
        }
    }

    async fn try_start_sandbox(self: &Arc<Self>, id: &str, config: &PodSandboxConfig) -> Result<PodSandboxStatus> {
        if config.cgroup_parent.split('/').any(|part| part == "..") || config.cgroup_parent.is_empty() {
            bail!("cgroup parent {:?} is not a path below the pods' root", config.cgroup_parent);
        }
        let mut record = SandboxRecord {
            id: id.to_owned(),
            config: config.clone(),
            boot_id: boot_id().to_owned(),
            created_at: now(),
            ips: Vec::new(),
            host_link: String::new(),
            shim: None,
            pause: None,
            stopped: false,
        };
        let wants_network = config.network != NamespaceMode::Node;
        let cidr = *self.pod_cidr.lock();
        let cidr = match (wants_network, cidr) {
            (true, None) => bail!("the node has no pod network yet: its podCIDR is not assigned"),
            (_, cidr) => cidr,
        };
        if wants_network {
            record.host_link = format!("{}{}", link_prefix(&self.config.instance), &id[..10]);
        }
        let record_path = self.sandbox_data(id).join(record::SANDBOX);
        // Known from the start, so that whatever fails below is cleared up.
        self.state.lock().sandboxes.insert(id.to_owned(), Sandbox { record: record.clone(), ready: false });
        let runtime = Arc::clone(self);
        let mut record = tokio::task::spawn_blocking(move || -> Result<_> {
            record::private_directory(&runtime.sandbox_data(&record.id))?;
            record::write(&runtime.sandbox_data(&record.id).join(record::SANDBOX), &record)?;
            if let (true, Some(cidr)) = (wants_network, cidr) {
                record.ips = vec![runtime.ipam.allocate(cidr, &record.id)?];
            }
            runtime.prepare_sandbox(&record)?;
            Ok(record)
        })
        .await??;
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.record = record.clone();
        }

        let (shim, pause) = self.spawn_shim(id).await?;
        record.shim = Some(shim);
        record.pause = Some(pause.clone());
        // Known at once: if the rest fails, the shim is ended too.
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.record = record.clone();
        }
        let runtime = Arc::clone(self);
        let record = tokio::task::spawn_blocking(move || -> Result<_> {
            record::write(&record_path, &record)?;
            if let (Some(IpAddr::V4(address)), Some(cidr)) = (record.ips.first(), cidr) {
                let namespace = link::namespace_of(pause.pid)?;
                let link = PodLink {
                    host_name: &record.host_link,
                    address: *address,
                    gateway: cidr.gateway(),
                    mtu: runtime.config.mtu,
                };
                link::connect(&link, namespace.as_fd())?;
            }
            Ok(record)
        })
        .await??;
        let connection = Connection::open(&self.sandbox_run(id))?;
        connection.call(&Request::Subscribe, &[]).await?;
        self.watch(id.to_owned(), connection);
        let sandbox = Sandbox { record, ready: true };
        let status = status(&sandbox);
        self.state.lock().sandboxes.insert(id.to_owned(), sandbox);
        Ok(status)
    }

    /// The run directory, cgroups and files.
    fn prepare_sandbox(&self, record: &SandboxRecord) -> Result<()> {
        let config = &record.config;
        let run = self.sandbox_run(&record.id);
        record::private_directory(&run.join("c"))?;
        let pod = self.cgroups.group(&config.cgroup_parent);
        pod.create()?;
        pod.apply(&config.resources).with_context(|| format!("limits of the pod's cgroup {}", pod.path()))?;
        let pause = self.cgroups.group(&format!("{}/{}", config.cgroup_parent, record.id));
        pause.create()?;
        let shims = self.cgroups.group("shims");
        shims.create()?;

        write_public(&run.join(RESOLV_CONF), resolv_conf(&config.dns)?.as_bytes())?;
        let hostname = match config.network {
            NamespaceMode::Node => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
            _ => config.hostname.clone(),
        };
        write_public(&run.join(HOSTNAME), format!("{hostname}\n").as_bytes())?;
        if config.ipc != NamespaceMode::Node {
            mount_shm(&run.join(SHM), config)?;
        }
        if config.user_namespace.is_some() {
            // Its root must be able to walk to its bundle; what is secret there is closed by its own mode.
            for directory in [&self.config.run_dir, &self.config.run_dir.join("s"), &run, &run.join("c")] {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
            }
        }
        let shim = ShimConfig {
            sandbox: record.id.clone(),
            shim_cgroups: shims.procs_files(),
            pause_cgroups: pause.procs_files(),
            hostname: if config.network == NamespaceMode::Node { String::new() } else { config.hostname.clone() },
            new_network: config.network != NamespaceMode::Node,
            new_ipc: config.ipc != NamespaceMode::Node,
            new_pid: config.pid == NamespaceMode::Pod,
            user_namespace: config.user_namespace.map(|map| (map.host_id, map.length)),
            sysctls: sysctls(config),
            oom_score_adj: PAUSE_OOM_SCORE_ADJ,
            records: self.sandbox_data(&record.id),
        };
        record::write(&run.join(shim::CONFIG), &shim)
    }

    async fn spawn_shim(&self, id: &str) -> Result<(super::process::ProcessIdentity, super::process::ProcessIdentity)> {
        let run = self.sandbox_run(id);
        let log = fs::File::create(run.join("shim.log")).context("make the shim's log")?;
        let mut child = tokio::process::Command::new(self.binary.path())
            .arg0("orch")
            .arg("shim")
            .arg(&run)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start the shim")?;
        let mut text = Vec::new();
        let mut out = child.stdout.take().context("the shim has no output")?;
        let read = tokio::time::timeout(START_PATIENCE, out.read_to_end(&mut text)).await;
        let outcome = match read {
            Err(_) => Err(anyhow::anyhow!("the shim did not start within {START_PATIENCE:?}")),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) => serde_json::from_slice(&text).with_context(|| {
                format!("the shim ended: {}", fs::read_to_string(run.join("shim.log")).unwrap_or_default().trim())
            }),
        };
        match outcome {
            Ok(Ready::Ready { shim, pause }) => {
                // Reaped when it ends, for as long as it is our child.
                tokio::spawn(async move { child.wait().await });
                Ok((shim, pause))
            }
            Ok(Ready::Failed { message }) => bail!("{message}"),
            Err(error) => {
                let _ = child.kill().await;
                Err(error)
            }
        }
    }

    /// End its containers, pause and shim; give back its link and address. Goes on after an error.
    pub(super) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let runtime = self.own.upgrade().context("the runtime is closing")?;
        let Ok((mut record, was_stopped)) =
            self.sandbox_field(id, |sandbox| (sandbox.record.clone(), sandbox.record.stopped))
        else {
            return Ok(());
        };
        if was_stopped {
            return Ok(());
        }
        record.stopped = true;
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.ready = false;
            sandbox.record.stopped = true;
        }
        let mut errors = Vec::new();
        let containers: Vec<String> = {
            let state = self.state.lock();
            let of_pod = state.containers.values().filter(|container| container.record.sandbox_id == id);
            of_pod
                .filter(|container| container.state == ContainerState::Running)
                .map(|container| container.record.id.clone())
                .collect()
        };
        for container in containers {
            if let Err(error) = self.end_container(&container, Duration::ZERO).await {
                errors.push(anyhow::anyhow!("{error}"));
            }
        }
        if record.shim.is_some() {
            // A shim that is gone already has nothing left to end.
            let _ = shim_client::call(&self.sandbox_run(id), &Request::Shutdown, &[]).await;
        }
        self.lose_containers(id, "the pod was stopped").await;
        let sandbox_id = id.to_owned();
        let cleared = tokio::task::spawn_blocking(move || runtime.clear_sandbox(&sandbox_id, record)).await;
        errors.extend(cleared.unwrap_or_else(|error| vec![error.into()]));
        self.emit(id, None);
        joined(errors)
    }

    fn clear_sandbox(&self, id: &str, mut record: SandboxRecord) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let pod = self.cgroups.group(&record.config.cgroup_parent);
        errors.extend(pod.kill(Duration::from_secs(10)).err());
        if let Some(shim) = &record.shim
            && !shim.ended_within(Duration::from_secs(2))
        {
            errors.extend(shim.signal(libc::SIGKILL).err().map(anyhow::Error::from));
        }
        if !record.host_link.is_empty() {
            errors.extend(link::Netlink::open().and_then(|mut host| host.delete_link(&record.host_link)).err());
        }
        errors.extend(self.ipam.release(id).err());
        errors.extend(unmount(&self.sandbox_run(id).join(SHM)).err());
        errors.extend(pod.remove().err());
        record.ips.clear();
        let directory = self.sandbox_data(id);
        if directory.is_dir() {
            errors.extend(record::write(&directory.join(record::SANDBOX), &record).err());
        }
        errors
    }

    /// Stop it and forget it and its containers.
    pub(super) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(self.stop_sandbox(id).await.err());
        errors.extend(self.clear_run_directory(id).err());
        // Without a sandbox in memory its start failed before it had an address.
        errors.extend(self.ipam.release(id).err());
        let data = self.sandbox_data(id);
        errors.extend(tokio::task::spawn_blocking(move || record::remove_directory(&data)).await?.err());
        if errors.is_empty() {
            let mut state = self.state.lock();
            state.containers.retain(|_, container| container.record.sandbox_id != id);
            state.sandboxes.remove(id);
        }
        joined(errors)
    }

    pub(super) async fn update_sandbox(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let mut record = self.sandbox_field(id, |sandbox| sandbox.record.clone())?;
        let group = self.cgroups.group(&record.config.cgroup_parent);
        record.config.resources = resources.clone();
        let path = self.sandbox_data(id).join(record::SANDBOX);
        let updated = record.clone();
        tokio::task::spawn_blocking(move || -> Result<()> {
            group.apply(&updated.config.resources)?;
            record::write(&path, &updated)
        })
        .await??;
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.record.config.resources = record.config.resources;
        }
        Ok(())
    }
}

pub(super) fn status(sandbox: &Sandbox) -> PodSandboxStatus {
    PodSandboxStatus {
        id: sandbox.record.id.clone(),
        config: sandbox.record.config.clone(),
        ready: sandbox.ready,
        created_at: sandbox.record.created_at,
        ips: sandbox.record.ips.clone(),
    }
}

/// Many errors as one that tells them all.
pub(super) fn joined(errors: Vec<anyhow::Error>) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    bail!("{}", errors.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; "))
}

/// The file that the pod's resolver reads. Without any setting it is the node's own.
fn resolv_conf(dns: &DnsConfig) -> Result<String> {
    if *dns == DnsConfig::default() {
        return Ok(fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    if text.contains('\0') {
        bail!("DNS settings hold a zero byte");
    }
    Ok(text)
}

/// As container runtimes agree: pods ping and use low ports without a capability.
fn sysctls(config: &PodSandboxConfig) -> std::collections::BTreeMap<String, String> {
    let mut sysctls = std::collections::BTreeMap::new();
    if config.network != NamespaceMode::Node && config.user_namespace.is_none() {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    sysctls.extend(config.sysctls.clone());
    sysctls
}

fn write_public(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(|| format!("open up {}", path.display()))
}

fn mount_shm(target: &Path, config: &PodSandboxConfig) -> Result<()> {
    fs::create_dir_all(target)?;
    let owner = config.user_namespace.map_or(0, |map| map.host_id);
    let options = format!("mode=1777,size={SHM_SIZE},uid={owner},gid={owner}");
    let options = std::ffi::CString::new(options)?;
    let flags =
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
    rustix::mount::mount("shm", target, "tmpfs", flags, options.as_c_str()).context("mount the pod's /dev/shm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_files_are_written_in_order() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let dns = DnsConfig {
            servers: list(&["10.43.0.10"]),
            searches: list(&["default.svc.cluster.local", "cluster.local"]),
            options: list(&["ndots:5"]),
        };
        let text = resolv_conf(&dns).expect("text");
        assert_eq!(text, "search default.svc.cluster.local cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n");
    }

    #[test]
    fn ids_are_64_hex_digits() {
        let id = new_id();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, new_id());
    }
}
