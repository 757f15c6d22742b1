//! What is remembered of sandboxes and containers over a restart of orch, and of the machine.
//!
//! Records are replaced by rename: wholly there or not at all. They are not synced: after a power cut
//! nothing that they describe lives, and flash is spared. Environments and mounts are not in them:
//! those may be secret, and stay in the run directory.

use super::process::ProcessIdentity;
use super::shim::protocol::{Exit, Running};
use crate::api::cri::{LinuxResources, PodSandboxConfig};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub const SANDBOX: &str = "sandbox.json";
pub const CONTAINER: &str = "container.json";
pub const EXIT: &str = "exit.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: String,
    pub config: PodSandboxConfig,
    /// Of the boot in which it was made; in another one it is dead.
    pub boot_id: String,
    pub created_at: i64,
    pub ips: Vec<IpAddr>,
    pub host_link: String,
    pub shim: Option<ProcessIdentity>,
    pub pause: Option<ProcessIdentity>,
    /// Its processes, address and link are gone.
    pub stopped: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub image_id: String,
    /// Held against garbage collection of images.
    pub layers: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Absolute.
    pub log_path: PathBuf,
    pub created_at: i64,
    pub stop_signal: i32,
    pub tty: bool,
    pub resources: LinuxResources,
    /// Once it was started.
    #[serde(default)]
    pub running: Option<Running>,
}

/// Read a record; None if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} does not parse", path.display()))
        }
    }
}

/// Replace a record. Only root reads it.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    write_bytes(path, &serde_json::to_vec(record)?)
}

pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let named = || format!("write {}", path.display());
    let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    options.with_context(named)?.write_all(bytes).with_context(named)?;
    fs::rename(&temporary, path).with_context(named)
}

/// How a container ended, if the shim wrote it down.
pub fn read_exit(directory: &Path) -> Result<Option<Exit>> {
    read(&directory.join(EXIT))
}

/// Make a directory and those above it for root alone.
pub fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the directory {}", path.display()))
}

/// Remove a tree; one that is gone is fine.
pub fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Directories below `path`, by name.
pub fn directories(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
