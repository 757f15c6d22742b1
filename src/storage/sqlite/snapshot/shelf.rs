//! The snapshots in a directory: listed, and the old ones removed.

use super::{EXTENSION, Manifest, SnapshotError, io_error, read_manifest};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The begin of the name of those that the server makes by itself.
pub const AUTOMATIC: &str = "automatic";

/// One line of `orch snapshot list`.
#[derive(Debug)]
pub struct Listed {
    pub path: PathBuf,
    pub size: u64,
    pub manifest: Result<Manifest, SnapshotError>,
}

impl Listed {
    /// Whether it is one of those called `<name>-<when>`.
    pub fn is_called(&self, name: &str) -> bool {
        let file = self.path.file_name().and_then(|file| file.to_str());
        let when = file.and_then(|file| file.strip_prefix(name)?.strip_prefix('-')).unwrap_or_default().as_bytes();
        // Another name may only begin like this one.
        when.len() > 8 && when[..8].iter().all(u8::is_ascii_digit) && when[8] == b'T'
    }
}

/// The snapshots in a directory, newest state first; unreadable ones last.
pub fn list(directory: &Path) -> Result<Vec<Listed>, SnapshotError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(io_error(directory))?,
    };
    for entry in entries {
        let path = entry.map_err(io_error(directory))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            // One that is pruned meanwhile is not there any more.
            let Some(size) = size(&path)? else { continue };
            let manifest = read_manifest(&path);
            found.push(Listed { path, size, manifest });
        }
    }
    // By revision before time: the clock may have been wrong.
    found.sort_by_key(|listed| {
        std::cmp::Reverse(listed.manifest.as_ref().ok().map(|manifest| (manifest.revision, manifest.created)))
    });
    Ok(found)
}

fn size(path: &Path) -> Result<Option<u64>, SnapshotError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Removes the snapshots of a name but for the newest `keep`; those that went.
pub fn prune(directory: &Path, name: &str, keep: usize) -> Result<Vec<PathBuf>, SnapshotError> {
    let called: Vec<Listed> = list(directory)?.into_iter().filter(|listed| listed.is_called(name)).collect();
    let mut gone = Vec::new();
    for old in called.into_iter().skip(keep) {
        fs::remove_file(&old.path).map_err(io_error(&old.path))?;
        gone.push(old.path);
    }
    Ok(gone)
}
