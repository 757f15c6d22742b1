//! Links of pods: one routed veth pair for each, no bridge. The pod has a /32, its gateway is the
//! node's first pod address, and the node has a route to each pod.
//!
//! Requests are made synchronously on sockets that belong to one network namespace each, from blocking
//! threads. Everything carries the caller's name for it and can be removed by that name.

use super::ipam::PodCidr;
use anyhow::{Context, Result, bail};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, Stats64};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::packet_route::{AddressFamily, route::RouteMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The interface inside a pod.
pub const POD_INTERFACE: &str = "eth0";

/// One pod's link.
#[derive(Clone, Debug)]
pub struct PodLink<'a> {
    /// Name of the node's end, at most 15 bytes.
    pub host_name: &'a str,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// Zero: the kernel's default.
    pub mtu: u32,
}

/// Counters of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
}

/// A route netlink socket of one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Of the caller's namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Of another namespace: a socket stays in the one where it was made.
    pub fn open_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(namespace, Some(rustix::thread::LinkNameSpaceType::Network))
                    .context("enter the pod's network namespace")?;
                Self::open()
            });
            made.join().unwrap_or_else(|_| bail!("the thread that enters the network namespace panicked"))
        })
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("send a netlink request")?;
        let mut answers = Vec::new();
        loop {
            let (packet, _) = self.socket.recv_from_full().context("receive a netlink answer")?;
            let mut rest = &packet[..];
            while rest.len() >= 16 {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).context("parse a netlink answer")?;
                let length = (answer.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
                rest = &rest[length..];
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(code) => Err(std::io::Error::from_raw_os_error(code.get().abs()).into()),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => {
                        answers.push(message);
                        if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// A link by name; None if there is none.
    fn link(&mut self, name: &str) -> Result<Option<LinkMessage>> {
        let message = LinkUnspec::new_with_name(name).build();
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Err(error) if os_error(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look up the interface {name}")),
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })),
        }
    }

    fn index(&mut self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.with_context(|| format!("interface {name} does not exist"))?.header.index)
    }

    fn set_up(&mut self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).context("set the interface up")?;
        Ok(())
    }

    fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .with_context(|| format!("add the address {address}"))?;
        Ok(())
    }

    fn add_route(&mut self, route: RouteMessage) -> Result<()> {
        self.request(RouteNetlinkMessage::NewRoute(route), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .context("add a route")?;
        Ok(())
    }

    /// Delete the addresses of an interface that have a label, but for one.
    fn delete_labelled(&mut self, index: u32, label: &str, kept: Option<Ipv4Addr>) -> Result<()> {
        let mut all = AddressMessage::default();
        all.header.family = AddressFamily::Inet;
        let answers = self.request(RouteNetlinkMessage::GetAddress(all), NLM_F_DUMP).context("list the addresses")?;
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(address) = answer else { continue };
            let has = |wanted: &AddressAttribute| address.attributes.contains(wanted);
            let is_kept = kept.is_some_and(|kept| has(&AddressAttribute::Local(kept.into())));
            if address.header.index == index && has(&AddressAttribute::Label(label.to_owned())) && !is_kept {
                self.request(RouteNetlinkMessage::DelAddress(address), NLM_F_ACK)
                    .with_context(|| format!("delete the address {label}"))?;
            }
        }
        Ok(())
    }

    /// Delete a link; one that is gone is fine.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let message = LinkUnspec::new_with_name(name).build();
        match self.request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(error) if os_error(&error) != Some(libc::ENODEV) => {
                Err(error).with_context(|| format!("delete the interface {name}"))
            }
            _ => Ok(()),
        }
    }

    pub fn stats(&mut self, name: &str) -> Result<Option<LinkStats>> {
        let Some(link) = self.link(name)? else { return Ok(None) };
        Ok(link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(Stats64 { rx_bytes, tx_bytes, rx_errors, tx_errors, .. }) => Some(LinkStats {
                rx_bytes: *rx_bytes,
                tx_bytes: *tx_bytes,
                rx_errors: *rx_errors,
                tx_errors: *tx_errors,
            }),
            _ => None,
        }))
    }
}

fn os_error(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
}

/// A locally administered address that follows from the IP address, so that it is the same after a repair.
fn hardware_address(kind: u8, address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, kind, a, b, c, d]
}

const POD_END: u8 = 0x58;
const HOST_END: u8 = 0x59;

