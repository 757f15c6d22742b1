//! Protobuf messages of stored objects that clients read lately: a message is made once for each
//! state of an object, not for each list and watch that shows it.

use super::respond;
use crate::resources::Row;
use crate::schema::protobuf;
use crate::storage::{Entry, Revision};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// How many bytes are kept, and for how many messages there is room from the start.
const CAPACITY: u64 = 16 << 20;
const ROOM: usize = 64;

/// A state of an object, as a version of its resource shows it.
type Key = (Revision, u64);

#[derive(Clone)]
struct Size;

impl Weighter<Key, Bytes> for Size {
    fn weight(&self, _: &Key, message: &Bytes) -> u64 {
        message.len() as u64 + 64
    }
}

pub struct Messages(Cache<Key, Bytes, Size>);

impl Default for Messages {
    fn default() -> Self {
        Self(Cache::with_weighter(ROOM, CAPACITY, Size))
    }
}

impl Messages {
    /// Of an object of the row, without an envelope. None: the kind has no protobuf form.
    pub fn of(&self, row: &Row, entry: &Entry) -> Option<Bytes> {
        let schema = row.schema.as_ref()?;
        let key = (entry.revision, row.schema_hash());
        if let Some(message) = self.0.get(&key) {
            return Some(message);
        }
        let object = respond::current(row, &entry.body).parse_at(entry.revision);
        let message = Bytes::from(protobuf::encode_message(schema, &object)?);
        self.0.insert(key, message.clone());
        Some(message)
    }
}
