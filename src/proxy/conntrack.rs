//! Connection-tracking entries: forget UDP flows whose endpoint is gone.
//!
//! UDP has no end of a connection, so a client that goes on sending would reach the old endpoint
//! for ever. Over ctnetlink: one dump of the UDP entries, one deletion for each that matches.

use super::rules::Flow;
use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 0x8000;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const UDP: u8 = 17;

/// Delete the entries of these flows; those that are gone already do not matter.
pub async fn forget(flows: &[Flow]) -> Result<()> {
    let flows = flows.to_vec();
    tokio::task::spawn_blocking(move || {
        let socket = open()?;
        for tuple in matching(&socket, &flows)? {
            delete(&socket, &tuple)?;
        }
        Ok(())
    })
    .await
    .context("delete connection-tracking entries")?
}

fn open() -> Result<OwnedFd> {
    let made = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = made.context("open a connection-tracking socket")?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).context("bind a connection-tracking socket")?;
    // The kernel answers at once; a lost answer must not hold a thread for ever.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).context("set a time limit")?;
    Ok(socket)
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, attributes: &[u8]) -> Result<()> {
    let mut message = Vec::with_capacity(HEADER + 4 + attributes.len());
    message.extend(u32::try_from(HEADER + 4 + attributes.len())?.to_ne_bytes());
    message.extend((NFNL_SUBSYS_CTNETLINK << 8 | kind).to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([libc::AF_INET as u8, 0, 0, 0]);
    message.extend_from_slice(attributes);
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).context("ask for connections")?;
    Ok(())
}

/// The original tuples (raw attributes) of the UDP entries that match one of the flows.
fn matching(socket: &OwnedFd, flows: &[Flow]) -> Result<Vec<Vec<u8>>> {
    send(socket, IPCTNL_MSG_CT_GET, NLM_F_DUMP, &[])?;
    let mut found = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("list connections")?;
        for (kind, payload) in messages(&buffer[..length]) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => match error_code(payload) {
                    0 => {}
                    code => bail!("list connections: {}", std::io::Error::from_raw_os_error(code)),
                },
                _ => {
                    if let Some(tuple) = payload.get(4..).and_then(|attributes| matched(attributes, flows)) {
                        found.push(tuple);
                    }
                }
            }
        }
    }
}

fn delete(socket: &OwnedFd, tuple: &[u8]) -> Result<()> {
    send(socket, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, &attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple))?;
    let mut buffer = [0_u8; 4096];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("delete a connection")?;
    for (kind, payload) in messages(&buffer[..length]) {
        let code = if kind == NLMSG_ERROR { error_code(payload) } else { 0 };
        if code != 0 && code != libc::ENOENT {
            bail!("delete a connection: {}", std::io::Error::from_raw_os_error(code));
        }
    }
    Ok(())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len());
    out.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The messages of a datagram: kind and payload.
fn messages(mut datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    while datagram.len() >= HEADER {
        let length = u32::from_ne_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]) as usize;
        if length < HEADER || length > datagram.len() {
            break;
        }
        out.push((u16::from_ne_bytes([datagram[4], datagram[5]]), &datagram[HEADER..length]));
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
    out
}

/// The errno of an error message; 0: an acknowledgement.
fn error_code(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(libc::EPROTO, |code| -i32::from_ne_bytes(*code))
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if length < 4 || length > attributes.len() {
            return None;
        }
        if u16::from_ne_bytes([attributes[2], attributes[3]]) & NLA_TYPE_MASK == wanted {
            return Some(&attributes[4..length]);
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    None
}

fn address(tuple: &[u8], which: u16) -> Option<Ipv4Addr> {
    let bytes = find(find(tuple, CTA_TUPLE_IP)?, which)?;
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// The original tuple when the entry is one of the flows.
fn matched(attributes: &[u8], flows: &[Flow]) -> Option<Vec<u8>> {
    let original = find(attributes, CTA_TUPLE_ORIG)?;
    let protocol = find(original, CTA_TUPLE_PROTO)?;
    if find(protocol, CTA_PROTO_NUM)? != [UDP] {
        return None;
    }
    let port = u16::from_be_bytes(<[u8; 2]>::try_from(find(protocol, CTA_PROTO_DST_PORT)?).ok()?);
    let to = address(original, CTA_IP_V4_DST)?;
    // The endpoint that answers is the source of the reply.
    let endpoint = address(find(attributes, CTA_TUPLE_REPLY)?, CTA_IP_V4_SRC)?;
    let hit = flows.iter().any(|flow| {
        flow.port == port
            && flow.original.is_none_or(|original| original == to)
            && flow.endpoint.is_none_or(|gone| gone == endpoint)
    });
    hit.then(|| original.to_vec())
}
