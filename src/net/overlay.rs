//! Routes between nodes: the pods' and Services' ranges on this node, and VXLAN to the others.
//!
//! A node's hardware address in the overlay follows from its pod network, so peers need to know of
//! each other no more than the Node object says. Everything is idempotent: what is there stays, what
//! is wrong is replaced, what is unwanted goes.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The VXLAN link.
pub const VXLAN_LINK: &str = "orch-vxlan";
pub const VXLAN_PORT: u16 = 8472;
const VXLAN_ID: u32 = 1;

/// What VXLAN adds to a packet: bytes.
pub const VXLAN_OVERHEAD: u32 = 50;

const LOOPBACK: &str = "lo";

/// Who made a route, as `ip route` shows it: one of the numbers that nobody has registered.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(111);

/// Routes that refuse a range are looked at last.
const LAST_RESORT: u32 = 0xffff_0000;

/// An IPv4 network: address and prefix length.
pub type Network = (Ipv4Addr, u8);

/// The node's routing, on a netlink connection of its own.
pub struct Overlay {
    handle: Handle,
}

/// Another node: the address it is reached at.
pub type Peers = BTreeMap<Network, Ipv4Addr>;

/// The hardware address of the node that has this pod network.
fn hardware_address(network: Network) -> [u8; 6] {
    let [a, b, c, d] = network.0.octets();
    // Locally administered, unicast; "o" for orch.
    [0x02, b'o', a, b, c, d]
}

impl Overlay {
    /// To be called inside a tokio runtime.
    pub fn open() -> Result<Self> {
        let (connection, handle, _messages) = rtnetlink::new_connection().context("open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    async fn index(&self, name: &str) -> Result<Option<u32>> {
        let mut links = self.handle.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look up link {name}")),
        }
    }

    /// Packets for Services have a route even where there is no default one, and what is not
    /// translated or not owned by a node goes nowhere. `source`: the pods' gateway, on the loopback.
    pub async fn claim(&self, services: Network, pods: Network, source: Ipv4Addr) -> Result<()> {
        let index = self.index(LOOPBACK).await?.context("there is no loopback interface")?;
        let to_services = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(services.0, services.1)
            .output_interface(index)
            .pref_source(source)
            .protocol(PROTOCOL);
        let nowhere = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(pods.0, pods.1)
            .kind(RouteType::Unreachable)
            .priority(LAST_RESORT)
            .protocol(PROTOCOL);
        self.put_route(to_services.build()).await.context("route the Services' range")?;
        self.put_route(nowhere.build()).await.context("make the pods' range unreachable beyond the nodes")
    }

