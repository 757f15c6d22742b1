//! Serving a container's log: from where, how much, and on while the container runs.

use super::line::{Line, parse};
use crate::runtime::directory_watch::{DirectoryWatch, WatchFlags};
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{mpsc, watch};

const CHUNK: usize = 64 << 10;
/// A line of a log file is shorter; a longer one is handed out in pieces.
const MAX_LINE: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// As `PodLogOptions` has them.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    pub stream: Stream,
}

/// Hand out the log at `path`. `running`: while true more may come; follow ends after it is false.
/// Dropping the receiver ends it.
pub fn stream(path: PathBuf, options: LogOptions, running: watch::Receiver<bool>) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut reader = Reader { left: options.limit_bytes, options, sender, partial: false };
        let served = tokio::select! {
            served = reader.serve(&path, running) => served,
        };
        if let Err(error) = served {
            // Nobody left to tell is no error.
            let _ = reader.sender.send(Err(error)).await;
        }
    });
    receiver
}

struct Reader {
    options: LogOptions,
    sender: mpsc::Sender<io::Result<Bytes>>,
    left: Option<u64>,
    /// The last line handed out has no end yet.
    partial: bool,
}

impl Reader {
    async fn serve(&mut self, path: &Path, mut running: watch::Receiver<bool>) -> io::Result<()> {
        let watch = if self.options.follow { Some(watch_file(path)?) } else { None };
        let mut file = File::open(path).await?;
        let start = match self.options.tail_lines {
            Some(lines) => tail_start(&mut file, lines).await?,
            None => 0,
        };
        file.seek(SeekFrom::Start(start)).await?;
        let mut buffer = BytesMut::new();
        let mut inode = file.metadata().await?.ino();
        loop {
            // Asked before reading: what is written until it turns false is read below.
            let more = *running.borrow_and_update();
            if !self.drain(&mut file, &mut buffer).await? {
                return Ok(());
            }
            let Some(watch) = &watch else { return self.finish(&buffer).await };
            // After a rotation the log goes on in a new file of the same name.
            if let Ok(metadata) = tokio::fs::metadata(path).await
                && metadata.ino() != inode
            {
                self.drain(&mut file, &mut buffer).await?;
                inode = metadata.ino();
                file = File::open(path).await?;
                continue;
            }
            if !more {
                return self.finish(&buffer).await;
            }
            tokio::select! {
                changed = watch.changed() => changed?,
                // A sender that is gone counts as an end.
                changed = running.changed() => if changed.is_err() {
                    self.drain(&mut file, &mut buffer).await?;
                    return self.finish(&buffer).await;
                },
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// Read to the end of what is there; false: nobody wants more.
    async fn drain(&mut self, file: &mut File, buffer: &mut BytesMut) -> io::Result<bool> {
        loop {
            buffer.reserve(CHUNK);
            let read = file.read_buf(buffer).await?;
            if read == 0 {
                return Ok(true);
            }
            let mut out = BytesMut::new();
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line = buffer.split_to(end + 1);
                self.write_line(&line, &mut out);
            }
            if buffer.len() > MAX_LINE {
                buffer.clear();
            }
            if !self.send(out).await {
                return Ok(false);
            }
        }
    }

    /// A last line without its end, as a crash leaves it.
    async fn finish(&mut self, buffer: &BytesMut) -> io::Result<()> {
        let mut out = BytesMut::new();
        self.write_line(buffer, &mut out);
        self.send(out).await;
        Ok(())
    }

    fn write_line(&mut self, line: &[u8], out: &mut BytesMut) {
        let Some(line) = parse(line) else { return };
        if !self.wants(&line) {
            return;
        }
        if self.options.timestamps && !self.partial {
            out.extend_from_slice(line.time.as_bytes());
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.extend_from_slice(b"\n");
        }
        self.partial = line.partial;
    }

    fn wants(&self, line: &Line) -> bool {
        let stream = match self.options.stream {
            Stream::All => true,
            Stream::Stdout => !line.stderr,
            Stream::Stderr => line.stderr,
        };
        stream && self.options.since.is_none_or(|since| line.timestamp().is_none_or(|time| time >= since))
    }

    async fn send(&mut self, mut out: BytesMut) -> bool {
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        if !out.is_empty() && self.sender.send(Ok(out.freeze())).await.is_err() {
            return false;
        }
        self.left != Some(0)
    }
}

/// The directory, since a rotation puts another file in place.
fn watch_file(path: &Path) -> io::Result<DirectoryWatch> {
    let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    DirectoryWatch::new(path.parent().unwrap_or(Path::new("/")), what)
}

/// Where the last `lines` lines of a file begin.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut seen = 0;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let size = (end - start) as usize;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut chunk[..size]).await?;
        for (offset, &byte) in chunk[..size].iter().enumerate().rev() {
            let position = start + offset as u64;
            // The end of the last line does not begin another one.
            if byte == b'\n' && position + 1 != length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
        2026-01-01T00:00:01.000000001Z stderr P tw\n2026-01-01T00:00:01.000000002Z stderr F o\n\
        2026-01-01T00:00:02.000000001Z stdout F three\n";

    async fn read(options: LogOptions) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, LOG).expect("written");
        let (_sender, running) = watch::channel(true);
        let mut receiver = stream(path, options, running);
        let mut out = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            out.extend_from_slice(&chunk.expect("read"));
        }
        String::from_utf8(out).expect("text")
    }

    #[tokio::test]
    async fn options() {
        assert_eq!(read(LogOptions::default()).await, "one\ntwo\nthree\n");
        assert_eq!(read(LogOptions { tail_lines: Some(1), ..LogOptions::default() }).await, "three\n");
        assert_eq!(read(LogOptions { tail_lines: Some(0), ..LogOptions::default() }).await, "");
        assert_eq!(read(LogOptions { tail_lines: Some(99), ..LogOptions::default() }).await, "one\ntwo\nthree\n");
        assert_eq!(read(LogOptions { limit_bytes: Some(5), ..LogOptions::default() }).await, "one\nt");
        assert_eq!(read(LogOptions { stream: Stream::Stderr, ..LogOptions::default() }).await, "two\n");
        let since = Some("2026-01-01T00:00:01.5Z".parse().expect("a time"));
        assert_eq!(read(LogOptions { since, ..LogOptions::default() }).await, "three\n");
        let stamped = read(LogOptions { timestamps: true, tail_lines: Some(1), ..LogOptions::default() }).await;
        assert_eq!(stamped, "2026-01-01T00:00:02.000000001Z three\n");
    }

    #[tokio::test]
    async fn follows_over_a_rotation_to_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, LOG).expect("written");
        let (sender, running) = watch::channel(true);
        let mut receiver =
            stream(path.clone(), LogOptions { follow: true, tail_lines: Some(1), ..Default::default() }, running);
        let mut next = async || {
            let chunk = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.expect("in time");
            chunk.map(|chunk| String::from_utf8(chunk.expect("read").to_vec()).expect("text"))
        };
        assert_eq!(next().await.as_deref(), Some("three\n"));
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        file.write_all(b"2026-01-01T00:00:03Z stdout F four\n").expect("written");
        assert_eq!(next().await.as_deref(), Some("four\n"));
        std::fs::rename(&path, directory.path().join("0.log.1")).expect("renamed");
        std::fs::write(&path, "2026-01-01T00:00:04Z stdout F five\n").expect("written");
        assert_eq!(next().await.as_deref(), Some("five\n"));
        sender.send_replace(false);
        assert_eq!(next().await, None);
    }
}
