//! A file of nothing, given up when the disk is full so that deletes have room to work.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// What has to be free for a ballast of so many bytes: as much again stays free, else the next write would ask for
/// it back.
pub fn room(bytes: u64) -> u64 {
    2 * bytes
}

pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == self.bytes)
    }

    /// Takes the space. False: there is not enough yet.
    pub fn restore(&self) -> io::Result<bool> {
        if self.is_there() {
            return Ok(true);
        }
        let parent = self.path.parent().expect("it is in the data directory");
        let space = statvfs(parent)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < room(self.bytes) {
            return Ok(false);
        }
        match self.fill() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.release()?;
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => file.sync_all(),
            Err(rustix::io::Errno::OPNOTSUPP) => self.write_out(&mut file),
            Err(error) => Err(error.into()),
        }
    }

    /// For file systems that cannot reserve.
    fn write_out(&self, file: &mut File) -> io::Result<()> {
        let block = [0x6f; 64 << 10];
        let mut left = self.bytes;
        while left > 0 {
            let part = left.min(block.len() as u64);
            file.write_all(&block[..part as usize])?;
            left -= part;
        }
        file.sync_all()
    }

    pub fn release(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
