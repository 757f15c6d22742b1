//! From a container's configuration and its image to an OCI runtime configuration: pure, no IO but
//! device nodes and a seccomp profile by path.
//!
//! Traps of libcontainer that this file answers: capabilities and a deny-all device rule are always
//! written (leaving them out means all), `noNewPrivileges` is written only when true (false fails with
//! seccomp), a PATH is always there. The user is filled in later, by [`users`], from the image's files.

pub mod filter;
mod paths;
pub mod seccomp;
pub mod users;

use super::cgroup::devices::{self, Rule};
use crate::api::cri::{
    ContainerConfig, Mount, MountPropagation, NamespaceMode, PodSandboxConfig, SeccompProfile, SecurityContext,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What of the image's configuration a container takes.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: String,
}

/// What the runtime knows besides.
pub struct Surroundings<'a> {
    pub image: &'a ImageConfig,
    pub sandbox: &'a PodSandboxConfig,
    /// The process that holds the pod's namespaces.
    pub pause: i32,
    /// Overrides the pid namespace: the first process of the container to look into.
    pub target: Option<i32>,
    /// Absolute path of the container's group in the hierarchies.
    pub cgroup: &'a str,
    pub cgroup_v2: bool,
    /// On v1: controllers, and the directory of the container's group in the hierarchy of each.
    pub cgroup_v1: &'a [(String, PathBuf)],
    /// Capabilities that this node can give at all, `CAP_…`.
    pub available: &'a [String],
    /// The highest number of open files that this node can give.
    pub open_files: u64,
}

const CGROUPS: &str = "/sys/fs/cgroup";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OPEN_FILES: u64 = 1 << 20;

/// What containers have unless told otherwise.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The runtime configuration, the device rules for cgroup v2 and the seccomp profile.
pub struct Built {
    pub spec: Value,
    pub devices: Vec<Rule>,
    pub seccomp: Option<Value>,
}

pub fn build(config: &ContainerConfig, around: &Surroundings<'_>) -> Result<Built> {
    let security = &config.security;
    let capabilities = capabilities(security, around.available)?;
    let (devices, rules) = device_nodes(config)?;
    let mut process = json!({
        "terminal": config.tty,
        "args": arguments(config, around.image)?,
        "env": environment(config, around),
        "cwd": working_directory(config, around.image),
        "user": { "uid": 0, "gid": 0 },
        "oomScoreAdj": config.resources.oom_score_adj,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            "inheritable": [], "ambient": [],
        },
        "rlimits": [{
            "type": "RLIMIT_NOFILE", "soft": OPEN_FILES.min(around.open_files), "hard": OPEN_FILES.min(around.open_files),
        }],
    });
    if security.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    let mut linux = json!({
        "namespaces": namespaces(config, around),
        "cgroupsPath": around.cgroup,
        "devices": devices,
        "maskedPaths": paths_or(&security.masked_paths, paths::MASKED, security.privileged),
        "readonlyPaths": paths_or(&security.readonly_paths, paths::READONLY, security.privileged),
    });
    if !around.cgroup_v2 && !security.privileged && !is_replaced(config, CGROUPS) {
        linux["readonlyPaths"].as_array_mut().expect("a list").push(CGROUPS.into());
    }
    if !around.cgroup_v2 {
        linux["resources"] = json!({ "devices": rules.iter().map(v1_rule).fold(
            vec![json!({ "allow": false, "access": "rwm" })],
            |mut list, rule| { list.push(rule); list },
        )});
    }
    if config.mounts.iter().any(|mount| mount.propagation == MountPropagation::Bidirectional) {
        linux["rootfsPropagation"] = json!("shared");
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": "", "readonly": security.readonly_rootfs },
        "mounts": base_mounts(config, around),
        "linux": linux,
    });
    Ok(Built { spec, devices: rules, seccomp: seccomp_profile(security, &capabilities)? })
}

/// Kubernetes's rule: a command replaces the entrypoint and its arguments, arguments only the latter.
fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>> {
    let (head, tail) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &config.args),
        (false, _) => (&config.command, &config.args),
    };
    let arguments: Vec<String> = head.iter().chain(tail).cloned().collect();
    if arguments.is_empty() {
        bail!("no command specified");
    }
    Ok(arguments)
}

fn working_directory(config: &ContainerConfig, image: &ImageConfig) -> String {
    let directory = if config.working_dir.is_empty() { &image.working_dir } else { &config.working_dir };
    if directory.is_empty() { "/".into() } else { directory.clone() }
}

