//! Keeps an index in memory up to date with the store: one reading, then every change.
//!
//! [`follow`] applies what there is before it returns, so that an index is whole from the start,
//! and goes on until the returned [`Following`] is dropped. A watch that falls behind reads again.
//! [`Projection`] is the other way: look at one object now, and parse it only when it has changed.

use crate::storage::{Entry, Key, Prefix, Revision, Storage, Watch, WatchError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What an index is told.
pub enum Update<'a> {
    /// Everything below the prefix; forget what was before.
    Reset(Vec<Arc<Entry>>),
    Put(&'a Arc<Entry>),
    Delete(&'a Key),
}

/// Ends the following when dropped.
#[derive(Debug)]
pub struct Following(JoinHandle<()>);

impl Following {
    /// A task that ends with it. Must be called on a tokio runtime.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Must be called on a tokio runtime. `apply` must be quick: it runs on the runtime's threads.
pub fn follow(
    storage: Arc<dyn Storage>,
    prefix: Prefix,
    mut apply: impl FnMut(Update<'_>) + Send + 'static,
) -> Following {
    let mut watch = reset(&*storage, &prefix, &mut apply);
    Following(tokio::spawn(async move {
        loop {
            match watch.next().await {
                Ok(change) => match &change.new {
                    Some(entry) => apply(Update::Put(entry)),
                    None => apply(Update::Delete(&change.key)),
                },
                Err(WatchError::Lagged) => watch = reset(&*storage, &prefix, &mut apply),
                Err(WatchError::Closed) => return,
            }
        }
    }))
}

fn reset(storage: &dyn Storage, prefix: &Prefix, apply: &mut impl FnMut(Update<'_>)) -> Box<dyn Watch> {
    loop {
        let snapshot = storage.snapshot();
        // The snapshot can only be too old when the history turned over since the last line.
        if let Ok(watch) = storage.watch(prefix.clone(), snapshot.revision()) {
            apply(Update::Reset(snapshot.range(prefix, None).cloned().collect()));
            return watch;
        }
    }
}

/// Parsed parts of objects, each made again only when its object has changed. Bounded.
pub struct Projection<T> {
    parse: fn(&[u8]) -> Option<T>,
    entries: Mutex<HashMap<Key, (Revision, Arc<T>)>>,
}

const MAX_PROJECTIONS: usize = 4096;

impl<T> Projection<T> {
    /// `parse` sees the stored JSON.
    pub fn new(parse: fn(&[u8]) -> Option<T>) -> Self {
        Self { parse, entries: Mutex::default() }
    }

    /// None: there is no such object (or not one that `parse` takes).
    pub fn get(&self, storage: &dyn Storage, key: &Key) -> Option<Arc<T>> {
        let Some(entry) = storage.get(key) else {
            self.entries.lock().remove(key);
            return None;
        };
        if let Some((revision, parsed)) = self.entries.lock().get(key)
            && *revision == entry.revision
        {
            return Some(parsed.clone());
        }
        let parsed = Arc::new((self.parse)(entry.body.stored())?);
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_PROJECTIONS {
            entries.clear();
        }
        entries.insert(key.clone(), (entry.revision, parsed.clone()));
        Some(parsed)
    }
}

/// A projection by serde: fields that are not named cost next to nothing.
pub fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}
