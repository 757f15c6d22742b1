//! What pods of an earlier life left behind: volume directories and logs that no pod owns.

use super::context::Context;
use super::volumes;
use std::path::Path;
use std::sync::Arc;

/// Remove directories of pods that are not in `known` (UIDs). Errors are told, not fatal.
pub async fn clean_up(context: &Arc<Context>, known: &[String]) {
    let root = context.config.root_directory.join("pods");
    for name in names(&root) {
        if known.contains(&name) {
            continue;
        }
        let directory = root.join(&name);
        let mounter = context.config.mounter.clone();
        let torn = tokio::task::spawn_blocking(move || volumes::tear_down(&directory, &*mounter)).await;
        match torn {
            Ok(Ok(())) => tracing::info!(uid = %name, "removed the volumes of a pod that is gone"),
            Ok(Err(error)) => tracing::warn!(uid = %name, %error, "remove the volumes of a pod that is gone"),
            Err(error) => tracing::warn!(uid = %name, %error, "remove the volumes of a pod that is gone"),
        }
    }
    let logs = &context.config.pod_logs_directory;
    for name in names(logs) {
        let owned = name.rsplit_once('_').is_none_or(|(_, uid)| known.iter().any(|known| known == uid));
        if !owned && let Err(error) = std::fs::remove_dir_all(logs.join(&name)) {
            tracing::warn!(directory = %name, %error, "remove the logs of a pod that is gone");
        }
    }
    let links = &context.config.container_logs_directory;
    for name in names(links) {
        let link = links.join(&name);
        let dangling = link.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) && !link.exists();
        if dangling && let Err(error) = std::fs::remove_file(&link) {
            tracing::warn!(link = %name, %error, "remove a link to a log that is gone");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
