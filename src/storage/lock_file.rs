//! A file that one process holds locked for as long as it works on a directory; it says which one.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Unlocked when it is dropped, and when the process ends in any way.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why a lock is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The number is empty where the file could not be read.
    #[error("{path} is locked by process {holder}")]
    Held { path: PathBuf, holder: String },
    #[error("open {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl LockFile {
    /// What the server on a store's directory holds.
    pub fn of_store(directory: &Path) -> PathBuf {
        directory.join("lock")
    }

    /// Makes the directory where it is missing, closed to everybody else, and locks the file in it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message; an unreadable file leaves it without the number.
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            // Only who looks for the holder misses it; a full disk must not keep this one from starting.
            tracing::warn!(path = %path.display(), %error, "write the process number");
        }
        Ok(Self { _file: file })
    }

    /// The process that holds the lock. None: nobody does, or there is no such file.
    pub fn holder(path: &Path) -> io::Result<Option<i32>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        match text.trim().parse() {
            // A number that an earlier holder left is not the holder's.
            Ok(process) if has_open(process, &file)? => Ok(Some(process)),
            _ => Err(io::Error::other(format!("it is locked, but {:?} is not the process that did it", text.trim()))),
        }
    }
}

/// Whether a process has a file open.
fn has_open(process: i32, file: &File) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let descriptors = match std::fs::read_dir(format!("/proc/{process}/fd")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    Ok(descriptors
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|metadata| (metadata.dev(), metadata.ino()) == (wanted.dev(), wanted.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_who_holds_it_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("below/lock");
        assert_eq!(LockFile::holder(&path).expect("no file is fine"), None);
        let lock = LockFile::take(&path).expect("nobody has it");
        assert_eq!(LockFile::holder(&path).expect("it is read"), Some(std::process::id() as i32));
        let refused = LockFile::take(&path).expect_err("it is taken").to_string();
        assert!(refused.ends_with(&format!("is locked by process {}", std::process::id())), "{refused}");
        // What an earlier holder wrote is not believed: process 1 does not have this file open.
        std::fs::write(&path, "1\n").expect("it is written");
        LockFile::holder(&path).expect_err("not that process");
        drop(lock);
        assert_eq!(LockFile::holder(&path).expect("it is read"), None);
        LockFile::take(&path).expect("it is free again");
    }
}
