//! The kernel says when somebody changes nftables (which iptables-nft writes too).
//!
//! Each transaction ends with a message that names its generation and the process that made it.
//! Where the kernel has no nftables there is nothing to hear, and the legacy tables are checked
//! twice a minute instead, as kube-proxy does.

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWGEN: u16 = 15;
const NFTA_GEN_PROC_PID: u16 = 2;

const HEADER: usize = 16;
/// Behind the netlink header: family, version, resource id.
const GENERIC_HEADER: usize = 4;

/// A flush and a reload that follow each other are one change.
const SETTLE: Duration = Duration::from_millis(100);

const LEGACY_CHECK: Duration = Duration::from_secs(30);

pub(super) struct Notifications {
    socket: Option<AsyncFd<OwnedFd>>,
}

/// What was heard.
enum Heard {
    /// A transaction of this process.
    Transaction(u32),
    /// Too many at once: some are lost.
    Overrun,
}

impl Notifications {
    pub(super) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter).and_then(|socket| {
                setsockopt(&socket, sockopt::RcvBuf, &(256 * 1024))?;
                bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1 << (NFNLGRP_NFTABLES - 1)))?;
                Ok(socket)
            });
        let socket = match made {
            Ok(socket) => {
                // SAFETY: the descriptor is owned by the AsyncFd from here on and stays the same.
                let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
                Some(registered.map_err(|error| anyhow::anyhow!("{error}")).context("wait for a netlink socket")?)
            }
            Err(error) => {
                tracing::info!("no nftables notifications ({error}): rules are checked every {LEGACY_CHECK:?}");
                None
            }
        };
        Ok(Self { socket })
    }

    /// Wait until a process that is not among `writers` changed rules. Cancel safe.
    pub(super) async fn foreign(&mut self, writers: &[u32]) {
        let Some(socket) = &self.socket else {
            tokio::time::sleep(LEGACY_CHECK).await;
            return;
        };
        loop {
            let Ok(mut ready) = socket.readable().await else {
                // The runtime ends.
                return std::future::pending().await;
            };
            let mut foreign = false;
            while let Some(heard) = receive(socket.get_ref()) {
                foreign |= match heard {
                    Some(Heard::Transaction(pid)) => !writers.contains(&pid),
                    Some(Heard::Overrun) => true,
                    None => false,
                };
            }
            ready.clear_ready();
            if foreign {
                tokio::time::sleep(SETTLE).await;
                while receive(socket.get_ref()).is_some() {}
                return;
            }
        }
    }
}

/// One datagram: `None` when there is none; what it says of a transaction, if anything.
fn receive(socket: &OwnedFd) -> Option<Option<Heard>> {
    let mut buffer = [0_u8; 16 * 1024];
    match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(length) => Some(transaction(&buffer[..length]).map(Heard::Transaction)),
        Err(nix::errno::Errno::ENOBUFS) => Some(Some(Heard::Overrun)),
        Err(nix::errno::Errno::EINTR) => Some(None),
        Err(_) => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The process id of the last end of a transaction in a datagram; 0 where the kernel does not say.
fn transaction(datagram: &[u8]) -> Option<u32> {
    let mut rest = datagram;
    let mut found = None;
    while rest.len() >= HEADER {
        let length = u32::from_ne_bytes(rest[..4].try_into().ok()?) as usize;
        if length < HEADER || length > rest.len() {
            break;
        }
        if u16_at(rest, 4)? == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN {
            found = Some(process_id(&rest[HEADER..length]).unwrap_or(0));
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    found
}

fn process_id(payload: &[u8]) -> Option<u32> {
    let mut rest = payload.get(GENERIC_HEADER..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0)?);
        if length < 4 || length > rest.len() {
            return None;
        }
        if u16_at(rest, 2)? == NFTA_GEN_PROC_PID {
            return Some(u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[(u16, u32)]) -> Vec<u8> {
        let mut body = vec![0; GENERIC_HEADER];
        for (name, value) in attributes {
            body.extend(8_u16.to_ne_bytes());
            body.extend(name.to_ne_bytes());
            body.extend(value.to_be_bytes());
        }
        let mut out = Vec::from(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        out.extend((NFNL_SUBSYS_NFTABLES << 8 | kind).to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out
    }

    #[test]
    fn the_end_of_a_transaction_names_its_process() {
        let mut datagram = message(6, &[(1, 9)]);
        datagram.extend(message(NFT_MSG_NEWGEN, &[(1, 7), (NFTA_GEN_PROC_PID, 4711)]));
        assert_eq!(transaction(&datagram), Some(4711));
        assert_eq!(transaction(&message(6, &[(1, 9)])), None);
        assert_eq!(transaction(&message(NFT_MSG_NEWGEN, &[(1, 7)])), Some(0));
    }

    #[test]
    fn truncated_messages_are_survived() {
        let whole = message(NFT_MSG_NEWGEN, &[(1, 7), (NFTA_GEN_PROC_PID, 4711)]);
        for length in 0..whole.len() {
            transaction(&whole[..length]);
        }
    }
}
