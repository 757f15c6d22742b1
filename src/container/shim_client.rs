//! orch's end of the shim protocol.

use super::shim::protocol::{self, Reply, Request};
use super::shim::{self};
use crate::api::cri::{CriError, Result};
use anyhow::Context;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One connection to a shim.
pub struct Connection {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
}

impl Connection {
    /// To the shim whose run directory this is.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(shim::SOCKET);
        let named = || format!("reach the shim at {}", path.display());
        let handle: OwnedFd = std::fs::File::open(directory).with_context(named)?.into();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &protocol::short_address(&handle, shim::SOCKET)?).with_context(named)?;
        // SAFETY: an `OwnedFd` keeps its descriptor open and the same for as long as it lives.
        Ok(Self { socket: unsafe { AsyncFd::register(socket)? }, path })
    }

    pub async fn send(&self, request: &Request, fds: &[OwnedFd]) -> anyhow::Result<()> {
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        self.socket
            .async_io(Interest::WRITABLE, |socket| protocol::send(socket.as_raw_fd(), request, &raw))
            .await
            .with_context(|| format!("write to the shim at {}", self.path.display()))
    }

    /// None when the shim is gone.
    pub async fn receive(&self) -> anyhow::Result<Option<(Reply, Vec<OwnedFd>)>> {
        self.socket
            .async_io(Interest::READABLE, |socket| protocol::receive::<Reply>(socket.as_raw_fd()))
            .await
            .with_context(|| format!("read from the shim at {}", self.path.display()))
    }

    /// One question, one answer; the shim's refusal is an error.
    pub async fn call(&self, request: &Request, fds: &[OwnedFd]) -> Result<(Reply, Vec<OwnedFd>)> {
        let outcome = async {
            self.send(request, fds).await?;
            self.receive().await?.with_context(|| format!("the shim at {} ended", self.path.display()))
        };
        match outcome.await.map_err(|error| CriError::Internal(format!("{error:#}")))? {
            (Reply::Error { message, exit_code: 128 }, _) => Err(CriError::Internal(message)),
            (Reply::Error { message, exit_code }, _) => Err(CriError::StartFailed { exit_code, message }),
            answer => Ok(answer),
        }
    }
}

/// A new connection for one question.
pub async fn call(directory: &Path, request: &Request, fds: &[OwnedFd]) -> Result<(Reply, Vec<OwnedFd>)> {
    let connection = Connection::open(directory).map_err(|error| CriError::Internal(format!("{error:#}")))?;
    connection.call(request, fds).await
}
