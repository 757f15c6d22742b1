//! Usage of pods and containers: cgroup counters, network counters, writable layers.

use super::runtime::Runtime;
use crate::api::cri::{ContainerState, ContainerStats, NamespaceMode, SandboxStats};
use crate::net::link;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Runtime {
    /// Of all running pods. Blocks: it reads many small files.
    pub(super) fn read_stats(&self) -> Vec<SandboxStats> {
        let (sandboxes, containers) = {
            let state = self.state.lock();
            let ready = state.sandboxes.values().filter(|sandbox| sandbox.ready);
            let sandboxes: Vec<_> = ready.map(|sandbox| sandbox.record.clone()).collect();
            let mut containers: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for container in state.containers.values().filter(|container| container.state == ContainerState::Running) {
                containers.entry(container.record.sandbox_id.clone()).or_default().push(container.record.id.clone());
            }
            (sandboxes, containers)
        };
        sandboxes
            .into_iter()
            .map(|sandbox| {
                let parent = &sandbox.config.cgroup_parent;
                let pause = sandbox.pause.filter(|_| sandbox.config.network != NamespaceMode::Node);
                let link = pause.and_then(|pause| link::pod_stats(pause.pid).ok().flatten()).unwrap_or_default();
                let of_pod = containers.get(&sandbox.id).into_iter().flatten();
                SandboxStats {
                    cgroup: self.cgroups.group(parent).stats(),
                    rx_bytes: link.rx_bytes,
                    tx_bytes: link.tx_bytes,
                    rx_errors: link.rx_errors,
                    tx_errors: link.tx_errors,
                    containers: of_pod
                        .map(|id| {
                            let usage = disk_usage(&self.container_data(&sandbox.id, id).join("upper"));
                            ContainerStats {
                                id: id.clone(),
                                cgroup: self.cgroups.group(&format!("{parent}/{id}")).stats(),
                                rootfs_used_bytes: usage.0,
                                rootfs_inodes_used: usage.1,
                            }
                        })
                        .collect(),
                    id: sandbox.id,
                }
            })
            .collect()
    }
}

/// Bytes and inodes below a path. What vanishes meanwhile is not counted.
pub fn disk_usage(path: &Path) -> (u64, u64) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return (0, 0) };
    let mut usage = (metadata.blocks() * 512, 1);
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let (bytes, inodes) = disk_usage(&entry.path());
            usage.0 += bytes;
            usage.1 += inodes;
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    #[test]
    fn usage_counts_all_below() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("sub")).expect("made");
        std::fs::write(directory.path().join("sub/file"), vec![1; 10_000]).expect("written");
        let (bytes, inodes) = super::disk_usage(directory.path());
        assert!(bytes >= 10_000);
        assert_eq!(inodes, 3);
    }
}
