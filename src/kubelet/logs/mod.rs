//! Container logs in the CRI format: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, a line each.
//!
//! [`read`] serves them as the API does; [`rotate`] keeps them within their size.

mod line;
mod read;
pub mod rotate;

pub use line::parse;
pub use read::{LogOptions, Stream, stream};

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes of a log that are searched for its last lines.
const TAIL_WINDOW: u64 = 256 << 10;

/// The last lines of a log without time and stream, of at most so many lines and bytes.
pub fn tail(path: &Path, max_lines: usize, max_bytes: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_WINDOW)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_WINDOW).read_to_end(&mut bytes)?;
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut partial = false;
    for line in bytes.split_inclusive(|&byte| byte == b'\n').filter_map(|line| parse(line)) {
        if partial && let Some(last) = texts.last_mut() {
            last.extend_from_slice(line.text);
        } else {
            texts.push(line.text.to_vec());
        }
        partial = line.partial;
        if !partial && let Some(last) = texts.last_mut() {
            last.push(b'\n');
        }
    }
    let keep = texts.len().saturating_sub(max_lines);
    let joined: Vec<u8> = texts.drain(keep..).flatten().collect();
    let start = joined.len().saturating_sub(max_bytes);
    Ok(String::from_utf8_lossy(&joined[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let text = "2026-01-01T00:00:00.000000001Z stdout F one\n\
            2026-01-01T00:00:01.000000001Z stderr P tw\n2026-01-01T00:00:01.000000002Z stderr F o\n\
            2026-01-01T00:00:02.000000001Z stdout F three\n";
        std::fs::write(&path, text).expect("written");
        assert_eq!(tail(&path, 2, 100).expect("read"), "two\nthree\n");
        assert_eq!(tail(&path, 10, 8).expect("read"), "o\nthree\n");
        assert!(tail(&directory.path().join("none"), 1, 1).is_err());
    }
}
