//! Node IPAM: each node gets a range of its own from the cluster's pod ranges.
//! Source: `pkg/controller/nodeipam/ipam/range_allocator`.

use super::context::{Context, Running};
use crate::api::ip::Cidr;
use crate::client::{Objects, Patch, kinds};
use crate::runtime::views::Node;
use crate::runtime::{Action, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const ACCOUNT: &str = "node-controller";

/// As its events name it.
const EVENT_SOURCE: &str = "cidrAllocator";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let nodes = context.informers.of::<Node>();
    nodes.feed(&queue);
    let config = &context.config;
    let ranges = config
        .cluster_cidrs
        .iter()
        .map(|cidr| (*cidr, if cidr.address.is_ipv4() { config.node_cidr_masks.0 } else { config.node_cidr_masks.1 }))
        .collect();
    let objects = context.objects(ACCOUNT);
    let controller = NodeIpam {
        recorder: Recorder::new(objects.clone(), EVENT_SOURCE, ""),
        objects,
        ranges,
        nodes: nodes.clone(),
        given: Mutex::default(),
    };
    // One worker: two nodes must not get the same range.
    Running::new(controller, queue, 1, [nodes.until_synced()], move || nodes.keys())
}

/// The lowest free sub-range.
pub fn allocate(range: Cidr, mask: u8, used: &HashSet<String>) -> Option<String> {
    let bits = if range.address.is_ipv4() { 32 } else { 128 };
    let count = 1_u128.checked_shl(u32::from(mask.checked_sub(range.prefix)?))?;
    // Used ranges are at most as many as nodes: the first free one is not far.
    let last = count.min(used.len() as u128 + 1);
    (0..last).map(|number| subrange(range, number << (bits - mask), mask)).find(|cidr| !used.contains(cidr))
}

fn subrange(range: Cidr, offset: u128, mask: u8) -> String {
    let network: IpAddr = match range.network() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() + offset as u32).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() + offset).into(),
    };
    format!("{network}/{mask}")
}

struct NodeIpam {
    objects: Objects,
    recorder: Recorder,
    ranges: Vec<(Cidr, u8)>,
    nodes: Arc<Store<Node>>,
    /// What was given, until the cache shows it.
    given: Mutex<HashMap<ObjectKey, Vec<String>>>,
}

#[async_trait]
impl Controller for NodeIpam {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(node) = self.nodes.get(key) else {
            self.given.lock().remove(key);
            // A range is free again: whoever went without may have it.
            for node in self.nodes.all().iter().filter(|node| node.pod_cidrs.is_empty()) {
                self.give(node).await?;
            }
            return Ok(Action::Done);
        };
        if node.pod_cidrs.is_empty() {
            self.give(&node).await?;
        } else {
            self.given.lock().remove(key);
        }
        Ok(Action::Done)
    }
}

impl NodeIpam {
    async fn give(&self, node: &Node) -> anyhow::Result<()> {
        let key = node.key();
        let cidrs = {
            let mut given = self.given.lock();
            let mut used: HashSet<String> = given.values().flatten().cloned().collect();
            used.extend(self.nodes.all().iter().flat_map(|node| node.pod_cidrs.iter().map(ToString::to_string)));
            let own = given.get(&key).cloned();
            let cidrs =
                own.or_else(|| self.ranges.iter().map(|(range, mask)| allocate(*range, *mask, &used)).collect());
            if let Some(cidrs) = &cidrs {
                given.insert(key.clone(), cidrs.clone());
            }
            cidrs
        };
        let Some(cidrs) = cidrs.filter(|cidrs| !cidrs.is_empty()) else {
            let text = format!("Node {key} status is now: CIDRNotAvailable");
            self.recorder.event(&Subject::of(&kinds::NODES, &node.meta), EventType::Normal, "CIDRNotAvailable", text);
            anyhow::bail!("no pod range is left in the cluster's range for node {key}");
        };
        let patch = json!({
            "metadata": { "uid": &*node.meta.uid },
            "spec": { "podCIDR": cidrs[0], "podCIDRs": cidrs },
        });
        if let Err(error) = self.objects.patch(&kinds::NODES, "", &key.name, "", Patch::Strategic, &patch).await {
            self.given.lock().remove(&key);
            if crate::client::is_not_found(&error) {
                return Ok(());
            }
            return Err(error.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse_sloppy(text).expect("a range")
    }

    #[test]
    fn the_lowest_free_range() {
        let used = |cidrs: &[&str]| cidrs.iter().map(|cidr| (*cidr).to_owned()).collect::<HashSet<_>>();
        let check = |range: &str, mask, taken: &[&str], expected: Option<&str>| {
            assert_eq!(allocate(cidr(range), mask, &used(taken)).as_deref(), expected);
        };
        check("10.42.0.0/16", 24, &[], Some("10.42.0.0/24"));
        check("10.42.0.0/16", 24, &["10.42.0.0/24", "10.42.2.0/24"], Some("10.42.1.0/24"));
        check("10.42.0.0/24", 24, &["10.42.0.0/24"], None);
        check("fd00::/56", 64, &["fd00::/64"], Some("fd00:0:0:1::/64"));
        check("10.42.0.0/25", 24, &[], None);
    }
}
