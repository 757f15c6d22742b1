//! Cluster IPs: one IPAddress object per address in use.

use crate::api::ip::Cidr;
use crate::api::{GroupResource, UserInfo};
use crate::apiserver::codec;
use crate::apiserver::state::State;
use crate::resources::pipeline::is_being_deleted;
use crate::resources::{Context, pipeline};
use crate::storage::{Durability, Error, Key, Prefix};
use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The addresses of the service network that Services may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u32,
    /// Without the network's own and the broadcast address.
    count: u32,
}

impl Range {
    pub fn new(network: Ipv4Addr, prefix: u8) -> Self {
        let size = 1_u64 << (32 - u32::from(prefix.min(32)));
        Self {
            first: u32::from(network).saturating_add(1),
            count: u32::try_from(size.saturating_sub(2)).unwrap_or(u32::MAX),
        }
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address).checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }

    /// The lowest addresses are left to those who ask for one.
    fn reserved(self) -> u32 {
        (self.count / 16).clamp(16, 256).min(self.count)
    }
}

const ALLOCATED: &str = "provided IP is already allocated";
/// How many addresses are tried at random before the range is walked.
const RANDOM_TRIES: usize = 16;

/// This address; the error is Kubernetes's.
pub async fn take(state: &Arc<State>, address: &str, namespace: &str, name: &str, dry_run: bool) -> Result<(), String> {
    let Ok(ip) = address.parse::<Ipv4Addr>() else {
        return Err("the provided network does not match the current range".to_owned());
    };
    if !ranges(state).iter().any(|range| range.contains(ip)) {
        return Err("the provided network does not match the current range".to_owned());
    }
    if claim(state, ip, namespace, name, dry_run).await? { Ok(()) } else { Err(ALLOCATED.to_owned()) }
}

/// The server's own range, then those of ServiceCIDRs that are ready and stay.
fn ranges(state: &State) -> Vec<Range> {
    let mut ranges = vec![state.services.addresses];
    let Some(row) = state.registry.row("networking.k8s.io", "v1", "servicecidrs") else { return ranges };
    let snapshot = state.storage.snapshot();
    for entry in snapshot.range(&Prefix::resource(&row.stored), None) {
        let object = entry.body.parse();
        let conditions = object["status"]["conditions"].as_array();
        let mut ready = conditions.into_iter().flatten().filter(|condition| condition["type"] == "Ready");
        // Without a word it is ready: nobody may be there to say so.
        if is_being_deleted(&object) || ready.any(|condition| condition["status"] != "True") {
            continue;
        }
        let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for cidr in cidrs.filter_map(Cidr::parse_sloppy) {
            if let IpAddr::V4(network) = cidr.network() {
                let range = Range::new(network, cidr.prefix);
                if !ranges.contains(&range) {
                    ranges.push(range);
                }
            }
        }
    }
    ranges
}

/// A free address: of the first range that is not full.
pub async fn take_any(state: &Arc<State>, namespace: &str, name: &str, dry_run: bool) -> Result<String, String> {
    for range in ranges(state) {
        if let Some(address) = take_of(state, range, namespace, name, dry_run).await? {
            return Ok(address);
        }
    }
    Err("range is full".to_owned())
}

/// A free address, at random.
async fn take_of(
    state: &Arc<State>,
    range: Range,
    namespace: &str,
    name: &str,
    dry_run: bool,
) -> Result<Option<String>, String> {
    let address = |offset: u32| Ipv4Addr::from(range.first + offset);
    let reserved = range.reserved();
    for _ in 0..RANDOM_TRIES {
        if reserved >= range.count {
            break;
        }
        let offset = rand::rng().random_range(reserved..range.count);
        if claim(state, address(offset), namespace, name, dry_run).await? {
            return Ok(Some(address(offset).to_string()));
        }
    }
    for offset in (reserved..range.count).chain(0..reserved) {
        if claim(state, address(offset), namespace, name, dry_run).await? {
            return Ok(Some(address(offset).to_string()));
        }
    }
    Ok(None)
}

fn key(address: &str) -> Key {
    Key::new(&GroupResource::new("networking.k8s.io", "ipaddresses"), "", address)
}

/// False: it has an owner.
async fn claim(state: &Arc<State>, ip: Ipv4Addr, namespace: &str, name: &str, dry_run: bool) -> Result<bool, String> {
    let address = ip.to_string();
    let key = key(&address);
    if state.storage.get(&key).is_some() {
        return Ok(false);
    }
    if dry_run {
        return Ok(true);
    }
    let Some(row) = state.registry.row("networking.k8s.io", "v1", "ipaddresses") else {
        return Err("ipaddresses are not served".to_owned());
    };
    let mut object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": name } },
    });
    let user = UserInfo::new("system:apiserver", &["system:masters"]);
    let context = Context { user: &user, namespace: "", dry_run: false, now: Timestamp::now() };
    pipeline::prepare_create(&row, &mut object, &context);
    let body = codec::encode(state, &row, &object).await.map_err(|status| status.message)?;
    match state.storage.create(key, body, Durability::Durable).await {
        Ok(_) => Ok(true),
        Err(Error::Exists) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Nobody's any more. What cannot be removed now is found by the repair controller.
pub async fn release(state: &State, address: &str) {
    let key = key(address);
    while let Some(entry) = state.storage.get(&key) {
        match state.storage.delete(key.clone(), entry.revision).await {
            Ok(_) | Err(Error::NotFound) => return,
            Err(Error::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(address, %error, "release a cluster IP");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_excludes_network_and_broadcast() {
        let range = Range::new(Ipv4Addr::new(10, 43, 0, 0), 30);
        let inside = |last: u8| range.contains(Ipv4Addr::new(10, 43, 0, last));
        assert_eq!((inside(0), inside(1), inside(2), inside(3)), (false, true, true, false));
    }
}
