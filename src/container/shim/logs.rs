//! Container logs in the CRI format: `<time> <stream> <P|F> <line>`, one per line or 16 KiB of it.
//!
//! [`LogWriter::write`] never fails: a line that the disk does not take is counted, and the log says
//! so as soon as it can be written again. The file is opened anew after a rotation.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer lines are split; all but the last part have the tag `P`.
pub const LINE_LIMIT: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log file of one container.
pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    /// The last write ended inside a line.
    torn: bool,
    dropped_lines: u64,
    dropped_bytes: u64,
    last_error: String,
}

impl LogWriter {
    /// An empty path throws everything away.
    pub fn new(path: &Path) -> Self {
        let mut writer = Self {
            path: path.to_owned(),
            file: None,
            torn: false,
            dropped_lines: 0,
            dropped_bytes: 0,
            last_error: String::new(),
        };
        writer.reopen();
        writer
    }

    /// The file was renamed: go on in a new one.
    pub fn reopen(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        // The directory is the kubelet's; a link planted there must not be followed.
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&self.path);
        match opened {
            Ok(file) => self.file = Some(file),
            Err(error) => self.last_error = error.to_string(),
        }
        self.torn = false;
    }

    /// Append whole formatted lines, `count` of them.
    fn append(&mut self, lines: &[u8], count: u64) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if self.file.is_none() {
            self.reopen();
        }
        if self.dropped_lines > 0 && !self.report() {
            self.dropped_lines += count;
            self.dropped_bytes += lines.len() as u64;
            return;
        }
        if !self.write_all(lines) {
            self.dropped_lines += count;
            self.dropped_bytes += lines.len() as u64;
        }
    }

    /// Say what was lost; false while that cannot be written either.
    fn report(&mut self) -> bool {
        let mut line = Vec::new();
        let text = format!(
            "orch: {} log lines ({} bytes) were dropped: {}",
            self.dropped_lines, self.dropped_bytes, self.last_error
        );
        format_line(&mut line, &timestamp(), Stream::Stderr, true, text.as_bytes());
        let written = self.write_all(&line);
        if written {
            self.dropped_lines = 0;
            self.dropped_bytes = 0;
        }
        written
    }

    fn write_all(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        if self.torn {
            match file.write(b"\n") {
                Ok(1) => self.torn = false,
                Ok(_) => return false,
                Err(error) => {
                    self.last_error = error.to_string();
                    return false;
                }
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => {
                    self.last_error = match outcome {
                        Err(error) => error.to_string(),
                        Ok(_) => "nothing was written".into(),
                    };
                    self.torn = rest.len() < bytes.len() && bytes[bytes.len() - rest.len() - 1] != b'\n';
                    return false;
                }
            }
        }
        true
    }
}

/// Cuts one stream of a container into log lines.
#[derive(Default)]
pub struct LineCutter {
    /// The begin of a line whose end has not come; never as long as [`LINE_LIMIT`].
    partial: Vec<u8>,
}

impl LineCutter {
    pub fn push(&mut self, log: &mut LogWriter, stream: Stream, mut bytes: &[u8]) {
        let time = timestamp();
        let mut lines = Vec::with_capacity(bytes.len() + 64);
        let mut count = 0;
        while !bytes.is_empty() {
            let room = LINE_LIMIT - self.partial.len();
            let newline = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (taken, full) = match newline {
                Some(end) => (end, true),
                None if bytes.len() >= room => (room, false),
                None => {
                    self.partial.extend_from_slice(bytes);
                    break;
                }
            };
            if self.partial.is_empty() {
                format_line(&mut lines, &time, stream, full, &bytes[..taken]);
            } else {
                self.partial.extend_from_slice(&bytes[..taken]);
                format_line(&mut lines, &time, stream, full, &self.partial);
                self.partial = Vec::new();
            }
            count += 1;
            bytes = &bytes[taken + usize::from(full)..];
        }
        if count > 0 {
            log.append(&lines, count);
        }
    }

    /// The stream ended: what is left is a line, if one without its end.
    pub fn finish(&mut self, log: &mut LogWriter, stream: Stream) {
        if self.partial.is_empty() {
            return;
        }
        let mut line = Vec::new();
        format_line(&mut line, &timestamp(), stream, false, &std::mem::take(&mut self.partial));
        log.append(&line, 1);
    }
}

fn format_line(out: &mut Vec<u8>, time: &str, stream: Stream, full: bool, line: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(if full { b" F " } else { b" P " });
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// RFC 3339 with nanoseconds, UTC.
fn timestamp() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let mut log = LogWriter::new(&path);
        let mut cutter = LineCutter::default();
        for chunk in chunks {
            cutter.push(&mut log, Stream::Stdout, chunk);
        }
        cutter.finish(&mut log, Stream::Stdout);
        let text = std::fs::read_to_string(&path).expect("readable");
        text.lines()
            .map(|line| {
                let mut parts = line.splitn(4, ' ');
                let time = parts.next().expect("a time");
                assert_eq!(time.len(), "2016-10-06T00:17:09.669794202Z".len(), "{time}");
                assert_eq!(parts.next(), Some("stdout"));
                (parts.next().expect("a tag").to_owned(), parts.next().expect("content").to_owned())
            })
            .collect()
    }

    #[test]
    fn lines_are_cut_where_they_end() {
        let pair = |tag: &str, text: &str| (tag.to_owned(), text.to_owned());
        assert_eq!(cut(&[b"one\ntwo\n"]), [pair("F", "one"), pair("F", "two")]);
        assert_eq!(cut(&[b"on", b"e\n\nthr", b"ee"]), [pair("F", "one"), pair("F", ""), pair("P", "three")]);
        assert!(cut(&[b""]).is_empty());
    }

    #[test]
    fn long_lines_are_split_and_marked_partial() {
        let mut long = vec![b'x'; LINE_LIMIT + 5];
        long.push(b'\n');
        let whole = cut(&[&long]);
        assert_eq!(
            whole.iter().map(|(tag, text)| (tag.as_str(), text.len())).collect::<Vec<_>>(),
            [("P", LINE_LIMIT), ("F", 5)]
        );
        let pieces: Vec<&[u8]> = long.chunks(1000).collect();
        assert_eq!(cut(&pieces), whole, "the size of the reads changes nothing");
        let mut exact = vec![b'x'; LINE_LIMIT];
        exact.push(b'\n');
        assert_eq!(
            cut(&[&exact]).iter().map(|(tag, text)| (tag.as_str(), text.len())).collect::<Vec<_>>(),
            [("F", LINE_LIMIT)]
        );
    }

    #[test]
    fn a_full_disk_drops_counts_and_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let mut log = LogWriter::new(&path);
        let mut cutter = LineCutter::default();
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").expect("the full device"));
        cutter.push(&mut log, Stream::Stdout, b"lost\nlost too\n");
        cutter.push(&mut log, Stream::Stdout, b"lost as well\n");
        log.reopen();
        cutter.push(&mut log, Stream::Stdout, b"kept\n");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.contains(" stderr F orch: 3 log lines ("), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        assert!(text.ends_with(" stdout F kept\n"), "{text}");
    }
}
