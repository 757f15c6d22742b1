//! Pressure on the node's memory, disk and process ids, and the pods that must leave for it.
//!
//! Looked at with the beat of the lease: a handful of system calls. Ranking is pure ([`rank`]):
//! first pods that use more than they asked for, then lower priority, then how much more.

use super::context::Context;
use super::node::meminfo;
use super::pod;
use super::pods::Pods;
use super::resources;
use super::status::Verdict;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// A threshold in bytes (or counts): a quantity or a percentage of `total`.
pub fn threshold_bytes(text: &str, total: u64) -> i64 {
    match text.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
        Some(percent) => (total as f64 * percent / 100.0) as i64,
        None => resources::value(&Quantity(text.to_owned())),
    }
}

/// What is left of something, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signal {
    name: &'static str,
    available: u64,
    total: u64,
}

/// The resource that a signal is about, as messages name it.
fn resource(signal: &str) -> &'static str {
    match signal {
        "memory.available" => "memory",
        "pid.available" => "pids",
        "nodefs.inodesFree" | "imagefs.inodesFree" => "inodes",
        _ => "ephemeral-storage",
    }
}

pub struct Eviction {
    context: Arc<Context>,
    pods: Arc<Pods>,
    /// When each signal was last seen below its threshold.
    met: HashMap<&'static str, Instant>,
    /// On the file system with the images, once it is known.
    image_root: Option<PathBuf>,
}

impl Eviction {
    pub fn new(context: Arc<Context>, pods: Arc<Pods>) -> Self {
        Self { context, pods, met: HashMap::new(), image_root: None }
    }

    /// Look at every signal, evict one pod if one must go, and tell the pressure.
    pub async fn look(&mut self) -> Pressure {
        let now = Instant::now();
        let signals = self.signals().await;
        let mut worst: Option<(Signal, String)> = None;
        for signal in signals {
            let Some(threshold) = self.context.config.eviction_hard.get(signal.name) else { continue };
            let least = u64::try_from(threshold_bytes(threshold, signal.total)).unwrap_or(0);
            if signal.available < least {
                self.met.insert(signal.name, now);
                worst.get_or_insert((signal, threshold.clone()));
            }
        }
        let hold = self.context.config.eviction_pressure_transition;
        self.met.retain(|_, at| now.duration_since(*at) < hold);
        if let Some((signal, threshold)) = worst {
            self.relieve(signal, &threshold).await;
        }
        self.enforce_size_limits().await;
        Pressure {
            memory: self.met.contains_key("memory.available"),
            disk: self.met.keys().any(|name| name.contains("fs.")),
            pids: self.met.contains_key("pid.available"),
        }
    }

    async fn signals(&mut self) -> Vec<Signal> {
        let mut out = Vec::new();
        if let Ok(text) = std::fs::read_to_string("/proc/meminfo")
            && let (Some(available), Some(total)) = (meminfo(&text, "MemAvailable"), meminfo(&text, "MemTotal"))
        {
            out.push(Signal { name: "memory.available", available, total });
        }
        out.extend(file_system(&self.context.config.root_directory, "nodefs.available", "nodefs.inodesFree"));
        if self.image_root.is_none() {
            // Asked once: it may count every file of the store.
            self.image_root = self.context.image_service.filesystem().await.ok().map(|usage| usage.mountpoint);
        }
        if let Some(root) = &self.image_root {
            out.extend(file_system(root, "imagefs.available", "imagefs.inodesFree"));
        }
        out.extend(pids());
        out
    }

    async fn relieve(&self, signal: Signal, threshold: &str) {
        let resource = resource(signal.name);
        if resource == "ephemeral-storage" || resource == "inodes" {
            self.context.puller.note_disk();
        }
        let usages = self.usages(resource).await;
        let Some(victim) = rank(usages).into_iter().next() else { return };
        let message = format!(
            "The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {}. ",
            shown(signal.available)
        );
        self.evict(&victim.pod, message, Some(0));
    }

    fn evict(&self, pod: &Pod, message: String, grace: Option<i64>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.context.warning(&pod::subject(pod), "Evicted", message.clone());
        let verdict = Verdict { reason: "Evicted".to_owned(), message, disruption: true, rejected: false };
        self.pods.evict(&uid, verdict, grace);
    }