/// Connect the pod in `namespace`. What an earlier try left is replaced.
pub fn connect(link: &PodLink<'_>, namespace: BorrowedFd<'_>) -> Result<()> {
    let named = || format!("pod link {}", link.host_name);
    let mut host = Netlink::open()?;
    host.delete_link(link.host_name).with_context(named)?;
    let outcome = connect_ends(link, namespace, &mut host).with_context(named);
    if outcome.is_err() {
        // The error of the attempt is the one to tell.
        let _ = host.delete_link(link.host_name);
    }
    outcome
}

fn connect_ends(link: &PodLink<'_>, namespace: BorrowedFd<'_>, host: &mut Netlink) -> Result<()> {
    let host_mac = hardware_address(HOST_END, link.address);
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(POD_INTERFACE)
        .setns_by_fd(namespace.as_raw_fd())
        .address(hardware_address(POD_END, link.address).to_vec());
    let mut pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(link.host_name)
        .address(host_mac.to_vec());
    if link.mtu > 0 {
        peer = peer.mtu(link.mtu);
        pair = pair.mtu(link.mtu);
    }
    let pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).up().build();
    host.request(RouteNetlinkMessage::NewLink(pair), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        .context("make the veth pair")?;
    let index = host.index(link.host_name)?;
    for (setting, value) in [("rp_filter", "1"), ("proxy_arp", "1"), ("forwarding", "1"), ("accept_redirects", "0")] {
        set(link.host_name, setting, value)?;
    }
    route_loopback_addresses(link.host_name)?;

    let mut pod = Netlink::open_in(namespace)?;
    let inside = pod.index(POD_INTERFACE)?;
    pod.add_address(inside, link.address, 32)?;
    pod.set_up(inside)?;
    // The gateway answers ARP, but need not: its hardware address is known.
    pod.request(
        RouteNetlinkMessage::NewNeighbour(neighbour(inside, link.gateway, host_mac)),
        NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
    )
    .context("add the gateway as a neighbour")?;
    pod.add_route(
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(link.gateway, 32)
            .output_interface(inside)
            .scope(RouteScope::Link)
            .build(),
    )?;
    pod.add_route(RouteMessageBuilder::<Ipv4Addr>::new().gateway(link.gateway).output_interface(inside).build())?;
    host.add_route(
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(link.address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build(),
    )
}

fn set(interface: &str, setting: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
    fs::write(&path, value).with_context(|| format!("write {path}"))
}

/// Let what the node sends from 127.0.0.1 to one of its node ports or host ports out by this link, and the
/// answers in. Only links to pods do so, never the machine's own.
pub(super) fn route_loopback_addresses(interface: &str) -> Result<()> {
    set(interface, "route_localnet", "1")
}

fn neighbour(index: u32, address: Ipv4Addr, hardware: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(IpAddr::V4(address))));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(hardware.to_vec()));
    message
}

/// The interface that carries the gateway's address: the one that every kernel has.
const LOOPBACK: &str = "lo";

/// Give the node the gateway's address, under a label to find it by, and let it forward. An earlier
/// address with the label goes.
pub fn ensure_gateway(label: &str, cidr: PodCidr) -> Result<()> {
    let mut host = Netlink::open()?;
    let index = host.index(LOOPBACK)?;
    host.set_up(index)?;
    host.delete_labelled(index, label, Some(cidr.gateway()))?;
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(cidr.gateway(), 32).build();
    message.attributes.push(AddressAttribute::Label(label.to_owned()));
    host.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
        .with_context(|| format!("add the pods' gateway {}", cidr.gateway()))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the node forward, by net.ipv4.ip_forward")
}

/// Take the gateway's address away.
pub fn remove_gateway(label: &str) -> Result<()> {
    let mut host = Netlink::open()?;
    let index = host.index(LOOPBACK)?;
    host.delete_labelled(index, label, None)
}

/// Names of interfaces in this namespace that begin so.
pub fn names_with_prefix(prefix: &str) -> Result<Vec<String>> {
    let all = LinkMessageBuilder::<LinkUnspec>::new().build();
    let answers =
        Netlink::open()?.request(RouteNetlinkMessage::GetLink(all), NLM_F_DUMP).context("list the interfaces")?;
    let names = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        }),
        _ => None,
    });
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// The network namespace of a process.
pub fn namespace_of(pid: i32) -> Result<fs::File> {
    let path = format!("/proc/{pid}/ns/net");
    fs::File::open(&path).with_context(|| format!("open {path}"))
}

/// Counters of the pod's interface, as the pod sees them.
pub fn pod_stats(pid: i32) -> Result<Option<LinkStats>> {
    Netlink::open_in(namespace_of(pid)?.as_fd())?.stats(POD_INTERFACE)
}
