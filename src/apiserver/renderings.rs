//! What clients were shown of stored objects lately and costs a parse: protobuf messages, and the cells
//! of Tables. Each is made once for each state of an object, not for each list and watch that shows it.

use super::respond;
use crate::resources::Row;
use crate::resources::cells::Clock;
use crate::schema::protobuf;
use crate::storage::{Entry, Revision};
use bytes::Bytes;
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// How many bytes are kept of each, and for how many entries there is room from the start.
const CAPACITY: u64 = 16 << 20;
const ROOM: usize = 64;

/// A state of an object, as a row shows it.
type Key = (Revision, u64);

/// The cells of an object as JSON, and the second from which some age in them is another.
#[derive(Clone)]
struct Cells {
    json: Bytes,
    until: i64,
}

#[derive(Clone)]
struct Size;

impl Weighter<Key, Bytes> for Size {
    fn weight(&self, _: &Key, message: &Bytes) -> u64 {
        message.len() as u64 + 64
    }
}

impl Weighter<Key, Cells> for Size {
    fn weight(&self, _: &Key, cells: &Cells) -> u64 {
        cells.json.len() as u64 + 72
    }
}

pub struct Renderings {
    messages: Cache<Key, Bytes, Size>,
    cells: Cache<Key, Cells, Size>,
}

impl Default for Renderings {
    fn default() -> Self {
        Self { messages: Cache::with_weighter(ROOM, CAPACITY, Size), cells: Cache::with_weighter(ROOM, CAPACITY, Size) }
    }
}

impl Renderings {
    /// The protobuf message of an object of the row, without an envelope. None: the kind has no such form.
    pub fn message(&self, row: &Row, entry: &Entry) -> Option<Bytes> {
        let schema = row.schema.as_ref()?;
        let key = (entry.revision, row.number);
        if let Some(message) = self.messages.get(&key) {
            return Some(message);
        }
        let object = respond::current(row, &entry.body).parse_at(entry.revision);
        let message = Bytes::from(protobuf::encode_message(schema, &object)?);
        self.messages.insert(key, message.clone());
        Some(message)
    }

    /// The cells of an object of the row, as they are now.
    pub fn cells(&self, row: &Row, entry: &Entry, now: Timestamp) -> Bytes {
        let key = (entry.revision, row.number);
        if let Some(cells) = self.cells.get(&key)
            && now.as_second() < cells.until
        {
            return cells.json;
        }
        let clock = Clock::new(now);
        let cells = super::table::cells(row, &respond::current(row, &entry.body).parse_shown(), &clock);
        let json = Bytes::from(serde_json::to_vec(&cells).expect("cells print"));
        self.cells.insert(key, Cells { json: json.clone(), until: clock.until() });
        json
    }
}