    async fn usages(&self, resource: &str) -> Vec<Usage> {
        let stats = match self.context.runtime.sandbox_stats().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(%error, "read usage for eviction");
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for shared in self.pods.all() {
            let state = shared.state.lock();
            if state.verdict.is_some() || pod::is_critical(&state.pod) {
                continue;
            }
            let Some(sandbox) = state.view.ready_sandbox() else { continue };
            let Some(stats) = stats.iter().find(|stats| stats.id == sandbox.id) else { continue };
            let used = match resource {
                "memory" => stats.cgroup.memory_working_set_bytes,
                "pids" => stats.cgroup.process_count,
                "inodes" => stats.containers.iter().map(|container| container.rootfs_inodes_used).sum(),
                _ => stats.containers.iter().map(|container| container.rootfs_used_bytes).sum(),
            };
            let requested = (resources::pod_total(&state.pod, resource, false) + 999) / 1000;
            out.push(Usage { pod: state.pod.clone(), used: i64::try_from(used).unwrap_or(i64::MAX), requested });
        }
        out
    }

    /// Pods whose disk-backed emptyDir volumes outgrew their limits.
    async fn enforce_size_limits(&self) {
        for shared in self.pods.all() {
            let (pod, limited) = {
                let state = shared.state.lock();
                if state.verdict.is_some() {
                    continue;
                }
                let spec = pod::spec(&state.pod);
                let limited: Vec<(String, Quantity, PathBuf)> = spec
                    .volumes
                    .iter()
                    .flatten()
                    .filter_map(|volume| {
                        let source = volume.empty_dir.as_ref()?;
                        let limit = source.size_limit.clone().filter(|limit| resources::value(limit) > 0)?;
                        let path = state.volumes.get(&volume.name)?.path.clone()?;
                        (source.medium.as_deref() != Some("Memory")).then(|| (volume.name.clone(), limit, path))
                    })
                    .collect();
                (state.pod.clone(), limited)
            };
            for (name, limit, path) in limited {
                let measured = tokio::task::spawn_blocking(move || disk_usage(&path)).await.unwrap_or(0);
                if i64::try_from(measured).unwrap_or(i64::MAX) > resources::value(&limit) {
                    let message = format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", limit.0);
                    self.evict(&pod, message, Some(1));
                }
            }
        }
    }
}

/// Room and inodes of the file system that a path is on.
fn file_system(path: &Path, room: &'static str, inodes: &'static str) -> Vec<Signal> {
    let Ok(stat) = rustix::fs::statvfs(path) else { return Vec::new() };
    let available = stat.f_bavail * stat.f_frsize;
    let mut out = vec![Signal { name: room, available, total: stat.f_blocks * stat.f_frsize }];
    // Some file systems have no fixed number of them.
    if stat.f_files > 0 {
        out.push(Signal { name: inodes, available: stat.f_favail, total: stat.f_files });
    }
    out
}

/// Bytes on disk below a directory, links not followed.
fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    let mut total = metadata.blocks() * 512;
    if metadata.is_dir()
        && let Ok(entries) = std::fs::read_dir(path)
    {
        total += entries.flatten().map(|entry| disk_usage(&entry.path())).sum::<u64>();
    }
    total
}

fn pids() -> Option<Signal> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let running: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let maximum: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    Some(Signal { name: "pid.available", available: maximum.saturating_sub(running), total: maximum })
}

fn shown(bytes: u64) -> String {
    if bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() }
}

#[derive(Clone, Debug)]
struct Usage {
    pod: Arc<Pod>,
    used: i64,
    requested: i64,
}

/// Who goes first.
fn rank(mut pods: Vec<Usage>) -> Vec<Usage> {
    pods.sort_by_key(|usage| {
        let over = usage.used - usage.requested;
        (over <= 0, pod::priority(&usage.pod), std::cmp::Reverse(over))
    });
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds() {
        assert_eq!(threshold_bytes("10%", 1000), 100);
        assert_eq!(threshold_bytes("100Mi", 1), 100 << 20);
    }

    #[test]
    fn who_goes_first() {
        let usage = |name: &str, priority: i32, used: i64, requested: i64| Usage {
            pod: Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": []}}),
                )
                .expect("a pod"),
            ),
            used,
            requested,
        };
        let ranked = rank(vec![
            usage("within", 0, 10, 20),
            usage("important", 10, 50, 0),
            usage("little", 0, 30, 20),
            usage("much", 0, 90, 20),
        ]);
        let names: Vec<&str> = ranked.iter().filter_map(|usage| usage.pod.metadata.name.as_deref()).collect();
        assert_eq!(names, ["much", "little", "important", "within"]);
    }
}
