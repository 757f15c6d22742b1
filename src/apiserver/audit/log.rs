//! The file of audit events, a line of JSON each, rotated by size.
//!
//! A line is written before its request goes on. Rotated files are named by their time, beside the
//! file: `audit-2026-11-21T07-31-44.000.log`.

use super::Mode;
use anyhow::{Context, Result};
use jiff::Timestamp;
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const STAMP: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// The flags `--audit-log-*`.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-`: standard output.
    pub path: PathBuf,
    /// In batches or not, a line is written at once.
    pub mode: Mode,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// How many rotated files are kept; 0: all.
    pub max_backups: usize,
    /// How long rotated files are kept; zero: for ever.
    pub max_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            mode: Mode::Blocking,
            max_size: 100 << 20,
            max_backups: 0,
            max_age: Duration::ZERO,
        }
    }
}

pub struct Log {
    options: Options,
    /// None: standard output.
    file: Option<Mutex<Open>>,
}

struct Open {
    file: File,
    size: u64,
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Log {
    pub fn open(options: Options) -> Result<Self> {
        if options.path == Path::new("-") {
            return Ok(Self { options, file: None });
        }
        let path = &options.path;
        let open = || -> io::Result<Open> {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            Open::new(path)
        };
        let file = open().with_context(|| format!("open the audit log {}", path.display()))?;
        Ok(Self { file: Some(Mutex::new(file)), options })
    }

    pub fn mode(&self) -> Mode {
        self.options.mode
    }

    /// One line, its newline included.
    pub fn write(&self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return io::stdout().lock().write_all(line) };
        let mut open = file.lock();
        let length = line.len() as u64;
        if open.size > 0 && open.size + length > self.options.max_size {
            *open = self.rotate()?;
        }
        open.file.write_all(line)?;
        open.size += length;
        Ok(())
    }

    fn rotate(&self) -> io::Result<Open> {
        let path = &self.options.path;
        let stamp = Timestamp::now().strftime(STAMP).to_string();
        fs::rename(path, path.with_file_name(format!("{}-{stamp}{}", self.stem(), self.suffix())))?;
        let open = Open::new(path)?;
        self.prune()?;
        Ok(open)
    }

    fn stem(&self) -> String {
        self.options.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// With its dot.
    fn suffix(&self) -> String {
        self.options.path.extension().map(|suffix| format!(".{}", suffix.to_string_lossy())).unwrap_or_default()
    }

    /// The rotated files, oldest first: their names sort as their times do.
    fn rotated(&self) -> io::Result<Vec<(PathBuf, Timestamp)>> {
        let directory = self.options.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let (prefix, suffix) = (format!("{}-", self.stem()), self.suffix());
        let mut found = Vec::new();
        for file in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stamp = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&suffix));
            let time = stamp.and_then(|stamp| jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp).ok());
            if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
                found.push((path.clone(), time.timestamp()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn prune(&self) -> io::Result<()> {
        let rotated = self.rotated()?;
        let surplus = match self.options.max_backups {
            0 => 0,
            kept => rotated.len().saturating_sub(kept),
        };
        let now = SystemTime::now();
        for (place, (path, time)) in rotated.into_iter().enumerate() {
            let old = !self.options.max_age.is_zero()
                && now.duration_since(time.into()).is_ok_and(|age| age > self.options.max_age);
            if place < surplus || old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("a directory")
            .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_rotated_and_pruned() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs/audit.log");
        let options = Options {
            path: path.clone(),
            max_size: 30,
            max_backups: 2,
            max_age: Duration::from_secs(3600),
            ..Options::default()
        };
        let log = Log::open(options.clone()).expect("a log");
        let logs = path.parent().expect("a directory");
        fs::write(logs.join("audit-2020-01-02T03-04-05.678.log"), "old").expect("a file");
        fs::write(logs.join("audit-else.log"), "not ours").expect("a file");
        for round in 0..5 {
            log.write(format!("line {round} of some length\n").as_bytes()).expect("written");
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = names(logs);
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(
            left.contains(&"audit-else.log".to_owned()) && !left.iter().any(|name| name.contains("2020")),
            "{left:?}"
        );
        assert_eq!(fs::read_to_string(&path).expect("the newest"), "line 4 of some length\n");
        // Another start goes on where the file ends.
        let log = Log::open(options).expect("a log");
        log.write(b"more\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("the newest"), "line 4 of some length\nmore\n");
    }

    #[test]
    fn a_place_that_cannot_be_is_named() {
        let error =
            Log::open(Options { path: "/proc/none/audit.log".into(), ..Options::default() }).err().expect("refused");
        assert!(format!("{error:#}").contains("/proc/none/audit.log"), "{error:#}");
    }
}
