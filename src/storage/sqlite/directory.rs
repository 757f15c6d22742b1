//! The data directory of the store: its files, and the lock that keeps a second server out.

use super::OpenError;
use crate::storage::{LockError, LockFile};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a store lives; held as long as it is in use.
pub struct Directory {
    /// None: in memory.
    path: Option<PathBuf>,
    /// Locked; unlocked when it is closed.
    _lock: Option<LockFile>,
}

impl Directory {
    pub fn in_memory() -> Self {
        Self { path: None, _lock: None }
    }

    /// Makes the directory where it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let lock = LockFile::take(&LockFile::of_store(path)).map_err(|error| match error {
            LockError::Held { holder, .. } => OpenError::Locked { path: path.to_owned(), holder },
            LockError::Io { path, source } => OpenError::Io { path, source },
        })?;
        Ok(Self { path: Some(path.to_owned()), _lock: Some(lock) })
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.join(name))
    }

    pub fn database(&self) -> Option<PathBuf> {
        self.path.as_deref().map(database)
    }

    /// The sidecar with the sequence of the last commit.
    pub fn sequence(&self) -> Option<PathBuf> {
        self.file("orch.db-sequence")
    }

    pub fn ballast(&self) -> Option<PathBuf> {
        self.file("ballast")
    }

    /// Makes names in the directory durable.
    pub fn sync(&self) -> std::io::Result<()> {
        self.path.as_deref().map_or(Ok(()), sync_directory)
    }
}

/// The database of a store.
pub fn database(store: &Path) -> PathBuf {
    store.join("orch.db")
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    fs::File::open(path)?.sync_all()
}
