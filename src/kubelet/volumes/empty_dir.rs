//! `emptyDir` volumes: a directory, or a file system in memory, that lives as long as the pod.

use super::{Ready, Setup, ownership};
use crate::kubelet::resources;
use futures::future::BoxFuture;
use std::path::PathBuf;

pub fn set_up<'a>(setup: &'a Setup<'a>, path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(source) = &setup.volume.empty_dir else { return Err("no emptyDir source".to_owned()) };
        let medium = source.medium.as_deref().unwrap_or_default();
        let in_memory = match medium {
            "" => false,
            "Memory" => true,
            other => return Err(format!("unknown storage medium: {other:?}")),
        };
        let size = in_memory.then(|| memory_size(setup)).flatten();
        let mounter = setup.mounter.clone();
        let group = ownership::fs_group(setup.pod);
        let task = move || -> std::io::Result<PathBuf> {
            let fresh = !path.exists();
            ownership::make_directory(&path, 0o777)?;
            if in_memory && !mounter.is_mounted(&path)? {
                mounter.tmpfs(&path, size)?;
            }
            if let Some(group) = group
                && (fresh || !ownership::matches(&path, group)?)
            {
                ownership::apply(&path, Some(group), false)?;
            }
            Ok(path)
        };
        let made = tokio::task::spawn_blocking(task).await.map_err(|error| error.to_string())?;
        let path = made.map_err(|error| error.to_string())?;
        Ok(Ready { path, refresh_at: None })
    })
}

/// The least of the volume's limit, the pod's memory limit and what the node can allocate.
fn memory_size(setup: &Setup) -> Option<u64> {
    let own = setup.volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()).map(resources::value);
    let pod = resources::pod_total(setup.pod, "memory", true) / 1000;
    let node = setup.allocatable.get("memory").map(resources::value);
    [own, Some(pod), node]
        .into_iter()
        .flatten()
        .filter(|&size| size > 0)
        .min()
        .and_then(|size| u64::try_from(size).ok())
}
