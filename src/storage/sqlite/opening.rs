//! Opening a store: lock, verify, load, name what is damaged.

use super::ballast::Ballast;
use super::database::{Database, Failure, Unusable};
use super::directory::Directory;
use super::load::Loaded;
use super::replace::{refused, replace};
use super::rows::Meta;
use super::sequence::Sidecar;
use super::snapshot;
use super::writer::{Disk, Writer};
use super::{Health, OpenError, Options, Recovery, Shared};
use crate::storage::Revision;
use crate::storage::history::History;
use crate::storage::live::Tree;
use crate::storage::pins::Pins;
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Opens or makes the store; `None`: in memory. Runs on the writer's thread.
pub fn open(path: Option<&Path>, options: Options) -> Result<(Writer, Option<Recovery>), OpenError> {
    let directory = path.map_or_else(|| Ok(Directory::in_memory()), Directory::lock)?;
    match load(&directory, &options)? {
        Found::Whole(store) => Ok((begin(directory, options, store)?, None)),
        Found::Damaged(damaged) => recover(directory, options, damaged),
    }
}

/// A store without damage, ready to be written.
struct Whole {
    database: Database,
    sidecar: Option<Sidecar>,
    loaded: Loaded,
    /// The disk is full, even without the ballast.
    full: Option<String>,
}

struct Damaged {
    reason: String,
    /// The objects that are whole.
    tree: Tree,
    /// Nothing is missing: only the file around the objects is damaged.
    complete: bool,
}

enum Found {
    Whole(Box<Whole>),
    Damaged(Damaged),
}

fn begin(directory: Directory, options: Options, store: Box<Whole>) -> Result<Writer, OpenError> {
    let Whole { database, sidecar, loaded, full } = *store;
    let ballast = ballast(&directory, &options);
    let shared = share(loaded.tree, &options, Health::Good);
    let room = match &full {
        None => ballast.as_ref().map_or(Ok(true), Ballast::restore),
        Some(_) => Ok(false),
    };
    let mut writer = Writer::new(shared, options, directory, Disk { database, sidecar, ballast }, loaded.meta);
    match room {
        Ok(true) => {}
        Ok(false) => writer.enter_full(full.unwrap_or_else(|| "there is no room for the ballast".to_owned())),
        Err(error) => tracing::warn!(%error, "make the ballast"),
    }
    Ok(writer)
}

fn ballast(directory: &Directory, options: &Options) -> Option<Ballast> {
    let path = directory.ballast().filter(|_| options.ballast_bytes > 0)?;
    Some(Ballast::new(path, options.ballast_bytes))
}

/// Starts from a file written anew where no object is lost, else from the newest automatic snapshot
/// that is whole, else read-only with what is left.
fn recover(directory: Directory, options: Options, damaged: Damaged) -> Result<(Writer, Option<Recovery>), OpenError> {
    let Damaged { reason, tree, complete } = damaged;
    if complete && options.vfs.is_none() {
        let replaced = replace(&directory, &tree, "damaged")?;
        return restart(directory, options, Recovery { reason, snapshot: None, replaced });
    }
    let candidates = options.snapshots.as_deref().map(snapshot::list).transpose().unwrap_or_else(|error| {
        tracing::error!(%error, "list the automatic snapshots");
        None
    });
    // One that a user asked for may be of any age: whether that is wanted is for the user to say.
    let automatic = |candidate: &snapshot::Listed| candidate.is_called(snapshot::AUTOMATIC);
    for candidate in candidates.unwrap_or_default().into_iter().filter(automatic) {
        let replaced = snapshot::verify(&candidate.path, &directory)
            .and_then(|(_, tree, _)| Ok(replace(&directory, &tree, "damaged")?));
        match replaced {
            Ok(replaced) => {
                return restart(directory, options, Recovery { reason, snapshot: Some(candidate.path), replaced });
            }
            Err(error) => tracing::error!(%error, "a snapshot cannot be used"),
        }
    }
    if tree.entries().next().is_none() {
        // Nothing to serve: an empty cluster would be a lie.
        return Err(OpenError::Damaged { path: place(&directory), reason });
    }
    let reason = format!(
        "database {} is damaged: {reason}: restore a snapshot, or salvage what is whole",
        place(&directory).display()
    );
    tracing::error!(reason, "the database is damaged: the store is read-only");
    let shared = share(tree, &options, Health::ReadOnly(reason.clone()));
    Ok((Writer::read_only(shared, options, directory, reason), None))
}

fn restart(
    directory: Directory,
    options: Options,
    recovery: Recovery,
) -> Result<(Writer, Option<Recovery>), OpenError> {
    match load(&directory, &options)? {
        Found::Whole(store) => Ok((begin(directory, options, store)?, Some(recovery))),
        Found::Damaged(Damaged { reason, .. }) => Err(OpenError::Damaged { path: place(&directory), reason }),
    }
}

