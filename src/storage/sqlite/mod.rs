//! The store on SQLite: one writer thread, reads from memory.
//!
//! [`SqliteStorage::open`] verifies and loads everything; after that SQLite only writes. Memory,
//! history and replies change only after a commit returned ok; a commit whose outcome is not known
//! ends the store ([`SqliteStorage::failed`]), and the process starts again from the disk.

mod ballast;
mod database;
mod directory;
mod disk;
mod load;
mod opening;
mod plan;
mod replace;
mod rewrite;
mod rows;
mod sequence;
pub mod snapshot;
mod writer;

use super::history::{History, Limits};
use super::live::Tree;
use super::pins::Pins;
use super::{Body, Durability, Encryption, Entry, Error, Key, Prefix, Result, Revision, Snapshot, Storage, Watch};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use plan::{Operation, Outcome};
pub use replace::Replaced;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use writer::Request;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    pub synchronous: Synchronous,
    /// How long a lazy write may wait for a durable one to ride on.
    pub lazy: Duration,
    pub history: Limits,
    /// How long a continue token keeps its state.
    pub pin: Duration,
    /// Size of the file that is given up when the disk is full.
    pub ballast_bytes: u64,
    /// The WAL is moved into the database when it holds this much …
    pub checkpoint_bytes: u64,
    /// … and cut when its file was longer than this.
    pub truncate_bytes: u64,
    /// Free space that stays in the database file, since it is used again soon; 0: none.
    pub spare_bytes: u64,
    /// Where [`SqliteStorage::save_automatic`] puts its snapshots; after damage the newest is started from.
    pub snapshots: Option<PathBuf>,
    /// Added to every sync, to see how a slow disk does.
    pub sync_delay: Duration,
    /// What is encrypted on disk, and how; [`SqliteStorage::set_encryption`] changes it.
    pub encryption: Arc<Encryption>,
    /// A registered SQLite VFS, for tests of failing disks.
    pub vfs: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            lazy: Duration::from_secs(60),
            history: Limits { bytes: 16 << 20, age: Duration::from_secs(300) },
            pin: Duration::from_secs(300),
            ballast_bytes: 16 << 20,
            checkpoint_bytes: 4 << 20,
            truncate_bytes: 32 << 20,
            spare_bytes: 4 << 20,
            snapshots: None,
            sync_delay: Duration::ZERO,
            encryption: Arc::default(),
            vfs: None,
        }
    }
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    Full,
    /// Survives the death of the process, not of the machine: for tests only.
    Off,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {path} is in use by process {holder}: stop that server, or use another --data-dir")]
    Locked { path: PathBuf, holder: String },
    #[error("database {path} has format {found}, this orch knows up to {known}: use the newer orch that wrote it")]
    Newer { path: PathBuf, found: i32, known: i32 },
    #[error("database {path} belongs to another program: use another --data-dir")]
    Foreign { path: PathBuf },
    #[error(
        "database {path} is gone, but {commits} commits were made: restore a snapshot, or remove {sidecar} to start empty"
    )]
    Gone { path: PathBuf, sidecar: PathBuf, commits: u64 },
    #[error("database {path} is damaged: {reason}: restore a snapshot")]
    Damaged { path: PathBuf, reason: String },
    #[error("the disk is full: {path} cannot be written: make room on it")]
    Full { path: PathBuf },
    #[error("open {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("open database {path}: {reason}")]
    Database { path: PathBuf, reason: String },
}

/// A start from something else than the database, because that was damaged.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What was wrong.
    pub reason: String,
    /// None: every object was whole and nothing is lost, only the file was written anew.
    pub snapshot: Option<PathBuf>,
    pub replaced: Replaced,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database was damaged: {}; ", self.reason)?;
        match &self.snapshot {
            Some(snapshot) => write!(f, "the store starts from the snapshot {}", snapshot.display())?,
            None => f.write_str("no object is lost, the file was written anew")?,
        }
        match &self.replaced.kept {
            Some(kept) => write!(f, "; the damaged one is kept in {}", kept.display()),
            None => Ok(()),
        }
    }
}

/// What a store can do at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything.
    Good,
    /// The disk is full: deletes and shrinking updates only.
    Full(String),
    /// Damage was found: reads only.
    ReadOnly(String),
    /// The outcome of a commit is not known: the process has to end.
    Failed(String),
}

/// What the writer shows to readers.
struct Shared {
    tree: ArcSwap<Tree>,
    history: Arc<History>,
    pins: Pins,
    /// Only the writer changes it: what was sealed before is written before.
    encryption: ArcSwap<Encryption>,
    health: watch::Sender<Health>,
}

/// The store of one server on its own disk.
pub struct SqliteStorage {
    /// None: in memory.
    directory: Option<PathBuf>,
    shared: Arc<Shared>,
    recovery: Option<Recovery>,
    requests: mpsc::Sender<Request>,
}

impl SqliteStorage {
    /// Opens or makes the store in a directory. Takes as long as it takes to read everything.
    pub async fn open(directory: &Path, options: Options) -> std::result::Result<Arc<Self>, OpenError> {
        Self::start(Some(directory.to_owned()), options).await
    }

    /// A store that leaves nothing behind: for tests.
    pub async fn in_memory() -> Arc<Self> {
        Self::start(None, Options::default()).await.expect("memory opens")
    }

