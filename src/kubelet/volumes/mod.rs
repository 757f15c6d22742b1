//! Volumes of pods: one file per source, one row in [`PLUGINS`].
//!
//! Entry: [`set_up`] makes a volume ready below the pod's directory and may be called again at any
//! time: it changes only what differs (that is how ConfigMaps and Secrets reach running pods).
//! [`tear_down`] removes all of a pod's volumes. Invariant: nothing that a container can name is
//! followed out of its volume.

mod atomic_writer;
mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod image;
mod mounter;
mod ownership;
mod projected;
mod secret;
mod sub_path;
mod tear_down;
mod tokens;

pub use mounter::{KernelMounter, Mounter, NoMounts};
pub use sub_path::{Place as SubPathPlace, prepare as prepare_sub_path};
pub use tear_down::tear_down;
pub use tokens::{Token, TokenKey, Tokens};

use super::env::{Lookup, LookupError, fields::Addresses};
use super::resources::ResourceList;
use atomic_writer::Payload;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{KeyToPath, Pod, Volume};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::Instant;

/// What a source needs to make its volume ready.
pub struct Setup<'a> {
    pub pod: &'a Pod,
    pub volume: &'a Volume,
    /// `<root>/pods/<uid>`.
    pub pod_directory: &'a Path,
    pub mounter: &'a Arc<dyn Mounter>,
    pub lookup: &'a dyn Lookup,
    pub tokens: &'a Tokens,
    pub addresses: &'a Addresses,
    pub allocatable: &'a ResourceList,
}

/// A volume that is ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ready {
    /// Where it is on the host.
    pub path: PathBuf,
    /// When to set it up again: a token grows old.
    pub refresh_at: Option<Instant>,
}

/// One source of volumes.
pub struct Plugin {
    /// Kubernetes's name of it; the directory has `~` for `/`.
    pub name: &'static str,
    pub claims: fn(&Volume) -> bool,
    pub set_up: for<'a> fn(&'a Setup<'a>, PathBuf) -> BoxFuture<'a, Result<Ready, String>>,
}

pub const PLUGINS: &[Plugin] = &[
    Plugin { name: "kubernetes.io/empty-dir", claims: |volume| volume.empty_dir.is_some(), set_up: empty_dir::set_up },
    Plugin { name: "kubernetes.io/host-path", claims: |volume| volume.host_path.is_some(), set_up: host_path::set_up },
    Plugin {
        name: "kubernetes.io/configmap",
        claims: |volume| volume.config_map.is_some(),
        set_up: config_map::set_up,
    },
    Plugin { name: "kubernetes.io/secret", claims: |volume| volume.secret.is_some(), set_up: secret::set_up },
    Plugin { name: "kubernetes.io/projected", claims: |volume| volume.projected.is_some(), set_up: projected::set_up },
    Plugin {
        name: "kubernetes.io/downward-api",
        claims: |volume| volume.downward_api.is_some(),
        set_up: downward_api::set_up,
    },
    Plugin { name: "kubernetes.io/image", claims: |volume| volume.image.is_some(), set_up: image::set_up },
];

/// Make one volume ready; the error is the text of a FailedMount event.
pub async fn set_up(setup: &Setup<'_>) -> Result<Ready, String> {
    let name = &setup.volume.name;
    let failed = |error: String| format!("MountVolume.SetUp failed for volume \"{name}\" : {error}");
    let plugin = PLUGINS
        .iter()
        .find(|plugin| (plugin.claims)(setup.volume))
        .ok_or_else(|| failed("no volume plugin matched".to_owned()))?;
    let path = setup.pod_directory.join("volumes").join(plugin.name.replace('/', "~")).join(name);
    (plugin.set_up)(setup, path).await.map_err(failed)
}

/// What of a volume source follows from objects that change: it is set up again on a change.
pub fn is_live(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

const DEFAULT_MODE: i32 = 0o644;

/// Keys of an object to files: all of them, or those that `items` names.
fn project<'a>(
    data: impl Fn(&str) -> Option<&'a [u8]>,
    all_keys: impl Iterator<Item = &'a String>,
    items: Option<&[KeyToPath]>,
    default_mode: i32,
    optional: bool,
    missing: impl Fn(&str) -> String,
    payload: &mut Payload,
) -> Result<(), String> {
    match items.filter(|items| !items.is_empty()) {
        None => {
            for key in all_keys {
                let content = data(key).unwrap_or_default().to_vec();
                payload.add(key, content, default_mode)?;
            }
        }
        Some(items) => {
            for item in items {
                match data(&item.key) {
                    Some(content) => payload.add(&item.path, content.to_vec(), item.mode.unwrap_or(default_mode))?,
                    None if optional => {}
                    None => return Err(missing(&item.key)),
                }
            }
        }
    }
    Ok(())
}

/// None: there is nothing, and that is allowed.
fn optionally<T>(found: Result<Arc<T>, LookupError>, optional: bool) -> Result<Option<Arc<T>>, String> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(LookupError::NotFound(_)) if optional => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Write a payload below `path`, in memory where it is confidential, owned as the pod wants.
async fn write_payload(
    setup: &Setup<'_>,
    path: PathBuf,
    payload: Payload,
    confidential: bool,
) -> Result<PathBuf, String> {
    let mounter = setup.mounter.clone();
    let fs_group = ownership::fs_group(setup.pod);
    let task = move || -> std::io::Result<PathBuf> {
        ownership::make_directory(&path, 0o777)?;
        if confidential && !mounter.is_mounted(&path)? {
            mounter.tmpfs(&path, None)?;
        }
        if payload.write(&path)? {
            ownership::apply(&path, fs_group, true)?;
        }
        Ok(path)
    };
    let written = tokio::task::spawn_blocking(task).await.map_err(|error| format!("write its files: {error}"))?;
    written.map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
