//! One container in a shim: its output pumps, its terminal, who is attached, how it ended.

use super::logs::{LineCutter, LogWriter, Stream};
use super::protocol::{Exit, Running, StartContainer};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The far end of an `attach`.
pub struct Sink {
    fd: OwnedFd,
    /// What the far end has not taken yet. While there is some, the stream is not read.
    pending: VecDeque<u8>,
}

impl Sink {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, pending: VecDeque::new() })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// False when nobody reads any more.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend(bytes);
        self.flush()
    }

    pub fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            let (head, _) = self.pending.as_slices();
            match rustix::io::write(&self.fd, head) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.pending = VecDeque::new();
        true
    }
}

/// One output stream of a container.
pub struct Pump {
    pub stream: Stream,
    pub source: OwnedFd,
    cutter: LineCutter,
    pub sinks: Vec<Sink>,
}

impl Pump {
    pub fn new(stream: Stream, source: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&source, true)?;
        Ok(Self { stream, source, cutter: LineCutter::default(), sinks: Vec::new() })
    }

    pub fn is_blocked(&self) -> bool {
        self.sinks.iter().any(Sink::is_behind)
    }

    /// Read what there is, once; false at the end of the stream.
    pub fn turn(&mut self, log: &mut LogWriter, buffer: &mut [u8]) -> bool {
        match rustix::io::read(&self.source, &mut *buffer) {
            Ok(0) => self.end(log),
            Ok(count) => {
                self.cutter.push(log, self.stream, &buffer[..count]);
                self.sinks.retain_mut(|sink| sink.push(&buffer[..count]));
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            // A terminal whose last user is gone gives EIO.
            Err(_) => self.end(log),
        }
    }

    fn end(&mut self, log: &mut LogWriter) -> bool {
        self.cutter.finish(log, self.stream);
        false
    }
}

/// A container that was started.
pub struct Container {
    pub request: StartContainer,
    pub running: Running,
    pub log: LogWriter,
    pub pumps: Vec<Pump>,
    /// The write end of its standard input, or of its terminal.
    pub stdin: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub exit: Option<Exit>,
}

impl Container {
    /// The process ended: note how, before anything of its cgroup is removed.
    pub fn ended(&mut self, status: nix::sys::wait::WaitStatus) {
        let (exit_code, signal) = exit_code(status);
        self.exit = Some(Exit {
            exit_code,
            signal,
            finished_at: crate::container::process::now(),
            oom_killed: self.request.oom_files.iter().any(|file| oom_kills(file) > 0),
            ..Exit::default()
        });
        self.stdin = None;
        kill_rest(&self.request.kill_file);
    }

    /// The terminal is standard output and input at once.
    pub fn adopt_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        self.pumps.push(Pump::new(Stream::Stdout, master.try_clone()?)?);
        if self.request.stdin {
            self.stdin = Some(master.try_clone()?);
        }
        self.terminal = Some(master);
        Ok(())
    }

    /// Over: ended, and all that it said is in the log.
    pub fn is_drained(&self) -> bool {
        self.exit.is_some() && self.pumps.is_empty()
    }
}

/// The exit code as a shell tells it: 128 + signal for a killed process.
pub fn exit_code(status: nix::sys::wait::WaitStatus) -> (i32, Option<i32>) {
    use nix::sys::wait::WaitStatus;
    match status {
        WaitStatus::Exited(_, code) => (code, None),
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
        _ => (255, None),
    }
}

/// `oom_kill` of `memory.events` (v2) or `memory.oom_control` (v1).
fn oom_kills(file: &Path) -> u64 {
    fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// A shared or the machine's pid namespace outlives the container: end what its first process left behind.
fn kill_rest(file: &Path) {
    if file.file_name().is_some_and(|name| name == "cgroup.kill") {
        // It may be empty and removed already; nothing is left to kill then.
        let _ = fs::write(file, "1");
        return;
    }
    for pid in fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Put the exit record in its place by rename, so that it is there wholly or not at all.
pub fn record_exit(records: &Path, container: &str, exit: &Exit) -> io::Result<()> {
    let directory = records.join(container);
    let temporary = directory.join("exit.json.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    fs::rename(&temporary, directory.join("exit.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_read_from_both_hierarchies() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("memory.events");
        fs::write(&file, "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n").expect("written");
        assert_eq!(oom_kills(&file), 2);
        fs::write(&file, "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n").expect("written");
        assert_eq!(oom_kills(&file), 1);
        assert_eq!(oom_kills(&directory.path().join("absent")), 0);
    }

    #[test]
    fn a_slow_reader_stops_its_stream_and_a_gone_one_is_dropped() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut sink = Sink::new(writer).expect("a sink");
        assert!(sink.push(&vec![b'x'; 256 * 1024]));
        assert!(sink.is_behind(), "a pipe holds less than that");
        drop(reader);
        assert!(!sink.flush(), "nobody reads it");
    }
}
