//! The data directory of the store: its files, and the lock that keeps a second server out.

use super::OpenError;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a store lives; held as long as it is in use.
pub struct Directory {
    /// None: in memory.
    path: Option<PathBuf>,
    /// Locked; unlocked when it is closed.
    _lock: Option<File>,
}

impl Directory {
    pub fn in_memory() -> Self {
        Self { path: None, _lock: None }
    }

    /// Makes the directory where it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|source| OpenError::Io { path: lock_path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message; an unreadable file leaves it without the number.
                let _ = lock.read_to_string(&mut holder);
                return Err(OpenError::Locked { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        if let Err(error) = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())) {
            // Only another server's message misses it; a full disk must not keep this one from starting.
            tracing::warn!(path = %lock_path.display(), %error, "write the process number");
        }
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
