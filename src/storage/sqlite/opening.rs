//! Opening a store: lock, verify, load, name what is damaged.

use super::ballast::Ballast;
use super::database::{Database, FORMAT, Failure, Loaded, Meta, Unusable};
use super::directory::Directory;
use super::sequence::{Committed, Sidecar};
use super::writer::{Disk, Writer};
use super::{Health, OpenError, Options, Shared};
use crate::storage::Revision;
use crate::storage::history::History;
use crate::storage::live::Tree;
use crate::storage::pins::Pins;
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Opens or makes the store; `None`: in memory. Runs on the writer's thread.
pub fn open(path: Option<&Path>, options: Options) -> Result<Writer, OpenError> {
    let directory = path.map_or_else(|| Ok(Directory::in_memory()), Directory::lock)?;
    let (sidecar, noted) = match directory.sequence() {
        Some(path) => {
            let (sidecar, noted) = Sidecar::open(&path).map_err(|source| OpenError::Io { path, source })?;
            (Some(sidecar), noted)
        }
        None => (None, None),
    };
    let (mut database, loaded) = match load(&directory, &options, noted) {
        Ok((database, loaded)) if loaded.damage.is_empty() => (database, loaded),
        Ok((_, loaded)) => {
            let reason = name(&directory, &loaded.damage);
            let floor = noted.map_or(Revision::default(), |noted| noted.reserved);
            let mut tree = loaded.tree;
            tree.revision = tree.revision.max(floor);
            tracing::error!(reason, "the database is damaged: the store is read-only");
            let shared = share(tree, &options, Health::ReadOnly(reason.clone()));
            return Ok(Writer::read_only(shared, options, directory, reason));
        }
        Err(error) => return Err(error),
    };
    database.checkpoint(true).map_err(|failure| failed(&directory, failure))?;
    let ballast =
        directory.ballast().filter(|_| options.ballast_bytes > 0).map(|path| Ballast::new(path, options.ballast_bytes));
    let shared = share(loaded.tree, &options, Health::Good);
    let room = ballast.as_ref().map_or(Ok(true), Ballast::restore);
    let mut writer = Writer::new(shared, options, directory, Disk { database, sidecar, ballast }, loaded.meta);
    match room {
        Ok(true) => {}
        Ok(false) => writer.enter_full("there is no room for the ballast".to_owned()),
        Err(error) => tracing::warn!(%error, "make the ballast"),
    }
    Ok(writer)
}

fn share(tree: Tree, options: &Options, health: Health) -> Arc<Shared> {
    Arc::new(Shared {
        history: Arc::new(History::new(tree.revision, options.history)),
        tree: ArcSwap::from_pointee(tree),
        pins: Pins::new(options.pin),
        health: watch::Sender::new(health),
    })
}

fn load(directory: &Directory, options: &Options, noted: Option<Committed>) -> Result<(Database, Loaded), OpenError> {
    let refuse = |unusable| refused(directory, unusable);
    let database = Database::open(directory, options).map_err(refuse)?;
    if database.is_empty().map_err(refuse)? {
        if let Some(noted) = noted {
            return Err(OpenError::Gone {
                path: place(directory),
                sidecar: directory.sequence().unwrap_or_default(),
                commits: noted.sequence,
            });
        }
        let first = Meta { sequence: 1, reserved: Revision(1), clean: true, ..Meta::default() };
        database.create(&first).map_err(|failure| failed(directory, failure))?;
        directory.sync().map_err(|source| OpenError::Io { path: place(directory), source })?;
    }
    let mut loaded = database.load().map_err(refuse)?;
    if let Some(noted) = noted
        && loaded.damage.is_empty()
        && loaded.meta.sequence < noted.sequence
    {
        let lost = noted.sequence - loaded.meta.sequence;
        loaded.damage.push(format!(
            "the last {lost} of {} commits are missing: the disk lost what it had confirmed",
            noted.sequence
        ));
    }
    Ok((database, loaded))
}

fn place(directory: &Directory) -> PathBuf {
    directory.database().unwrap_or_else(|| PathBuf::from(":memory:"))
}

fn name(directory: &Directory, damage: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = damage.len().saturating_sub(SHOWN);
    let mut reason =
        format!("database {} is damaged: {}", place(directory).display(), damage[..damage.len() - more].join("; "));
    if more > 0 {
        reason.push_str(&format!("; and {more} more"));
    }
    reason
}

fn refused(directory: &Directory, unusable: Unusable) -> OpenError {
    let path = place(directory);
    match unusable {
        Unusable::Newer(found) => OpenError::Newer { path, found, known: FORMAT },
        Unusable::Foreign => OpenError::Foreign { path },
        Unusable::Damaged(reason) | Unusable::Io(reason) => OpenError::Database { path, reason },
    }
}

fn failed(directory: &Directory, failure: Failure) -> OpenError {
    let (Failure::Full(reason) | Failure::Fatal(reason)) = failure;
    OpenError::Database { path: place(directory), reason }
}
