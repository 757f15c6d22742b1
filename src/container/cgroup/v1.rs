//! cgroup v1: which files carry which limit, and where usage is read.

use super::{Setting, keyed, number};
use crate::api::cri::{CgroupStats, LinuxResources};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

pub const CONTROLLERS: &[&str] = &[
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "pids",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

pub fn settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file: &str, value: String| {
        settings.push(Setting { controller, file: file.to_owned(), value });
    };
    if let Some(shares) = resources.cpu_shares {
        set("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string());
    }
    if let Some(period) = resources.cpu_period.filter(|period| *period > 0) {
        set("cpu", "cpu.cfs_period_us", period.to_string());
    }
    if let Some(quota) = resources.cpu_quota {
        set("cpu", "cpu.cfs_quota_us", if quota > 0 { quota.to_string() } else { "-1".into() });
    }
    if let Some(limit) = resources.memory_limit {
        let value = if limit > 0 { limit.to_string() } else { "-1".into() };
        // No swap beyond memory. Raising needs memory+swap first, lowering memory first: write the one
        // that may be refused twice.
        set("memory", "memory.memsw.limit_in_bytes", value.clone());
        set("memory", "memory.limit_in_bytes", value.clone());
        set("memory", "memory.memsw.limit_in_bytes", value);
    }
    if let Some(limit) = resources.pids_limit {
        set("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".into() });
    }
    for (size, bytes) in &resources.hugepage_limits {
        set("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes.to_string());
    }
    settings
}

pub fn resources(read: &dyn Fn(&str, &str) -> Option<String>) -> Option<LinuxResources> {
    let shares = read("cpu", "cpu.shares")?.parse().ok()?;
    let limit: Option<i64> = read("memory", "memory.limit_in_bytes").and_then(|text| text.parse().ok());
    Some(LinuxResources {
        cpu_shares: Some(shares),
        cpu_quota: read("cpu", "cpu.cfs_quota_us").and_then(|text| text.parse().ok()).filter(|quota| *quota > 0),
        cpu_period: read("cpu", "cpu.cfs_period_us").and_then(|text| text.parse().ok()),
        // Not limited is a number near the end of the range.
        memory_limit: limit.filter(|limit| *limit < 1 << 60),
        pids_limit: read("pids", "pids.max").and_then(|text| text.parse().ok()),
        ..LinuxResources::default()
    })
}

pub fn stats(read: &dyn Fn(&str, &str) -> Option<String>) -> CgroupStats {
    let memory = read("memory", "memory.stat").unwrap_or_default();
    let usage = number(read("memory", "memory.usage_in_bytes"));
    CgroupStats {
        timestamp: 0,
        cpu_usage_core_nanos: number(read("cpuacct", "cpuacct.usage")),
        memory_usage_bytes: usage,
        memory_working_set_bytes: usage.saturating_sub(keyed(&memory, "total_inactive_file")),
        memory_rss_bytes: keyed(&memory, "total_rss"),
        memory_page_faults: keyed(&memory, "total_pgfault"),
        memory_major_page_faults: keyed(&memory, "total_pgmajfault"),
        process_count: number(read("pids", "pids.current")),
    }
}

/// A new cpuset group has no CPU and takes no process: copy from above, level by level.
pub fn fill_cpusets(mount: &Path, path: &str) -> Result<()> {
    let mut directory = mount.to_owned();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        let above = directory.clone();
        directory.push(component);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = directory.join(file);
            if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) {
                let value = fs::read_to_string(above.join(file))?;
                fs::write(&own, value.trim()).with_context(|| format!("write {}", own.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let resources = LinuxResources {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_limit: Some(64 << 20),
            pids_limit: Some(100),
            ..LinuxResources::default()
        };
        let lines: Vec<String> =
            settings(&resources).iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect();
        assert_eq!(
            lines,
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.memsw.limit_in_bytes=67108864",
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=67108864",
                "pids.max=100",
            ]
        );
        assert!(settings(&LinuxResources::default()).is_empty());
    }
}
