//! Where a server keeps what.

use anyhow::{Context, Result};
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The data directory of a server.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The database.
    pub fn store(&self) -> PathBuf {
        self.root.join("server/db")
    }

    /// Held by the node on this directory.
    pub fn node_lock(&self) -> PathBuf {
        self.agent().join("lock")
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("server/tls")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.root.join("server/db/snapshots")
    }

    /// The token that agents join with.
    pub fn token(&self) -> PathBuf {
        self.root.join("server/token")
    }

    /// The keys that Secrets are encrypted with at rest, as an EncryptionConfiguration.
    pub fn encryption(&self) -> PathBuf {
        self.credentials().join("encryption-config.json")
    }

    /// How far the exchange of those keys is.
    pub fn encryption_state(&self) -> PathBuf {
        self.credentials().join("encryption-state.json")
    }

    pub fn credentials(&self) -> PathBuf {
        self.root.join("server/cred")
    }

    /// Manifests that are applied at the start and on change.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("server/manifests")
    }

    /// The node's part.
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// Make the directories, closed to everybody else.
    pub fn create(&self) -> Result<()> {
        for directory in
            [self.store(), self.pki(), self.credentials(), self.snapshots(), self.manifests(), self.agent()]
        {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&directory);
            made.with_context(|| format!("make {}; choose another place with --data-dir", directory.display()))?;
        }
        Ok(())
    }
}

/// Write a whole file or nothing of it, with the given permissions from the first byte on.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let named = || format!("write {}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let result = write_new(&temporary, text, mode).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    result.with_context(named)
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whether a file could not be written because its disk is full.
pub fn is_full(error: &anyhow::Error) -> bool {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}
