//! cgroup v2: which files carry which limit, and where usage is read.

use super::{Setting, keyed, number};
use crate::api::cri::{CgroupStats, LinuxResources};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What is handed down from the root to the pods and containers, where the kernel has it.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// cpu.shares 2..=262144 to cpu.weight 1..=10000, as runc and crun do it since 2025: a log-quadratic
/// curve on which the defaults (1024 and 100) meet.
pub fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent)).ceil() as u64
}

/// The smallest shares with that weight or more.
fn shares(weight: u64) -> u64 {
    let (mut low, mut high) = (2, 262_144);
    while low < high {
        let middle = (low + high) / 2;
        if self::weight(middle) < weight { low = middle + 1 } else { high = middle }
    }
    low
}

pub fn settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |file: &str, value: String| settings.push(Setting { controller: "", file: file.to_owned(), value });
    if let Some(shares) = resources.cpu_shares {
        set("cpu.weight", weight(shares).to_string());
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let quota = resources.cpu_quota.filter(|quota| *quota > 0).map_or("max".into(), |quota| quota.to_string());
        let period = resources.cpu_period.filter(|period| *period > 0).unwrap_or(100_000);
        set("cpu.max", format!("{quota} {period}"));
    }
    if let Some(limit) = resources.memory_limit {
        set("memory.max", if limit > 0 { limit.to_string() } else { "max".into() });
        // Memory without swap, as the kubelet has it by default; no swap accounting is no swap to limit.
        if Path::new("/proc/swaps").exists() {
            set("memory.swap.max", "0".into());
        }
    }
    if let Some(limit) = resources.pids_limit {
        set("pids.max", if limit > 0 { limit.to_string() } else { "max".into() });
    }
    for (size, bytes) in &resources.hugepage_limits {
        set(&format!("hugetlb.{size}.max"), bytes.to_string());
    }
    for (file, value) in &resources.unified {
        set(file, value.clone());
    }
    settings
}

pub fn resources(read: &dyn Fn(&str, &str) -> Option<String>) -> Option<LinuxResources> {
    let weight: u64 = read("", "cpu.weight")?.parse().ok()?;
    let cpu = read("", "cpu.max").unwrap_or_default();
    let (quota, period) = cpu.split_once(' ').unwrap_or_default();
    Some(LinuxResources {
        cpu_shares: Some(shares(weight)),
        cpu_quota: quota.parse().ok(),
        cpu_period: period.parse().ok(),
        memory_limit: read("", "memory.max").and_then(|text| text.parse().ok()),
        pids_limit: read("", "pids.max").and_then(|text| text.parse().ok()),
        ..LinuxResources::default()
    })
}

pub fn stats(read: &dyn Fn(&str, &str) -> Option<String>) -> CgroupStats {
    let memory = read("", "memory.stat").unwrap_or_default();
    let cpu = read("", "cpu.stat").unwrap_or_default();
    let usage = number(read("", "memory.current"));
    CgroupStats {
        timestamp: 0,
        cpu_usage_core_nanos: keyed(&cpu, "usage_usec") * 1000,
        memory_usage_bytes: usage,
        memory_working_set_bytes: usage.saturating_sub(keyed(&memory, "inactive_file")),
        memory_rss_bytes: keyed(&memory, "anon"),
        memory_page_faults: keyed(&memory, "pgfault"),
        memory_major_page_faults: keyed(&memory, "pgmajfault"),
        process_count: number(read("", "pids.current")),
    }
}

/// Enable the controllers from the top down to the pods' root, so that it can hand them on.
pub fn delegate(mount: &Path, root: &str) -> Result<()> {
    let mut directory = mount.to_owned();
    enable(&directory)?;
    for component in root.split('/').filter(|component| !component.is_empty()) {
        directory.push(component);
        enable(&directory)?;
    }
    Ok(())
}

/// Enable them in every group between the root and (not in) the one at `path`.
pub fn enable_above(mount: &Path, root: &str, path: &str) -> Result<()> {
    let mut directory = mount.join(root.trim_start_matches('/'));
    let below = path.strip_prefix(root).unwrap_or_default();
    for component in below.split('/').filter(|component| !component.is_empty()) {
        enable(&directory)?;
        directory.push(component);
    }
    Ok(())
}

fn enable(directory: &Path) -> Result<()> {
    let file = directory.join("cgroup.controllers");
    let available = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in CONTROLLERS {
        let has = |text: &str| text.split_whitespace().any(|name| name == *controller);
        if has(&available) && !has(&enabled) {
            let file = directory.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}"))
                .with_context(|| format!("enable {controller} in {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_and_back() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
        for value in [2, 102, 512, 1024, 2048, 10_240, 262_144] {
            let back = shares(weight(value));
            assert!(back <= value && weight(back) == weight(value), "{value} came back as {back}");
        }
    }

    #[test]
    fn limits_become_files() {
        let resources = LinuxResources {
            cpu_shares: Some(1024),
            cpu_quota: Some(-1),
            memory_limit: Some(64 << 20),
            pids_limit: Some(0),
            unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
            ..LinuxResources::default()
        };
        let lines: Vec<String> =
            settings(&resources).iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect();
        assert_eq!(
            lines,
            [
                "cpu.weight=100",
                "cpu.max=max 100000",
                "memory.max=67108864",
                "memory.swap.max=0",
                "pids.max=max",
                "memory.high=1000",
            ]
        );
    }
}