/// The objects of a store that are whole, and what is wrong with it, if anything is.
pub fn readable(directory: &Directory) -> Result<(Tree, Option<String>), OpenError> {
    match load(directory, &Options::default())? {
        Found::Whole(store) => Ok((store.loaded.tree, None)),
        Found::Damaged(damaged) => Ok((damaged.tree, Some(damaged.reason))),
    }
}

fn share(tree: Tree, options: &Options, health: Health) -> Arc<Shared> {
    Arc::new(Shared {
        history: Arc::new(History::new(tree.revision, options.history)),
        tree: ArcSwap::from_pointee(tree),
        pins: Pins::new(options.pin),
        encryption: ArcSwap::new(options.encryption.clone()),
        health: watch::Sender::new(health),
    })
}

fn load(directory: &Directory, options: &Options) -> Result<Found, OpenError> {
    let (sidecar, noted) = match directory.sequence() {
        Some(path) => {
            let (sidecar, noted) = Sidecar::open(&path).map_err(|source| OpenError::Io { path, source })?;
            (Some(sidecar), noted)
        }
        None => (None, None),
    };
    let gone = || OpenError::Gone {
        path: place(directory),
        sidecar: directory.sequence().unwrap_or_default(),
        commits: noted.map_or(0, |noted| noted.sequence),
    };
    // Before SQLite makes a new one, and throws away a WAL that has lost its database.
    let missing = options.vfs.is_none() && directory.database().is_some_and(|path| !path.exists());
    if missing && noted.is_some() {
        return Err(gone());
    }
    let refuse = |unusable| refused(place(directory), unusable);
    let floor = noted.map_or(Revision::default(), |noted| noted.reserved);
    let damaged = |reason: String, mut tree: Tree, complete: bool| {
        tree.revision = tree.revision.max(floor);
        Ok(Found::Damaged(Damaged { reason, tree, complete }))
    };
    let mut database = match Database::open(directory, options) {
        Ok(database) => database,
        Err(Unusable::Damaged(reason)) => return damaged(reason, Tree::default(), false),
        Err(other) => return Err(refuse(other)),
    };
    if database.is_empty().map_err(refuse)? {
        if noted.is_some() {
            return Err(gone());
        }
        let first = Meta { sequence: 1, reserved: Revision(1), clean: true, ..Meta::default() };
        database.create(&first).map_err(|failure| failed(directory, failure))?;
        directory.sync().map_err(|source| OpenError::Io { path: place(directory), source })?;
    }
    let mut loaded = match database.load(&options.encryption) {
        Ok(loaded) => loaded,
        Err(Unusable::Damaged(reason)) => return damaged(reason, Tree::default(), false),
        Err(other) => return Err(refuse(other)),
    };
    if let Some(noted) = noted
        && loaded.damage.is_empty()
        && loaded.meta.sequence < noted.sequence
    {
        let missing = noted.sequence - loaded.meta.sequence;
        loaded.damage.push(format!(
            "the last {missing} of {} commits are missing: the disk lost what it had confirmed",
            noted.sequence
        ));
    }
    if !loaded.damage.is_empty() {
        return damaged(summary(&loaded.damage), loaded.tree, false);
    }
    if let Some(reason) = loaded.structure {
        return damaged(reason, loaded.tree, true);
    }
    let full = match settle(&mut database, directory, options) {
        Ok(()) => None,
        Err(Failure::Full(reason)) => Some(reason),
        Err(failure) => return Err(failed(directory, failure)),
    };
    if full.is_none()
        && let Some(page) = database.first_bad_page().map_err(|failure| failed(directory, failure))?
    {
        return damaged(format!("page {page} does not match its checksum"), loaded.tree, true);
    }
    Ok(Found::Whole(Box::new(Whole { database, sidecar, loaded, full })))
}

/// Empties the WAL; a full disk gives up its ballast for that.
fn settle(database: &mut Database, directory: &Directory, options: &Options) -> Result<(), Failure> {
    match (database.checkpoint(true), ballast(directory, options)) {
        (Err(Failure::Full(_)), Some(ballast)) => {
            ballast.release().map_err(|error| Failure::Fatal(format!("release the ballast: {error}")))?;
            database.checkpoint(true)
        }
        (settled, _) => settled,
    }
}

fn place(directory: &Directory) -> PathBuf {
    directory.database().unwrap_or_else(|| PathBuf::from(":memory:"))
}

fn summary(damage: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = damage.len().saturating_sub(SHOWN);
    let mut summary = damage[..damage.len() - more].join("; ");
    if more > 0 {
        summary.push_str(&format!("; and {more} more"));
    }
    summary
}

fn failed(directory: &Directory, failure: Failure) -> OpenError {
    let path = place(directory);
    match failure {
        Failure::Full(_) => OpenError::Full { path },
        Failure::Fatal(reason) => OpenError::Database { path, reason },
    }
}
