//! The database file: tables, checksums, load, commit, checkpoint. Only the writer holds one.
//!
//! One row per live object; its id is the revision of its creation, so creates append and no index
//! on keys is needed: the live index is that. The `meta` row is written with every commit: sequence,
//! reserved revision, and count and sum over all rows, so that a page that went stale or away is
//! noticed as surely as a flipped byte.

use super::directory::Directory;
use super::rows::{Meta, checksum_of, fingerprint, integer, unsigned};
use super::{Options, disk};
use crate::storage::Entry;
use crate::storage::live::Tree;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// "orch", in the header of the file.
const APPLICATION: i32 = 0x6f72_6368;
/// Of the tables below; a file of a newer one is refused by name.
pub const FORMAT: i32 = 1;
/// Bytes that a page takes in the WAL.
const FRAME: u64 = PAGE + 24;
/// Of the database file.
pub const PAGE: u64 = 4096;
/// This part of the file may be free pages: to give one back another one is moved.
const SPARE_PART: u64 = 4;
/// Free pages given back at once: what that writes has to fit the bounds of the WAL.
const VACUUM_PAGES: u64 = 1024;

const TABLES: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        sequence INTEGER NOT NULL,
        reserved INTEGER NOT NULL,
        clean INTEGER NOT NULL,
        count INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        schema INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        body BLOB NOT NULL
    );";

const PUT: &str =
    "INSERT OR REPLACE INTO objects (id, key, revision, schema, checksum, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const REMOVE: &str = "DELETE FROM objects WHERE id = ?1";
const PUT_META: &str = "INSERT OR REPLACE INTO meta (id, sequence, reserved, clean, count, sum, checksum)
    VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";

thread_local! {
    /// Pages in the WAL after the last commit of this thread's connection.
    static WAL_PAGES: Cell<u64> = const { Cell::new(0) };
}

/// A row to write.
pub enum RowWrite<'a> {
    Put(&'a Entry),
    Remove { id: u64 },
}

/// Why the database refused.
#[derive(Debug)]
pub enum Failure {
    /// No space; the transaction is rolled back.
    Full(String),
    /// Input or output failed, or the file is damaged: what is on disk is not known.
    Fatal(String),
}

pub struct Database {
    connection: Connection,
    /// Most pages that the WAL had since it was truncated.
    wal_high: u64,
    wal: bool,
}

/// Why a file cannot be used as it is.
#[derive(Debug)]
pub enum Unusable {
    /// Written by a newer orch.
    Newer(i32),
    /// Another program's database.
    Foreign,
    Damaged(String),
    Io(String),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, ReadOnly};
        match error.sqlite_error_code() {
            Some(CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | PermissionDenied | ReadOnly) => {
                Self::Io(describe(&error))
            }
            // A page that cannot be read, a table that is not there, a value of the wrong type.
            _ => Self::Damaged(describe(&error)),
        }
    }
}