/// The image's variables, then the pod's; a later one wins.
fn environment(config: &ContainerConfig, around: &Surroundings<'_>) -> Vec<String> {
    let mut list: Vec<String> = vec![DEFAULT_PATH.into()];
    if config.tty {
        list.push("TERM=xterm".into());
    }
    let hostname = &around.sandbox.hostname;
    if !hostname.is_empty() {
        list.push(format!("HOSTNAME={hostname}"));
    }
    let pod = config.env.iter().map(|(name, value)| format!("{name}={value}"));
    for entry in around.image.env.iter().cloned().chain(pod) {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        list.retain(|other| other.split('=').next() != Some(name.as_str()));
        list.push(entry);
    }
    list
}

/// The kernel's name of a capability: with CAP_, in capitals.
fn capability_name(name: &str) -> String {
    let name = name.to_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

fn capabilities(security: &SecurityContext, available: &[String]) -> Result<Vec<String>> {
    if security.privileged {
        return Ok(available.to_vec());
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    if security.add_capabilities.iter().any(is_all) {
        set.extend(available.iter().cloned());
    }
    if security.drop_capabilities.iter().any(is_all) {
        set.clear();
    }
    for name in security.add_capabilities.iter().filter(|name| !is_all(name)) {
        let name = capability_name(name);
        if name.parse::<caps::Capability>().is_err() {
            bail!("unknown capability {name:?} to add");
        }
        set.insert(name);
    }
    for name in security.drop_capabilities.iter().filter(|name| !is_all(name)) {
        set.remove(&capability_name(name));
    }
    // A node without a capability cannot give it; a container that needs it will say so itself.
    Ok(set.into_iter().filter(|name| available.contains(name)).collect())
}

fn seccomp_profile(security: &SecurityContext, capabilities: &[String]) -> Result<Option<Value>> {
    if security.privileged {
        return Ok(None);
    }
    match &security.seccomp {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => Ok(Some(seccomp::runtime_default(capabilities))),
        SeccompProfile::Localhost(path) => Ok(Some(seccomp::localhost(path)?)),
    }
}

fn paths_or(wanted: &Option<Vec<String>>, default: &[&str], privileged: bool) -> Vec<String> {
    match wanted {
        _ if privileged => Vec::new(),
        Some(paths) => paths.clone(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

fn namespaces(config: &ContainerConfig, around: &Surroundings<'_>) -> Vec<Value> {
    let of_pause =
        |kind: &str, file: &str| json!({ "type": kind, "path": format!("/proc/{}/ns/{file}", around.pause) });
    let mut list = vec![json!({ "type": "mount" })];
    if around.sandbox.network != NamespaceMode::Node {
        list.push(of_pause("network", "net"));
        list.push(of_pause("uts", "uts"));
    }
    if around.sandbox.ipc != NamespaceMode::Node {
        list.push(of_pause("ipc", "ipc"));
    }
    match (around.target, config.security.pid) {
        (Some(target), _) => list.push(json!({ "type": "pid", "path": format!("/proc/{target}/ns/pid") })),
        (None, NamespaceMode::Pod) => list.push(of_pause("pid", "pid")),
        (None, NamespaceMode::Container) => list.push(json!({ "type": "pid" })),
        (None, NamespaceMode::Node) => {}
    }
    if around.sandbox.user_namespace.is_some() {
        list.push(of_pause("user", "user"));
    }
    if around.cgroup_v2 && !config.security.privileged {
        list.push(json!({ "type": "cgroup" }));
    }
    list
}

/// File systems of every container, except where a volume takes their place.
fn base_mounts(config: &ContainerConfig, around: &Surroundings<'_>) -> Vec<Value> {
    let privileged = config.security.privileged;
    let write = if privileged { "rw" } else { "ro" };
    let mut list = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] }),
    ];
    let host_network_in_user_namespace =
        around.sandbox.user_namespace.is_some() && around.sandbox.network == NamespaceMode::Node;
    list.push(match host_network_in_user_namespace {
        // sysfs belongs to the network namespace, and that to the machine.
        true => json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", "nosuid", "noexec", "nodev"] }),
        false => json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", write] }),
    });
    if around.cgroup_v2 {
        list.push(json!({ "destination": CGROUPS, "type": "cgroup", "source": "cgroup",
                          "options": ["nosuid", "noexec", "nodev", "relatime", write] }));
    } else {
        list.extend(v1_hierarchies(around.cgroup_v1, write));
    }
    let of_cgroups = is_replaced(config, CGROUPS);
    list.retain(|mount| {
        let destination = mount["destination"].as_str().unwrap_or_default();
        !is_replaced(config, destination) && !(of_cgroups && destination.starts_with(CGROUPS))
    });
    list
}

/// Whether a volume takes the place of what every container has there.
fn is_replaced(config: &ContainerConfig, destination: &str) -> bool {
    config.mounts.iter().any(|mount| mount.container_path == Path::new(destination))
}

/// The container's own group of each controller. libcontainer's mount of v1 is writable whatever the options say.
fn v1_hierarchies(groups: &[(String, PathBuf)], write: &str) -> Vec<Value> {
    let own = groups.iter().map(|(controller, directory)| {
        json!({ "destination": format!("{CGROUPS}/{controller}"), "type": "bind", "source": directory,
                "options": ["bind", "nosuid", "noexec", "nodev", write] })
    });
    // It is made read-only when all are in it.
    let above = json!({ "destination": CGROUPS, "type": "tmpfs", "source": "tmpfs",
                        "options": ["nosuid", "noexec", "nodev", "mode=755"] });
    std::iter::once(above).chain(own).collect()
}

/// The volumes and the pod's own files, outer paths first; a volume of the pod wins.
pub fn ordered_mounts(own: Vec<Mount>, volumes: &[Mount]) -> Vec<Mount> {
    let mut list: Vec<Mount> = own
        .into_iter()
        .filter(|mount| !volumes.iter().any(|volume| volume.container_path == mount.container_path))
        .chain(volumes.iter().cloned())
        .collect();
    list.sort_by_key(|mount| mount.container_path.components().count());
    list
}

fn v1_rule(rule: &Rule) -> Value {
    let letters: String = [(devices::READ, 'r'), (devices::WRITE, 'w'), (devices::MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    let mut value = json!({ "allow": true, "type": rule.kind.to_string(), "access": letters });
    if let Some(major) = rule.major {
        value["major"] = json!(major);
    }
    if let Some(minor) = rule.minor {
        value["minor"] = json!(minor);
    }
    value
}

/// The nodes to make, and the rules that allow to open them.
fn device_nodes(config: &ContainerConfig) -> Result<(Vec<Value>, Vec<Rule>)> {
    let mut nodes = Vec::new();
    let mut rules = if config.security.privileged { vec![devices::ALL] } else { devices::DEFAULT.to_vec() };
    let mut add = |path: &Path, on_host: &Path, permissions: &str, rules: &mut Vec<Rule>| -> Result<()> {
        let metadata = std::fs::metadata(on_host).with_context(|| format!("device {}", on_host.display()))?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => bail!("device {}: not a device", on_host.display()),
        };
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        nodes.push(json!({ "path": path, "type": kind.to_string(), "major": major, "minor": minor,
            "fileMode": metadata.mode() & 0o7777, "uid": metadata.uid(), "gid": metadata.gid() }));
        rules.push(Rule { kind, major: Some(major), minor: Some(minor), access: devices::access(permissions) });
        Ok(())
    };
    for device in &config.devices {
        for (inside, on_host) in below(&device.host_path, &device.container_path) {
            add(&inside, &on_host, &device.permissions, &mut rules)?;
        }
    }
    if config.security.privileged {
        for (inside, on_host) in host_devices() {
            if !config.devices.iter().any(|device| device.container_path == inside) {
                add(&inside, &on_host, "rwm", &mut rules)?;
            }
        }
    }
    Ok((nodes, rules))
}

/// A device, or those in a directory.
fn below(on_host: &Path, inside: &Path) -> Vec<(PathBuf, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(on_host) else { return vec![(inside.to_owned(), on_host.to_owned())] };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()))
        .map(|entry| (inside.join(entry.file_name()), entry.path()))
        .collect()
}

/// The machine's devices, for a privileged container; what every container has anyway is left out.
fn host_devices() -> Vec<(PathBuf, PathBuf)> {
    const OWN: &[&str] = &["console", "tty", "ptmx", "null", "zero", "full", "random", "urandom"];
    const SKIPPED: &[&str] = &["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    fn walk(directory: &Path, depth: u32, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < 4 && !SKIPPED.iter().any(|name| entry.file_name() == **name) {
                walk(&entry.path(), depth + 1, out);
            } else if kind.is_char_device() || kind.is_block_device() {
                out.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/dev"), 0, &mut found);
    found.retain(|path| !OWN.iter().any(|name| path == &Path::new("/dev").join(name)));
    found.into_iter().map(|path| (path.clone(), path)).collect()
}

#[cfg(test)]
mod tests;
