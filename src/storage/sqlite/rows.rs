//! Rows: what is in them, and the checksums that show whether it is what was written.

use crate::storage::{Encryption, Entry, Key, Revision};
use bytes::Bytes;
use rusqlite::Row;

/// What every commit writes beside its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Of the commit.
    pub sequence: u64,
    /// No revision above this one was ever given out; where the store starts next time.
    pub reserved: Revision,
    /// The store was closed in order.
    pub clean: bool,
    pub count: u64,
    /// Over [`fingerprint`] of all rows.
    pub sum: u64,
}

impl Meta {
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for part in [self.sequence, self.reserved.0, u64::from(self.clean), self.count, self.sum] {
            hasher.update(&part.to_le_bytes());
        }
        hasher.finalize()
    }
}

fn checksum(id: u64, key: &str, revision: u64, schema: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [id, revision, schema, key.len() as u64] {
        hasher.update(&part.to_le_bytes());
    }
    hasher.update(key.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

pub fn checksum_of(entry: &Entry) -> u32 {
    checksum(entry.created.0, entry.key.as_str(), entry.revision.0, entry.body.schema, entry.body.at_rest())
}

/// A row's part in the sum over all rows.
pub fn fingerprint(entry: &Entry) -> u64 {
    let id = entry.created.0;
    // The finaliser of splitmix64: rows must not cancel each other out.
    let mut mixed = (id << 32 | id >> 32) ^ u64::from(checksum_of(entry));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// As SQLite holds it: the same bits.
pub fn integer(value: u64) -> i64 {
    value.cast_signed()
}

pub fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// The object of a row, or what is wrong with it.
pub fn verified(row: &Row<'_>, encryption: &Encryption) -> Result<Entry, String> {
    let id = unsigned(row, 0).map_err(|error| format!("a row: {error}"))?;
    let parts = || -> rusqlite::Result<_> {
        let key = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let body = row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok((key, unsigned(row, 2)?, unsigned(row, 3)?, row.get::<_, i64>(4)?, body))
    };
    let (key, revision, schema, stored, body) = parts().map_err(|error| format!("row {id}: {error}"))?;
    if i64::from(checksum(id, key, revision, schema, body)) != stored {
        return Err(format!("object {key:?} (row {id}) does not match its checksum"));
    }
    let key = Key::from_stored(key);
    let body = encryption
        .open(&key, Bytes::copy_from_slice(body), schema)
        .ok_or_else(|| format!("object {key:?} (row {id}) has no metadata"))?;
    Ok(Entry { key, revision: Revision(revision), created: Revision(id), body })
}
