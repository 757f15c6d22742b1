//! Which process is meant: boot id, pid and start time, then a pidfd; never a bare pid.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

/// A process of this or an earlier boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessIdentity {
    pub boot_id: String,
    pub pid: i32,
    /// Clock ticks after boot, field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl ProcessIdentity {
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { boot_id: boot_id().to_owned(), pid, start_time: start_time(pid)? })
    }

    /// A pidfd, if the process still lives and is the one that was meant.
    pub fn open(&self) -> Option<OwnedFd> {
        if self.boot_id != boot_id() {
            return None;
        }
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        (start_time(self.pid).ok()? == self.start_time && !is_zombie(self.pid)).then_some(pidfd)
    }

    pub fn is_alive(&self) -> bool {
        self.open().is_some()
    }

    /// Send a signal; a process that is gone is not an error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(pidfd) = self.open() else { return Ok(()) };
        let signal = rustix::process::Signal::from_named_raw(signal)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("signal {signal} does not exist")))?;
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Wait for its end; false: it still lives.
    pub fn ended_within(&self, patience: Duration) -> bool {
        let Some(pidfd) = self.open() else { return true };
        let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        let timeout = nix::poll::PollTimeout::try_from(patience).unwrap_or(nix::poll::PollTimeout::NONE);
        nix::poll::poll(&mut fds, timeout).is_ok_and(|count| count > 0)
    }
}

/// The id of this boot; another one means that every process and mount of before is gone.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned())
}

/// The fields of `/proc/<pid>/stat` behind the command name, which may hold spaces and brackets.
fn stat_fields(pid: i32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    match stat.rsplit_once(") ") {
        Some((_, rest)) => Ok(rest.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat does not parse"))),
    }
}

pub fn start_time(pid: i32) -> io::Result<u64> {
    stat_fields(pid)?
        .split(' ')
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat does not parse")))
}

/// The process that started it, or the one that took it over.
pub fn parent(pid: i32) -> io::Result<i32> {
    let fields = stat_fields(pid)?;
    let parent = fields.split(' ').nth(1).and_then(|field| field.parse().ok());
    parent.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat does not parse")))
}

fn is_zombie(pid: i32) -> bool {
    stat_fields(pid).is_ok_and(|fields| fields.starts_with('Z') || fields.starts_with('X'))
}

/// Nanoseconds since the epoch, as the container runtime interface counts time.
pub fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_more_than_a_pid() {
        let own = ProcessIdentity::of(std::process::id() as i32).expect("this process exists");
        assert!(own.is_alive());
        let reused = ProcessIdentity { start_time: own.start_time + 1, ..own.clone() };
        assert!(!reused.is_alive(), "the same pid with another start time is another process");
        let earlier = ProcessIdentity { boot_id: "earlier".into(), ..own };
        assert!(!earlier.is_alive(), "nothing lives on from an earlier boot");
    }
}
