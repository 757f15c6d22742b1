//! The control protocol between orch and the shim of a pod: one JSON message per packet on a
//! `SOCK_SEQPACKET` socket, file descriptors beside it.
//!
//! A new orch drives shims of older versions for months: fields are only added, with a default,
//! and a shim answers an operation that it does not know with [`Reply::Error`].

use crate::container::process::ProcessIdentity;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

pub const VERSION: u32 = 1;
/// Larger documents travel in a memfd.
pub const MAX_MESSAGE: usize = 64 * 1024;
pub const MAX_FDS: usize = 8;

/// What a shim is started with, written by orch to `shim.json` in the sandbox's run directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShimConfig {
    pub sandbox: String,
    /// `cgroup.procs` files that the shim joins, and those of the pause process.
    pub shim_cgroups: Vec<PathBuf>,
    pub pause_cgroups: Vec<PathBuf>,
    /// Empty with the host's UTS namespace.
    pub hostname: String,
    pub new_network: bool,
    pub new_ipc: bool,
    /// The pod's containers share the pause's pid namespace.
    pub new_pid: bool,
    pub user_namespace: Option<(u32, u32)>,
    pub sysctls: BTreeMap<String, String>,
    pub oom_score_adj: i32,
    /// Where container exits are recorded: `<records>/<container>/exit.json`.
    pub records: PathBuf,
}

/// The shim's first and only word on standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    Ready { shim: ProcessIdentity, pause: ProcessIdentity },
    Failed { message: String },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartContainer {
    pub container: String,
    pub bundle: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    /// Absolute; empty: output is thrown away.
    pub log: PathBuf,
    /// Files with an `oom_kill` counter, read at the exit.
    pub oom_files: Vec<PathBuf>,
    /// `cgroup.kill` (v2), else a `cgroup.procs`: what the first process leaves behind is killed.
    #[serde(default)]
    pub kill_file: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Request {
    Hello,
    Start(StartContainer),
    Signal {
        container: String,
        signal: i32,
    },
    /// Descriptors: a memfd with an [`ExecDocument`], then those of stdin, stdout and stderr that are asked for.
    Exec {
        container: String,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        bundle: PathBuf,
        cgroups: Vec<PathBuf>,
    },
    /// On the connection of an exec: signal its process group.
    SignalExec {
        signal: i32,
    },
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    /// Descriptors: the sinks for stdout and stderr that are asked for. The answer carries stdin.
    Attach {
        container: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ReopenLog {
        container: String,
    },
    /// From now on exits come as [`Reply::Event`] on this connection.
    Subscribe,
    State,
    /// End, killing what is left.
    Shutdown,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecDocument {
    pub arguments: Vec<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + signal when it was killed.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    #[serde(default)]
    pub oom_killed: bool,
    /// Set where the shim did not see the end itself.
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub container: String,
    pub process: ProcessIdentity,
    pub started_at: i64,
    /// uid, gid, supplementary groups of the first process.
    pub user: (u32, u32, Vec<u32>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Hello {
        version: u32,
    },
    Done,
    Started(Running),
    /// With a terminal, its master travels beside this.
    ExecStarted {
        pid: i32,
    },
    ExecExited {
        exit_code: i32,
    },
    State {
        running: Vec<Running>,
        pause_alive: bool,
    },
    /// A container ended; None: the pause process did.
    Event {
        container: Option<String>,
        exit: Exit,
    },
    /// `exit_code` is 127 for a command that is not found, 126 for one that cannot be executed.
    Error {
        message: String,
        exit_code: i32,
    },
}

impl Reply {
    pub fn error(message: impl Into<String>) -> Self {
        Self::Error { message: message.into(), exit_code: 128 }
    }
}

/// Send one message. `EAGAIN` comes back as it is.
pub fn send<T: Serialize>(socket: RawFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("message of {} bytes is too large", bytes.len()),
        ));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receive one message; None at the end of the stream.
pub fn receive<T: DeserializeOwned>(socket: RawFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel just installed these descriptors for us; nobody else knows them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}

/// An unlinked file in memory with these bytes, read position at the start.
pub fn memory_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::{Seek, Write};
    let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A pair of connected packet sockets, closed on exec.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A socket's path may be longer than the 107 bytes that an address holds: name it by its directory.
pub fn short_address(directory: &OwnedFd, name: &str) -> io::Result<nix::sys::socket::UnixAddr> {
    Ok(nix::sys::socket::UnixAddr::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).as_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_descriptors() {
        let (left, right) = socket_pair().expect("a pair");
        let file = memory_file("test", b"content").expect("a file");
        send(left.as_raw_fd(), &Request::Signal { container: "c".into(), signal: 9 }, &[file.as_raw_fd()])
            .expect("sent");
        let (request, fds) = receive::<Request>(right.as_raw_fd()).expect("received").expect("a message");
        assert!(matches!(request, Request::Signal { signal: 9, .. }));
        let mut text = String::new();
        use std::io::Read;
        std::fs::File::from(fds.into_iter().next().expect("one")).read_to_string(&mut text).expect("readable");
        assert_eq!(text, "content");
        drop(left);
        assert!(receive::<Request>(right.as_raw_fd()).expect("end").is_none());
    }

    #[test]
    fn a_shim_of_another_version_understands_the_common_part() {
        let newer = r#"{"operation":"start","container":"c","bundle":"/b","tty":false,"stdin":false,
            "stdin_once":false,"log":"","oom_files":[],"a_later_field":1}"#;
        assert!(matches!(serde_json::from_str::<Request>(newer).expect("parses"), Request::Start(_)));
        assert!(serde_json::from_str::<Request>(r#"{"operation":"a_later_one"}"#).is_err());
    }
}
