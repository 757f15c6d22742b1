//! Objects as they were last written, before they are text again: who writes an object writes it once
//! more, mostly, and begins with a parse.
//!
//! Each is there for the next write alone, which takes it, and leaves what it made of it.

use super::codec;
use crate::resources::{Row, pipeline};
use crate::storage::{Entry, Revision};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;

/// How many bytes of memory are kept, and for how many objects there is room from the start.
const CAPACITY: u64 = 16 << 20;
const ROOM: usize = 64;
/// How much larger than its text an object is: every map has room for eleven entries.
const EXPANSION: u64 = 8;
/// The longest text of an object that is kept: those that are written all the time are short.
const LONGEST: usize = 64 << 10;

/// A state of an object, as a row reads it.
type Key = (Revision, u64);

/// With the length of its text.
type Object = (usize, Value);

#[derive(Clone)]
struct Size;

impl Weighter<Key, Object> for Size {
    fn weight(&self, _: &Key, (length, _): &Object) -> u64 {
        EXPANSION * *length as u64 + 64
    }
}

pub struct Parsed(Cache<Key, Object, Size>);

impl Default for Parsed {
    fn default() -> Self {
        Self(Cache::with_weighter(ROOM, CAPACITY, Size))
    }
}

impl Parsed {
    /// As [`codec::parse`].
    pub fn take(&self, row: &Row, entry: &Entry) -> Value {
        match self.0.remove(&(entry.revision, row.number)) {
            Some((_, (_, object))) => {
                debug_assert!(is_what_is_stored(&object, row, entry), "{object}");
                object
            }
            None => codec::parse(row, &entry.body),
        }
    }

    /// `object` is what was made to be `entry`; whether it has a resourceVersion does not matter.
    pub fn put(&self, row: &Row, entry: &Entry, object: Value) {
        // What is stored in another version is converted on its way.
        let as_it_is =
            row.stored_as.is_none() && row.stored_version.as_ref().is_none_or(|stored| stored.gvk == row.gvk);
        if as_it_is && entry.body.len() <= LONGEST {
            self.0.insert((entry.revision, row.number), (entry.body.len(), object));
        }
    }
}

fn is_what_is_stored(object: &Value, row: &Row, entry: &Entry) -> bool {
    let mut object = object.clone();
    pipeline::metadata(&mut object).remove("resourceVersion");
    object == codec::parse(row, &entry.body)
}
