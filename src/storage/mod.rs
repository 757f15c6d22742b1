//! The store: one global revision, objects as bytes, a live index in memory, history for watches.
//!
//! [`Storage`] is what the API server sees. Reads ([`Storage::get`], [`Storage::snapshot`]) come
//! from memory and never block; writes return when they are durable (lazy writes: when they are
//! in memory). A write is visible to reads and watches before its call returns, never before it is
//! durable. Nothing else in the tree opens the database.

mod body;
mod key;

pub use body::{Body, Index};
pub use key::{Key, Prefix};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;

/// The store's revision: `resourceVersion` on the wire, as a decimal number. Starts at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// One object as it is stored. Shared by the index, the history and every reader.
#[derive(Debug)]
pub struct Entry {
    pub key: Key,
    /// Of the write that made this state.
    pub revision: Revision,
    pub body: Body,
}

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk before the call returns.
    Durable,
    /// Only heartbeats and Events: rides on the next durable commit, else within a minute.
    Lazy,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("key not found")]
    NotFound,
    #[error("key exists")]
    Exists,
    /// The object is at another revision than expected.
    #[error("revision mismatch: current {current:?}")]
    Conflict { current: Revision },
    /// The revision is older than the history: list again.
    #[error("revision {requested:?} is too old, the oldest is {oldest:?}")]
    Compacted { requested: Revision, oldest: Revision },
    /// The revision is not reached yet.
    #[error("revision {requested:?} is too large, the current is {current:?}")]
    Future { requested: Revision, current: Revision },
    /// The disk is full: only deletes and shrinking updates pass.
    #[error("disk full: {0}")]
    Full(String),
    /// Damage was found: the store takes no writes.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The write may or may not be on disk; the process is about to end.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// A change, as a watch sees it. `old` is the state before.
#[derive(Debug)]
pub struct Change {
    pub revision: Revision,
    pub key: Key,
    pub old: Option<Arc<Entry>>,
    /// None: deleted.
    pub new: Option<Arc<Entry>>,
    /// Finished frames of this change, by what they depend on (media type, target version, event
    /// type): made by the first watcher that needs one, shared by all.
    pub frames: Mutex<SmallVec<[(u64, Bytes); 2]>>,
}

/// What comes out of a [`Watch`].
#[derive(Debug)]
pub enum WatchError {
    /// The watcher fell behind by more than its buffer or the history.
    Lagged,
    /// The store closes.
    Closed,
}

/// A stream of changes below a prefix, in revision order, each exactly once.
pub trait Watch: Send {
    /// The next change; pending while there is none. Cancel safe.
    fn next(&mut self) -> futures::future::BoxFuture<'_, std::result::Result<Arc<Change>, WatchError>>;
    /// The revision up to which this watch has delivered everything: for bookmarks.
    fn progress(&self) -> Revision;
}

/// A consistent state of everything at one revision; cheap to take and to clone.
pub trait Snapshot: Send + Sync {
    fn revision(&self) -> Revision;
    fn get(&self, key: &Key) -> Option<Arc<Entry>>;
    /// Entries below the prefix in key order, after `after` where it is given.
    fn range<'a>(
        &'a self,
        prefix: &Prefix,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + Send + 'a>;
    /// How many there are below the prefix.
    fn count(&self, prefix: &Prefix) -> usize;
}

/// The store of one cluster.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Of the last visible write.
    fn revision(&self) -> Revision;
    fn get(&self, key: &Key) -> Option<Arc<Entry>>;
    /// The state now.
    fn snapshot(&self) -> Arc<dyn Snapshot>;
    /// Keep the state of a snapshot for continue tokens (a few, five minutes at most).
    fn pin(&self, snapshot: &Arc<dyn Snapshot>);
    /// A pinned state; `Compacted` when it is gone.
    fn pinned(&self, revision: Revision) -> Result<Arc<dyn Snapshot>>;
    /// All that a linearizable read must see is visible when this returns. Nothing to do on SQLite.
    async fn barrier(&self) -> Result<()>;

    async fn create(&self, key: Key, body: Body, durability: Durability) -> Result<Arc<Entry>>;
    /// Replace the state of revision `expected`.
    async fn update(&self, key: Key, expected: Revision, body: Body, durability: Durability) -> Result<Arc<Entry>>;
    /// Remove the state of revision `expected`; returns it and the revision of the removal.
    async fn delete(&self, key: Key, expected: Revision) -> Result<(Arc<Entry>, Revision)>;

    /// Changes after `from`. `Compacted` when the history does not reach back that far.
    fn watch(&self, prefix: Prefix, from: Revision) -> Result<Box<dyn Watch>>;
}