    /// [`Overlay::claim`], and again whenever somebody removes such a route: systemd-networkd does at its
    /// start. Until the connection to the kernel ends.
    pub async fn keep_claimed(&self, services: Network, pods: Network, source: Ipv4Addr) -> Result<()> {
        let (connection, _, mut messages) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Ipv4Route]).context("open a netlink socket")?;
        tokio::spawn(connection);
        loop {
            self.claim(services, pods, source).await?;
            loop {
                let (message, _) = messages.next().await.context("the kernel tells of no more routes")?;
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) = message.payload
                    && route.header.protocol == PROTOCOL
                {
                    break;
                }
            }
        }
    }

    /// Undo [`Overlay::claim`], whatever the ranges were.
    pub async fn release(&self) -> Result<()> {
        let mut routes = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let mut ours = Vec::new();
        while let Some(route) = routes.try_next().await.context("list routes")? {
            if route.header.protocol == PROTOCOL {
                ours.push(route);
            }
        }
        for route in ours {
            match self.handle.route().del(route).execute().await {
                Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => {}
                result => result.context("remove the route of a range")?,
            }
        }
        Ok(())
    }

    async fn put_route(&self, route: RouteMessage) -> Result<()> {
        Ok(self.handle.route().add(route).replace().execute().await?)
    }

    /// Make the VXLAN link for this node, or make it anew when its parameters changed.
    pub async fn ensure_vxlan(&self, own: Network, local: Ipv4Addr, mtu: u32) -> Result<()> {
        if let Some((index, address)) = self.vxlan().await? {
            if address == Some(local) {
                return Ok(());
            }
            self.handle.link().del(index).execute().await.with_context(|| format!("remove link {VXLAN_LINK}"))?;
        }
        let message = LinkVxlan::new(VXLAN_LINK, VXLAN_ID)
            .local(local)
            .port(VXLAN_PORT)
            .learning(false)
            .address(hardware_address(own).to_vec())
            .mtu(mtu.saturating_sub(VXLAN_OVERHEAD))
            .up()
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .with_context(|| format!("make link {VXLAN_LINK}; modprobe vxlan"))?;
        let index = self.index(VXLAN_LINK).await?.context("the VXLAN link vanished")?;
        // The network's own address is nobody's pod: it is this node's in the overlay.
        let added = self.handle.address().add(index, own.0.into(), 32).replace().execute().await;
        added.with_context(|| format!("give link {VXLAN_LINK} its address"))?;
        super::link::route_loopback_addresses(VXLAN_LINK)?;
        self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.context("bring it up")
    }

    /// Index and local address of the VXLAN link.
    async fn vxlan(&self) -> Result<Option<(u32, Option<Ipv4Addr>)>> {
        let mut links = self.handle.link().get().match_name(VXLAN_LINK).execute();
        let link = match links.try_next().await {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(None),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("look up link {VXLAN_LINK}")),
        };
        let local = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Data(InfoData::Vxlan(data)) => data.iter().find_map(|item| match item {
                    InfoVxlan::Local(address) => Some(*address),
                    _ => None,
                }),
                _ => None,
            }),
            _ => None,
        });
        Ok(Some((link.header.index, local)))
    }

    /// Reach exactly these nodes: their routes, neighbours and forwarding entries.
    pub async fn set_peers(&self, peers: &Peers) -> Result<()> {
        let index = self.index(VXLAN_LINK).await?.with_context(|| format!("link {VXLAN_LINK} is not there"))?;
        for (network, node) in peers {
            let named = || format!("reach the pods {}/{} at {node}", network.0, network.1);
            let hardware = hardware_address(*network);
            let neighbours = self.handle.neighbours();
            let answer =
                neighbours.add(index, network.0.into()).link_layer_address(&hardware).state(NeighbourState::Permanent);
            answer.replace().execute().await.with_context(named)?;
            // Without a bridge above it, the entry is the link's own.
            let mut forward = neighbours.add_bridge(index, &hardware).flags(NeighbourFlags::Own).replace();
            let message = forward.message_mut();
            message
                .attributes
                .push(NeighbourAttribute::Destination(NeighbourAddress::from(std::net::IpAddr::V4(*node))));
            forward.execute().await.with_context(named)?;
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network.0, network.1)
                .gateway(network.0)
                .output_interface(index)
                .onlink()
                .protocol(PROTOCOL)
                .build();
            self.put_route(route).await.with_context(named)?;
        }
        self.forget_others(index, peers).await
    }

    async fn forget_others(&self, index: u32, peers: &Peers) -> Result<()> {
        let networks: BTreeSet<Ipv4Addr> = peers.keys().map(|network| network.0).collect();
        let hardware: BTreeSet<[u8; 6]> = peers.keys().map(|network| hardware_address(*network)).collect();
        let mut routes = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let mut stale_routes = Vec::new();
        while let Some(route) = routes.try_next().await.context("list routes")? {
            let ours =
                route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Oif(oif) if *oif == index));
            let gateway = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            });
            if ours && gateway.is_some_and(|gateway| !networks.contains(&gateway)) {
                stale_routes.push(route);
            }
        }
        for route in stale_routes {
            self.handle.route().del(route).execute().await.context("remove the route of a node that is gone")?;
        }
        for family in [AddressFamily::Inet, AddressFamily::Bridge] {
            let mut entries = self.handle.neighbours().get().set_address_family(family).execute();
            let mut stale: Vec<NeighbourMessage> = Vec::new();
            while let Some(entry) = entries.try_next().await.context("list neighbours")? {
                let address = entry.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
                    _ => None,
                });
                let permanent = entry.header.state == NeighbourState::Permanent;
                if entry.header.ifindex == index
                    && permanent
                    && address.is_some_and(|address| !hardware.contains(&address))
                {
                    stale.push(entry);
                }
            }
            for entry in stale {
                self.handle
                    .neighbours()
                    .del(entry)
                    .execute()
                    .await
                    .context("remove the neighbour of a node that is gone")?;
            }
        }
        Ok(())
    }
}
