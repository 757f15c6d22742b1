//! The store: one global revision, objects as bytes, a live index in memory, history for watches.
//!
//! [`Storage`] is what the API server sees. Reads ([`Storage::get`], [`Storage::snapshot`]) come
//! from memory and never block; writes return when they are durable (lazy writes: when they are
//! in memory). A write is visible to reads and watches before its call returns, never before it is
//! durable. Nothing else in the tree opens the database.

mod body;
mod encryption;
mod history;
mod key;
mod live;
mod lock_file;
mod pins;
mod sqlite;

pub use body::{Body, Index};
pub use encryption::Encryption;
pub use history::Limits;
pub use key::{Key, Prefix};
pub use lock_file::{LockError, LockFile};
pub use sqlite::{Health, OpenError, Options, Recovery, Replaced, SqliteStorage, Synchronous, snapshot};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, poll_fn};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The store's revision: `resourceVersion` on the wire, as a decimal number. Starts at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// One object as it is stored. Shared by the index, the history and every reader.
#[derive(Debug)]
pub struct Entry {
    pub key: Key,
    /// Of the write that made this state.
    pub revision: Revision,
    /// Of the write that created the object; no other object ever has it.
    pub created: Revision,
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
    frames: Mutex<Frames>,
}

#[derive(Debug, Default)]
struct Frames {
    /// The change is an old one: nothing is kept any more.
    dropped: bool,
    made: SmallVec<[(u64, Bytes); 2]>,
}

impl Change {
    pub fn new(revision: Revision, key: Key, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Self {
        Self { revision, key, old, new, frames: Mutex::default() }
    }

    /// A finished frame of this change, by what it depends on (media type, target version, event
    /// type): made by the first watcher that needs it, shared by all.
    pub fn frame(&self, depends_on: u64, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.made.iter().find(|(known, _)| *known == depends_on) {
            return frame.clone();
        }
        let frame = make();
        if !frames.dropped {
            frames.made.push((depends_on, frame.clone()));
        }
        frame
    }

    fn drop_frames(&self) {
        *self.frames.lock() = Frames { dropped: true, made: SmallVec::new() };
    }
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
    /// The next change; pending while there is none. The last waker is woken.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<Arc<Change>, WatchError>>;
    /// The next change. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, std::result::Result<Arc<Change>, WatchError>> {
        poll_fn(|context| self.poll_next(context)).boxed()
    }
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
    /// A pinned state, or an earlier one that the history reaches back to; `Compacted` when it is gone.
    fn pinned(&self, revision: Revision) -> Result<Arc<dyn Snapshot>>;
    /// All that a linearizable read must see is visible when this returns. Nothing to do on SQLite.
    async fn barrier(&self) -> Result<()>;

    async fn create(&self, key: Key, body: Body, durability: Durability) -> Result<Arc<Entry>>;
    /// Replace the state of revision `expected`.
    async fn update(&self, key: Key, expected: Revision, body: Body, durability: Durability) -> Result<Arc<Entry>>;
    /// Remove the state of revision `expected`; returns it and the revision of the removal.
    async fn delete(&self, key: Key, expected: Revision) -> Result<(Arc<Entry>, Revision)>;

    /// Whether an object is on disk as a write would leave it now: else an update that changes nothing is written, too.
    fn is_current(&self, entry: &Entry) -> bool;
    /// Of the file on disk; None: there is none.
    fn size_bytes(&self) -> Option<u64>;
    /// Changes after `from`. `Compacted` when the history does not reach back that far.
    fn watch(&self, prefix: Prefix, from: Revision) -> Result<Box<dyn Watch>>;
}
