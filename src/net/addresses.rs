//! The machine's own addresses, as they are now and as they change.
//!
//! The primary address is the one of the default route; without one (an offline box) the first
//! global address of the lowest link. Links that orch made (`orch…`, pod veths) do not count. The
//! kernel says when links, addresses or routes change; nothing polls.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::sync::watch;

/// Names of orch's own links begin so.
pub const LINK_PREFIX: &str = "orch";

/// A burst of notifications is one change: this long after the first.
const SETTLE: Duration = Duration::from_millis(100);

/// IPv4 addresses of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineAddresses {
    /// What other machines reach this one at. None: it has no address but loopback.
    pub primary: Option<Ipv4Addr>,
    /// All global ones, the primary first.
    pub all: Vec<Ipv4Addr>,
    /// MTU of the primary address's link: bytes.
    pub mtu: Option<u32>,
}

/// The addresses now, and a receiver that sees each change. The watch ends when all receivers are
/// dropped.
pub async fn watch() -> Result<watch::Receiver<MachineAddresses>> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).context("open a netlink socket")?;
    tokio::spawn(connection);
    let (sender, receiver) = watch::channel(read(&handle).await?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                message = messages.next() => if message.is_none() { return },
            }
            tokio::time::sleep(SETTLE).await;
            while messages.try_recv().is_ok() {}
            match read(&handle).await {
                Ok(addresses) => {
                    sender.send_if_modified(|current| {
                        let changed = *current != addresses;
                        *current = addresses;
                        changed
                    });
                }
                Err(error) => tracing::warn!("read this machine's addresses: {error:#}"),
            }
        }
    });
    Ok(receiver)
}

struct Link {
    up: bool,
    own: bool,
    mtu: Option<u32>,
}

async fn read(handle: &Handle) -> Result<MachineAddresses> {
    let links = links(handle).await?;
    let usable = |index: &u32| links.get(index).is_some_and(|link| link.up && !link.own);
    // Link index to its addresses; BTreeMap keeps the kernel's order of links.
    let mut addresses: BTreeMap<u32, Vec<Ipv4Addr>> = BTreeMap::new();
    let mut dump = handle.address().get().execute();
    while let Some(message) = dump.try_next().await.context("list addresses")? {
        if message.header.family != AddressFamily::Inet || message.header.scope != AddressScope::Universe {
            continue;
        }
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(std::net::IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        if let Some(address) = local.filter(|_| usable(&message.header.index)) {
            addresses.entry(message.header.index).or_default().push(address);
        }
    }
    let default = default_route(handle, &addresses).await?;
    let first = addresses.iter().find_map(|(index, list)| Some((*index, *list.first()?)));
    let primary = default.or(first);
    let mut all: Vec<Ipv4Addr> = primary.iter().map(|(_, address)| *address).collect();
    all.extend(
        addresses.into_values().flatten().filter(|address| Some(*address) != primary.map(|(_, address)| address)),
    );
    Ok(MachineAddresses {
        primary: primary.map(|(_, address)| address),
        all,
        mtu: primary.and_then(|(index, _)| links.get(&index)?.mtu),
    })
}

async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>> {
    let mut links = BTreeMap::new();
    let mut dump = handle.link().get().execute();
    while let Some(message) = dump.try_next().await.context("list links")? {
        // Addresses of the loopback reach nobody else; the pods' gateway is one of them.
        let (mut own, mut mtu) = (message.header.flags.contains(LinkFlags::Loopback), None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => own |= name.starts_with(LINK_PREFIX),
                LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
                _ => {}
            }
        }
        links.insert(message.header.index, Link { up: message.header.flags.contains(LinkFlags::Up), own, mtu });
    }
    Ok(links)
}

/// Link and source address of the default route with the lowest metric.
async fn default_route(handle: &Handle, addresses: &BTreeMap<u32, Vec<Ipv4Addr>>) -> Result<Option<(u32, Ipv4Addr)>> {
    let mut best: Option<(u32, (u32, Ipv4Addr))> = None;
    let mut dump = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(route) = dump.try_next().await.context("list routes")? {
        if route.header.destination_prefix_length != 0 {
            continue;
        }
        let (mut link, mut source, mut metric) = (None, None, 0);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
                RouteAttribute::Priority(value) => metric = *value,
                _ => {}
            }
        }
        let Some(list) = link.and_then(|link| addresses.get(&link)) else { continue };
        let Some(address) = source.or_else(|| list.first().copied()) else { continue };
        if best.is_none_or(|(other, _)| metric < other) {
            best = link.map(|link| (metric, (link, address)));
        }
    }
    Ok(best.map(|(_, found)| found))
}
