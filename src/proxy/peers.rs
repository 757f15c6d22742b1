//! The other nodes: their pod networks over VXLAN, followed as Node objects say.

use crate::client::{Kind, kinds};
use crate::net::overlay::{Network, Overlay, Peers};
use crate::runtime::{Informer, InformerOptions, Meta, Projection};
use anyhow::Result;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What is read of a Node.
#[derive(Debug, PartialEq)]
pub struct NodeView {
    meta: Meta,
    /// `spec.podCIDR`; None: not given yet.
    pub pod_network: Option<Network>,
    pub internal_ip: Option<Ipv4Addr>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct NodeObject {
    metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<Address>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// `10.42.1.0/24`.
pub fn parse_network(text: &str) -> Option<Network> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some((address.parse().ok()?, prefix))
}

impl Projection for NodeView {
    type Object = NodeObject;

    const KIND: Kind = kinds::NODES;

    fn project(object: NodeObject) -> Self {
        let internal = object.status.addresses.iter().filter(|address| address.kind == "InternalIP");
        let internal_ip = internal.filter_map(|address| address.address.parse().ok()).next();
        Self { meta: object.metadata, pod_network: parse_network(&object.spec.pod_cidr), internal_ip }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

pub struct Config {
    pub node_name: String,
    pub pod_network: Network,
    /// This node's address, as it changes, and the MTU of its link.
    pub local: watch::Receiver<Option<(Ipv4Addr, u32)>>,
}

/// Keep routes to all other nodes until the shutdown. A node without others has no VXLAN link.
pub async fn run(mut config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<()> {
    let overlay = Overlay::open()?;
    let nodes: Informer<NodeView> = Informer::start(client, InformerOptions::default());
    let changed = Arc::new(Notify::new());
    nodes.store().on_change({
        let changed = changed.clone();
        move |change| {
            let (old, new) = (change.old(), change.new());
            let same = |a: &NodeView, b: &NodeView| (a.pod_network, a.internal_ip) == (b.pod_network, b.internal_ip);
            if !matches!((old, new), (Some(old), Some(new)) if same(old, new)) {
                changed.notify_one();
            }
        }
    });
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = nodes.store().synced() => {}
    }
    let mut current: Option<(Ipv4Addr, Peers)> = None;
    loop {
        let peers: Peers = nodes
            .store()
            .all()
            .iter()
            .filter(|node| *node.meta().name != *config.node_name)
            .filter_map(|node| Some((node.pod_network?, node.internal_ip?)))
            .collect();
        let local = *config.local.borrow_and_update();
        let mut failed = false;
        if let Some((address, mtu)) = local {
            let needed = current.is_some() || !peers.is_empty();
            let wanted = (address, peers);
            if needed && current.as_ref() != Some(&wanted) {
                match apply(&overlay, &config, mtu, &wanted).await {
                    Ok(()) => current = Some(wanted),
                    Err(error) => {
                        tracing::error!("reach the other nodes: {error:#}");
                        failed = true;
                    }
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = changed.notified() => {}
            Ok(()) = config.local.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

async fn apply(overlay: &Overlay, config: &Config, mtu: u32, (local, peers): &(Ipv4Addr, Peers)) -> Result<()> {
    overlay.ensure_vxlan(config.pod_network, *local, mtu).await?;
    overlay.set_peers(peers).await
}