    async fn start(directory: Option<PathBuf>, options: Options) -> std::result::Result<Arc<Self>, OpenError> {
        let (requests, inbox) = mpsc::channel();
        let (opened, opening) = oneshot::channel();
        let on_disk = directory.clone();
        let name = directory.clone().unwrap_or_default();
        let io = |source| OpenError::Io { path: name.clone(), source };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || match opening::open(directory.as_deref(), options) {
                Ok((writer, recovery)) => {
                    // The caller may have gone away: then the channel is closed, and the store with it.
                    let _ = opened.send(Ok((writer.shared(), recovery)));
                    writer.run(&inbox);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(io)?;
        let (shared, recovery) =
            opening.await.map_err(|_| io(std::io::Error::other("the writer thread panicked")))??;
        Ok(Arc::new(Self { directory: on_disk, shared, recovery, requests }))
    }

    /// What was damaged, where the store did not start from its database as it was.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// To be told when [`Self::health`] changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Returns when the store has failed: the process should end then, and start again.
    pub async fn failed(&self) -> String {
        let mut health = self.watch_health();
        match health.wait_for(|health| matches!(health, Health::Failed(_))).await.as_deref() {
            Ok(Health::Failed(reason)) => reason.clone(),
            _ => std::future::pending().await,
        }
    }

    /// Makes everything durable, lazy writes too.
    pub async fn flush(&self) -> Result<()> {
        self.ask(Request::Flush).await
    }

    /// From now on writes are encrypted so, and what is there is read so. Nothing is written.
    pub async fn set_encryption(&self, encryption: Arc<Encryption>) -> Result<()> {
        self.ask(|reply| Request::Encrypt { encryption, reply }).await
    }

    /// The objects that no key opens, and why.
    pub fn unreadable(&self) -> Vec<(Key, String)> {
        let tree = self.shared.tree.load();
        let found = tree.entries().filter_map(|entry| Some((entry.key.clone(), entry.body.unreadable()?.to_owned())));
        found.collect()
    }

    /// Writes every object anew that is not on disk as it would be written now; how many that were. Those that
    /// cannot be read stay as they are.
    pub async fn reencrypt(&self) -> Result<usize> {
        let tree = self.shared.tree.load_full();
        let encryption = self.shared.encryption.load_full();
        let mut written = 0;
        let due = |entry: &Entry| entry.body.unreadable().is_none() && !encryption.is_current(entry);
        for entry in tree.entries().filter(|entry| due(entry)) {
            let mut entry = entry.clone();
            loop {
                let (key, body) = (entry.key.clone(), entry.body.clone());
                match self.update(key, entry.revision, body, Durability::Durable).await {
                    Ok(_) => written += 1,
                    Err(Error::NotFound) => {}
                    // Somebody else has written it: after the tree was taken, so with the new key, or with the old one
                    // of a batch that was under way.
                    Err(Error::Conflict { .. }) => match self.get(&entry.key).filter(|entry| due(entry)) {
                        Some(current) => {
                            entry = current;
                            continue;
                        }
                        None => {}
                    },
                    Err(error) => return Err(error),
                }
                break;
            }
        }
        Ok(written)
    }

    /// Writes the whole database anew: nothing of what was replaced or removed is left in the file.
    pub async fn rewrite(&self) -> Result<()> {
        self.ask(Request::Rewrite).await
    }

    /// Flushes, ends every watch and lets the directory go. Writes after it fail.
    pub async fn close(&self) -> Result<()> {
        self.ask(Request::Close).await
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<()>>) -> Request) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn write(&self, operation: Operation) -> Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Write { operation, reply }).map_err(|_| closed())?;
        // A writer that goes away without an answer may have committed.
        answer.await.map_err(|_| Error::Unknown("the store stopped".to_owned()))?
    }
}

fn closed() -> Error {
    Error::ReadOnly("the store is closed".to_owned())
}

#[async_trait]
impl Storage for SqliteStorage {
    fn revision(&self) -> Revision {
        self.shared.history.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.shared.tree.load().find(key).cloned()
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.shared.tree.load_full()
    }

    fn pin(&self, snapshot: &Arc<dyn Snapshot>) {
        self.shared.pins.pin(snapshot);
    }

    fn pinned(&self, revision: Revision) -> Result<Arc<dyn Snapshot>> {
        let current = self.shared.tree.load_full();
        if revision == current.revision {
            return Ok(current);
        }
        if revision > current.revision {
            return Err(Error::Future { requested: revision, current: current.revision });
        }
        match self.shared.pins.find(revision, current.revision) {
            Err(Error::Compacted { .. }) => Ok(Arc::new(self.shared.history.rewind(&current, revision)?)),
            found => found,
        }
    }

    async fn barrier(&self) -> Result<()> {
        Ok(())
    }

    async fn create(&self, key: Key, body: Body, durability: Durability) -> Result<Arc<Entry>> {
        Ok(self.write(Operation::Create { key, body, durability }).await?.entry)
    }

    async fn update(&self, key: Key, expected: Revision, body: Body, durability: Durability) -> Result<Arc<Entry>> {
        Ok(self.write(Operation::Update { key, expected, body, durability }).await?.entry)
    }

    async fn delete(&self, key: Key, expected: Revision) -> Result<(Arc<Entry>, Revision)> {
        let outcome = self.write(Operation::Delete { key, expected }).await?;
        Ok((outcome.entry, outcome.revision))
    }

    fn is_current(&self, entry: &Entry) -> bool {
        self.shared.encryption.load().is_current(entry)
    }

    fn size_bytes(&self) -> Option<u64> {
        let path = directory::database(self.directory.as_ref()?);
        std::fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    fn watch(&self, prefix: Prefix, from: Revision) -> Result<Box<dyn Watch>> {
        self.shared.history.watch(prefix, from)
    }
}
