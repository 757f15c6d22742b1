//! Putting another database in the place of the one in a directory, which is kept aside.
//!
//! At no moment does the directory look empty or whole when it is not: the WAL goes first, the
//! sidecar stays, so whatever is interrupted is noticed at the next start and can be run again.

use super::database::{Database, FORMAT, Failure, Unusable};
use super::directory::{Directory, sync_directory};
use super::rows::Meta;
use super::sequence::{Committed, Sidecar};
use super::{OpenError, Options};
use crate::storage::Revision;
use crate::storage::live::Tree;
use std::fs;
use std::path::{Path, PathBuf};

/// How far a restored store is ahead of all that was ever given out: no client can take an old
/// revision for a current one, and 9 billion restores fit.
const JUMP: u64 = 1_000_000_000;

/// What was put in place.
#[derive(Clone, Debug)]
pub struct Replaced {
    pub revision: Revision,
    pub objects: u64,
    /// Where the files that were there before are; None: there were none.
    pub kept: Option<PathBuf>,
}

/// Puts the objects of a tree in place. `label` names the folder that keeps what was there.
pub fn replace(directory: &Directory, tree: &Tree, label: &str) -> Result<Replaced, OpenError> {
    let (Some(home), Some(target), Some(sequence)) = (directory.path(), directory.database(), directory.sequence())
    else {
        unreachable!("only a store on disk is replaced");
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let (sidecar, noted) = Sidecar::open(&sequence).map_err(io(&sequence))?;
    let before = noted.into_iter().chain(committed(directory)).fold(
        Committed { sequence: 0, reserved: tree.revision },
        |a, b| Committed { sequence: a.sequence.max(b.sequence), reserved: a.reserved.max(b.reserved) },
    );
    let revision = Revision(before.reserved.0.saturating_add(JUMP));
    let meta = Meta { sequence: before.sequence + 1, reserved: revision, ..Meta::default() };

    let partial = home.join("orch.db.partial");
    remove(&partial).map_err(io(&partial))?;
    let meta = Database::write_detached(&partial, tree, meta).map_err(|failure| {
        let (Failure::Full(reason) | Failure::Fatal(reason)) = failure;
        OpenError::Database { path: partial.clone(), reason }
    })?;
    fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(io(&partial))?;
    let kept = set_aside(home, &target, label)?;
    fs::rename(&partial, &target).map_err(io(&target))?;
    sync_directory(home).map_err(io(home))?;
    sidecar
        .note(Committed { sequence: meta.sequence, reserved: revision })
        .and_then(|()| sidecar.sync())
        .map_err(io(&sequence))?;
    Ok(Replaced { revision, objects: meta.count, kept })
}

/// What the database in place says it committed, where it can still say so.
fn committed(directory: &Directory) -> Option<Committed> {
    let present = directory.database().is_some_and(|path| path.exists());
    let database = present.then(|| Database::open(directory, &Options::default()).ok()).flatten()?;
    let meta = database.load_meta().ok()?;
    Some(Committed { sequence: meta.sequence, reserved: meta.reserved })
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn set_aside(home: &Path, database: &Path, label: &str) -> Result<Option<PathBuf>, OpenError> {
    let wal = database.with_extension("db-wal");
    if !database.exists() && !wal.exists() {
        return Ok(None);
    }
    let aside = unused(home, label);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    fs::create_dir(&aside).map_err(io(&aside))?;
    for file in [&wal, &database.to_owned()] {
        let to = aside.join(file.file_name().expect("a file"));
        match fs::rename(file, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(file)(error)),
            _ => sync_directory(home).map_err(io(home))?,
        }
    }
    sync_directory(&aside).map_err(io(&aside))?;
    Ok(Some(aside))
}

/// `damaged-20261121T003700Z`; numbered where the clock stands still.
fn unused(home: &Path, label: &str) -> PathBuf {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let first = home.join(format!("{label}-{stamp}"));
    let others = (2..).map(|number| home.join(format!("{label}-{stamp}-{number}")));
    std::iter::once(first).chain(others).find(|path| !path.exists()).expect("numbers do not end")
}

/// The error of a database that cannot be used.
pub fn refused(path: PathBuf, unusable: Unusable) -> OpenError {
    match unusable {
        Unusable::Newer(found) => OpenError::Newer { path, found, known: FORMAT },
        Unusable::Foreign => OpenError::Foreign { path },
        Unusable::Damaged(reason) => OpenError::Damaged { path, reason },
        Unusable::Io(reason) => OpenError::Database { path, reason },
    }
}
