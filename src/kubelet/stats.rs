//! Usage of the node and its pods, as `/stats/summary` and the metrics show it.

use super::context::Context;
use super::node::meminfo;
use super::pod::PodKey;
use super::pods::Pods;
use crate::api::cri::{CgroupStats, SandboxStats};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A pod's usage with its names.
pub struct PodUsage {
    pub key: PodKey,
    pub stats: SandboxStats,
    /// By container id: name and when it was started, nanoseconds since the epoch.
    pub containers: Vec<(String, String, i64)>,
    pub started_at: i64,
}

/// The usage of every pod with a running sandbox.
pub async fn pods(context: &Context, pods: &Pods) -> Result<Vec<PodUsage>, String> {
    let stats = context.runtime.sandbox_stats().await.map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    for shared in pods.all() {
        let state = shared.state.lock();
        let Some(sandbox) = state.view.ready_sandbox() else { continue };
        let Some(stats) = stats.iter().find(|stats| stats.id == sandbox.id) else { continue };
        let containers = state.view.running().map(|one| (one.id.clone(), one.name.clone(), one.started_at)).collect();
        let started_at = sandbox.created_at;
        out.push(PodUsage { key: shared.key.clone(), stats: stats.clone(), containers, started_at });
    }
    out.sort_by_key(|usage| usage.key.path());
    Ok(out)
}

/// Usage of the whole machine.
pub struct NodeUsage {
    pub timestamp: i64,
    pub cpu_nanoseconds: u64,
    pub memory_available: u64,
    pub memory_total: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

pub fn node() -> NodeUsage {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let counter = |name: &str| {
        let line = vmstat.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)).and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    NodeUsage {
        timestamp: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
        cpu_nanoseconds: busy_nanoseconds(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        memory_available: meminfo(&memory, "MemAvailable").unwrap_or(0),
        memory_total: meminfo(&memory, "MemTotal").unwrap_or(0),
        page_faults: counter("pgfault"),
        major_page_faults: counter("pgmajfault"),
    }
}

/// CPU time that was neither idle nor waiting, from /proc/stat (in hundredths of a second).
fn busy_nanoseconds(stat: &str) -> u64 {
    let Some(line) = stat.lines().find(|line| line.starts_with("cpu ")) else { return 0 };
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let busy: u64 =
        fields.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, value)| value).sum();
    busy * 10_000_000
}

fn time(nanoseconds: i64) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn file_system(path: &Path, at: i64) -> Value {
    let Ok(stat) = rustix::fs::statvfs(path) else { return json!({}) };
    json!({
        "time": time(at),
        "availableBytes": stat.f_bavail * stat.f_frsize,
        "capacityBytes": stat.f_blocks * stat.f_frsize,
        "usedBytes": (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        "inodesFree": stat.f_ffree,
        "inodes": stat.f_files,
        "inodesUsed": stat.f_files - stat.f_ffree,
    })
}

fn cpu_and_memory(stats: &CgroupStats) -> (Value, Value) {
    let at = time(stats.timestamp);
    let cpu = json!({"time": at, "usageCoreNanoSeconds": stats.cpu_usage_core_nanos});
    let memory = json!({
        "time": at,
        "usageBytes": stats.memory_usage_bytes,
        "workingSetBytes": stats.memory_working_set_bytes,
        "rssBytes": stats.memory_rss_bytes,
        "pageFaults": stats.memory_page_faults,
        "majorPageFaults": stats.memory_major_page_faults,
    });
    (cpu, memory)
}

/// `stats/v1alpha1.Summary`.
pub async fn summary(context: &Context, pods_of_node: &Pods) -> Result<Value, String> {
    let node = node();
    let images = context.image_service.filesystem().await.map_err(|error| error.to_string())?;
    let list: Vec<Value> = pods(context, pods_of_node)
        .await?
        .into_iter()
        .map(|usage| {
            let (cpu, memory) = cpu_and_memory(&usage.stats.cgroup);
            let containers: Vec<Value> = usage
                .containers
                .iter()
                .filter_map(|(id, name, started_at)| {
                    let stats = usage.stats.containers.iter().find(|stats| stats.id == *id)?;
                    let (cpu, memory) = cpu_and_memory(&stats.cgroup);
                    Some(json!({
                        "name": name,
                        "startTime": time(*started_at),
                        "cpu": cpu,
                        "memory": memory,
                        "rootfs": {
                            "time": time(stats.cgroup.timestamp),
                            "usedBytes": stats.rootfs_used_bytes,
                            "inodesUsed": stats.rootfs_inodes_used,
                        },
                    }))
                })
                .collect();
            json!({
                "podRef": {"name": usage.key.name, "namespace": usage.key.namespace, "uid": usage.key.uid},
                "startTime": time(usage.started_at),
                "containers": containers,
                "cpu": cpu,
                "memory": memory,
                "network": {
                    "time": time(usage.stats.cgroup.timestamp),
                    "name": "eth0",
                    "rxBytes": usage.stats.rx_bytes,
                    "rxErrors": usage.stats.rx_errors,
                    "txBytes": usage.stats.tx_bytes,
                    "txErrors": usage.stats.tx_errors,
                },
                "process_stats": {"process_count": usage.stats.cgroup.process_count},
            })
        })
        .collect();
    Ok(json!({
        "node": {
            "nodeName": context.config.node_name,
            "startTime": time(node.timestamp),
            "cpu": {"time": time(node.timestamp), "usageCoreNanoSeconds": node.cpu_nanoseconds},
            "memory": {
                "time": time(node.timestamp),
                "availableBytes": node.memory_available,
                "usageBytes": node.memory_total.saturating_sub(node.memory_available),
                "workingSetBytes": node.memory_total.saturating_sub(node.memory_available),
                "pageFaults": node.page_faults,
                "majorPageFaults": node.major_page_faults,
            },
            "fs": file_system(&context.config.root_directory, node.timestamp),
            "runtime": {"imageFs": {
                "time": time(node.timestamp),
                "availableBytes": images.available_bytes,
                "capacityBytes": images.capacity_bytes,
                "usedBytes": images.used_bytes,
                "inodesFree": images.inodes_free,
                "inodes": images.inodes,
                "inodesUsed": images.inodes_used,
            }},
        },
        "pods": list,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time() {
        assert_eq!(busy_nanoseconds("cpu  1 2 3 100 50 4 5 6 0 0\ncpu0 9\n"), 21 * 10_000_000);
        assert!(node().memory_total > 0);
    }
}
