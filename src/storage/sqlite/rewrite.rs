//! Writing the database of a running store anew: for what its free parts still hold of earlier states.

use super::Options;
use super::database::{Database, Failure};
use super::directory::{Directory, sync_directory};
use super::rows::Meta;
use super::writer::Disk;
use crate::storage::live::Tree;
use crate::storage::{Error, Result};
use std::fs::{self, File};
use std::path::Path;

impl Disk {
    /// Puts a new file with the objects of `tree`, all of which are committed, in place of the old one. The inner
    /// error leaves the old one in use; the outer one leaves none.
    pub fn rewrite(
        mut self,
        directory: &Directory,
        options: &Options,
        tree: &Tree,
        meta: Meta,
    ) -> std::result::Result<(Self, Result<Meta>), Failure> {
        // A simulated disk has no files that could be exchanged; memory has none at all.
        let (Some(home), Some(target), None) = (directory.path(), directory.database(), &options.vfs) else {
            return Ok((self, Ok(meta)));
        };
        let partial = home.join("orch.db.partial");
        let meta = match write(&partial, tree, meta) {
            Ok(meta) => meta,
            Err(error) => {
                // It may not even be there.
                let _ = fs::remove_file(&partial);
                return Ok((self, Err(error)));
            }
        };
        self.database.checkpoint(true)?;
        let Self { database, sidecar, ballast } = self;
        database.close()?;
        let fatal = |what: &str, error: &dyn std::fmt::Display| Failure::Fatal(format!("{what}: {error}"));
        fs::rename(&partial, &target).map_err(|error| fatal("put the database in place", &error))?;
        sync_directory(home).map_err(|error| fatal("put the database in place", &error))?;
        let database = Database::open(directory, options)
            .map_err(|error| Failure::Fatal(format!("open the database that was written anew: {error:?}")))?;
        let disk = Self { database, sidecar, ballast };
        // Only now: a sequence that no database has would be taken for a lost commit.
        disk.note(&meta)?;
        Ok((disk, Ok(meta)))
    }
}

fn write(partial: &Path, tree: &Tree, meta: Meta) -> Result<Meta> {
    let refuse = |reason: String| Error::Full(format!("write the database anew: {reason}"));
    match fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refuse(error.to_string())),
        _ => {}
    }
    let meta = Meta { sequence: meta.sequence + 1, reserved: meta.reserved, ..Meta::default() };
    let meta = Database::write_detached(partial, tree, meta).map_err(|failure| {
        let (Failure::Full(reason) | Failure::Fatal(reason)) = failure;
        refuse(reason)
    })?;
    File::open(partial).and_then(|file| file.sync_all()).map_err(|error| refuse(error.to_string()))?;
    Ok(meta)
}
