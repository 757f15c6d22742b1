//! Removing a pod's directory with all its volumes.

use super::Mounter;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Unmount everything below `pod_directory` and remove it. Goes on after an error and reports all;
/// while anything is still mounted nothing is deleted, since it could be someone else's data.
pub fn tear_down(pod_directory: &Path, mounter: &dyn Mounter) -> Result<(), String> {
    let mut errors = Vec::new();
    let mounts = mounter.mounted_below(pod_directory).map_err(|error| format!("read the mounts: {error}"))?;
    for mount in mounts {
        if let Err(error) = mounter.unmount(&mount) {
            errors.push(format!("unmount {}: {error}", mount.display()));
        }
    }
    if errors.is_empty() {
        match mounter.mounted_below(pod_directory) {
            Ok(left) if left.is_empty() => match fs::remove_dir_all(pod_directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    errors.push(format!("remove {}: {error}", pod_directory.display()));
                }
                _ => {}
            },
            Ok(left) => errors.push(format!("{} is still mounted", left[0].display())),
            Err(error) => errors.push(format!("read the mounts: {error}")),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}
