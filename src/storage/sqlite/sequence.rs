//! The sidecar: the sequence of the last commit, outside of the database.
//!
//! Written after every commit, never before: so it is never ahead of a disk that tells the truth,
//! and a database behind it has lost commits that the disk said it had. Two slots in two blocks of a
//! preallocated file take turns; a torn write costs one.

use crate::storage::Revision;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: &[u8; 8] = b"orchseq1";
const BLOCK: u64 = 4096;
const RECORD: usize = 28;

/// What was committed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub sequence: u64,
    /// No revision above it was ever given out.
    pub reserved: Revision,
}

impl Committed {
    fn encode(self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(MAGIC);
        record[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        record[16..24].copy_from_slice(&self.reserved.0.to_le_bytes());
        let checksum = crc32fast::hash(&record[..24]);
        record[24..].copy_from_slice(&checksum.to_le_bytes());
        record
    }

    fn decode(record: &[u8; RECORD]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        let checksum = u32::from_le_bytes(record[24..].try_into().expect("four bytes"));
        let whole = record[..8] == MAGIC[..] && checksum == crc32fast::hash(&record[..24]);
        whole.then(|| Self { sequence: number(8), reserved: Revision(number(16)) })
    }
}

pub struct Sidecar {
    file: File,
}

impl Sidecar {
    /// The file and what it says: None where it is new or both slots are unreadable.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Committed>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() < 2 * BLOCK {
            // Written, not only reserved: a later write changes no metadata.
            file.write_all_at(&[0; 2 * BLOCK as usize], 0)?;
            file.sync_all()?;
        }
        let mut slots = [[0; RECORD]; 2];
        for (slot, record) in (0..).zip(&mut slots) {
            file.read_exact_at(record, slot * BLOCK)?;
        }
        let last = slots.iter().filter_map(Committed::decode).max_by_key(|committed| committed.sequence);
        Ok((Self { file }, last))
    }

    /// Notes a commit. Not synced: the write is started now, and the sync of the next commit's WAL takes it along.
    pub fn note(&self, committed: Committed) -> io::Result<()> {
        let offset = committed.sequence % 2 * BLOCK;
        self.file.write_all_at(&committed.encode(), offset)?;
        // SAFETY: the descriptor is open for the length of the call, which takes no pointers.
        // Its result is of no matter: without it the kernel writes the page in its own time.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                offset.cast_signed(),
                BLOCK.cast_signed(),
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