impl Database {
    /// Opens the file and makes its tables where there are none. `fresh`: nothing was ever written here.
    pub fn open(directory: &Directory, options: &Options) -> Result<Self, Unusable> {
        let connection = match directory.database() {
            Some(path) => {
                check_header(&path)?;
                connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, options)?
            }
            None => Connection::open_in_memory()?,
        };
        let wal = directory.database().is_some();
        Self::prepare(&connection, options, wal)?;
        Ok(Self { connection, wal_high: 0, wal })
    }

    /// A whole database in a new file, without WAL: for a snapshot. Synced by the caller.
    pub fn write_detached(path: &Path, tree: &Tree, meta: Meta) -> Result<Meta, Failure> {
        let fail = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Failure::Full(error.to_string()),
            _ => Failure::Fatal(describe(&error)),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(path, flags, &Options::default()).map_err(fail)?;
        connection
            .execute_batch(
                "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=OFF;
                 PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-1024;",
            )
            .map_err(fail)?;
        let mut this = Self { connection, wal_high: 0, wal: false };
        this.create(&Meta::default())?;
        let mut entries: Vec<&Arc<Entry>> = tree.entries().collect();
        entries.sort_unstable_by_key(|entry| entry.created);
        let sum = entries.iter().fold(0_u64, |sum, entry| sum.wrapping_add(fingerprint(entry)));
        let meta = Meta { count: entries.len() as u64, sum, clean: true, ..meta };
        this.commit(entries.into_iter().map(|entry| RowWrite::Put(entry)), &meta)?;
        this.close()?;
        Ok(meta)
    }

    /// A finished file, only to be read.
    pub fn open_detached(path: &Path) -> Result<Self, Unusable> {
        check_header(path)?;
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, &Options::default())?;
        connection.execute_batch("PRAGMA cache_size=-1024; PRAGMA mmap_size=0; PRAGMA cell_size_check=ON;")?;
        Ok(Self { connection, wal_high: 0, wal: false })
    }

    fn prepare(connection: &Connection, options: &Options, wal: bool) -> Result<(), Unusable> {
        // Exclusive before the first access: the index of the WAL is then in memory, not in a file.
        connection.execute_batch(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-1024; PRAGMA mmap_size=0;
             PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;",
        )?;
        if tables(connection)? == 0 {
            // Of a database that is there this writes a page, for which there may be no room.
            connection.execute_batch("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL;")?;
        }
        connection.set_prepared_statement_cache_capacity(16);
        if !wal {
            return Ok(());
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(Unusable::Io(format!("the file system does not let SQLite use a WAL (mode {mode})")));
        }
        connection.execute_batch(match options.synchronous {
            super::Synchronous::Full => "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;",
            super::Synchronous::Off => "PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;",
        })?;
        connection.wal_hook(Some(|_, pages| {
            WAL_PAGES.set(pages.try_into().unwrap_or_default());
            Ok(())
        }));
        Ok(())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether there is nothing in it yet.
    pub fn is_empty(&self) -> Result<bool, Unusable> {
        Ok(tables(&self.connection)? == 0)
    }

    /// Makes the tables and the first meta row in one transaction.
    pub fn create(&self, meta: &Meta) -> Result<(), Failure> {
        let create = || {
            self.connection.execute_batch(TABLES)?;
            self.connection
                .execute_batch(&format!("PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT};"))?;
            self.put_meta(meta)?;
            self.connection.execute_batch("COMMIT")
        };
        create().map_err(|error| self.failed(error))
    }

    /// Writes rows and meta in one transaction, durable when this returns.
    pub fn commit<'a>(&mut self, rows: impl Iterator<Item = RowWrite<'a>>, meta: &Meta) -> Result<(), Failure> {
        let written = self.transaction(rows, meta);
        if self.wal {
            self.wal_high = self.wal_high.max(WAL_PAGES.get());
        }
        written.map_err(|error| self.failed(error))
    }

    fn transaction<'a>(&self, rows: impl Iterator<Item = RowWrite<'a>>, meta: &Meta) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        {
            let mut put = self.connection.prepare_cached(PUT)?;
            let mut remove = self.connection.prepare_cached(REMOVE)?;
            for row in rows {
                match row {
                    RowWrite::Put(entry) => put.execute(params![
                        integer(entry.created.0),
                        entry.key.as_str(),
                        integer(entry.revision.0),
                        integer(entry.body.schema),
                        checksum_of(entry),
                        &entry.body.at_rest()[..],
                    ])?,
                    RowWrite::Remove { id } => remove.execute([integer(id)])?,
                };
            }
        }
        self.put_meta(meta)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn put_meta(&self, meta: &Meta) -> rusqlite::Result<()> {
        self.connection.prepare_cached(PUT_META)?.execute(params![
            integer(meta.sequence),
            integer(meta.reserved.0),
            meta.clean,
            integer(meta.count),
            integer(meta.sum),
            meta.checksum(),
        ])?;
        Ok(())
    }

    /// Rolls back and says why.
    fn failed(&self, error: rusqlite::Error) -> Failure {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let rolled_back = self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        match full && rolled_back {
            true => Failure::Full(error.to_string()),
            false => Failure::Fatal(describe(&error)),
        }
    }

    /// Bytes of the WAL that hold commits.
    pub fn wal_bytes(&self) -> u64 {
        if self.wal { WAL_PAGES.get() * FRAME } else { 0 }
    }

    /// The length of the WAL file.
    pub fn wal_length(&self) -> u64 {
        self.wal_high * FRAME
    }

    /// Moves the WAL into the file; `truncate`: and cuts the WAL to nothing.
    pub fn checkpoint(&mut self, truncate: bool) -> Result<(), Failure> {
        if !self.wal {
            return Ok(());
        }
        let pragma = if truncate { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(RESTART)" };
        let busy: i64 = self.connection.query_row(pragma, [], |row| row.get(0)).map_err(|error| self.failed(error))?;
        if busy != 0 {
            return Err(Failure::Fatal("checkpoint: another process reads the database".to_owned()));
        }
        WAL_PAGES.set(0);
        if truncate {
            self.wal_high = 0;
        }
        Ok(())
    }

    /// The first page of the file that is not as it was written; the WAL must be empty.
    pub fn first_bad_page(&self) -> Result<Option<u32>, Failure> {
        if self.wal { disk::first_bad_page(&self.connection).map_err(Failure::Fatal) } else { Ok(None) }
    }

    /// Gives free pages back, some at a time; the file is shorter after the next checkpoint. `spare`: so many bytes of
    /// them are left alone, or a part of the file, if that is more; 0: none are. False: there was nothing to give.
    pub fn vacuum(&mut self, spare: u64) -> Result<bool, Failure> {
        let given = self.incremental_vacuum(spare).map_err(|error| self.failed(error))?;
        self.wal_high = self.wal_high.max(WAL_PAGES.get());
        Ok(given)
    }

    fn incremental_vacuum(&self, spare: u64) -> rusqlite::Result<bool> {
        let count = |pragma: &str| self.connection.query_row(pragma, [], |row| unsigned(row, 0));
        let free = count("PRAGMA freelist_count")?;
        let spare = match spare {
            0 => 0,
            bytes => (count("PRAGMA page_count")? / SPARE_PART).max(bytes / PAGE),
        };
        let pages = free.saturating_sub(spare).min(VACUUM_PAGES);
        if pages == 0 {
            return Ok(false);
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        // Each page is a step of the statement.
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        Ok(count("PRAGMA freelist_count")? < free)
    }

    pub fn close(self) -> Result<(), Failure> {
        self.connection.close().map_err(|(_, error)| Failure::Fatal(describe(&error)))
    }
}

fn tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Whether the file is ours and of a format that is known, from its header alone: what a newer orch
/// has written may be unreadable in every other way. A missing or empty file is about to be made.
fn check_header(path: &Path) -> Result<(), Unusable> {
    let mut header = Vec::new();
    match File::open(path).and_then(|file| file.take(100).read_to_end(&mut header)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Unusable::Io(error.to_string())),
        Ok(0) => return Ok(()),
        Ok(_) => {}
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(Unusable::Damaged("its header is not one of SQLite".to_owned()));
    }
    let number = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
    match (number(68), number(60)) {
        (APPLICATION, FORMAT) => Ok(()),
        (APPLICATION, newer) if newer > FORMAT => Err(Unusable::Newer(newer)),
        (APPLICATION, other) => Err(Unusable::Damaged(format!("format {other} was never written"))),
        // The moment between making the file and the first commit.
        (0, 0) if number(40) == 0 => Ok(()),
        _ => Err(Unusable::Foreign),
    }
}

fn describe(error: &rusqlite::Error) -> String {
    match error.sqlite_error() {
        Some(inner) => format!("{error} (SQLite code {})", inner.extended_code),
        None => error.to_string(),
    }
}

fn connect(path: &Path, flags: OpenFlags, options: &Options) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let vfs = disk::register(options.vfs.as_deref(), options.sync_delay);
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs.as_str())?;
    disk::reserve(&connection);
    Ok(connection)
}
