//! Cluster IPs and node ports of Services: taken before a Service is stored, given back when the
//! write fails or the Service goes.
//!
//! A cluster IP is owned through an IPAddress object, whose name is the address: the store's own
//! uniqueness is the lock. Node ports are a set in memory, read from the store at first use. The
//! repair of what a crash leaves behind is a controller's work.

mod addresses;
mod fields;
mod ports;

use crate::api::{FieldError, Path, Status};
use crate::apiserver::state::State;
use crate::resources::Row;
use fields::Service;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What Services get their numbers from.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// Network address and prefix length: 10.43.0.0/16.
    pub cluster_ips: (Ipv4Addr, u8),
    pub node_ports: RangeInclusive<u16>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self { cluster_ips: (Ipv4Addr::new(10, 43, 0, 0), 16), node_ports: 30000..=32767 }
    }
}

/// Hands out addresses and ports.
pub struct Allocator {
    addresses: addresses::Range,
    ports: ports::NodePorts,
}

impl Allocator {
    pub fn new(ranges: Ranges) -> Self {
        let (network, prefix) = ranges.cluster_ips;
        Self { addresses: addresses::Range::new(network, prefix), ports: ports::NodePorts::new(ranges.node_ports) }
    }
}

/// What a write took and means to give back: settled when its outcome is known.
#[derive(Default)]
pub struct Undo {
    taken_addresses: Vec<String>,
    taken_ports: Vec<i64>,
    freed_addresses: Vec<String>,
    freed_ports: Vec<i64>,
}

impl Undo {
    pub fn none() -> Self {
        Self::default()
    }

    /// `stored`: the write is in the store.
    pub async fn finish(&mut self, state: &State, stored: bool) {
        let (addresses, ports) = if stored {
            (std::mem::take(&mut self.freed_addresses), std::mem::take(&mut self.freed_ports))
        } else {
            (std::mem::take(&mut self.taken_addresses), std::mem::take(&mut self.taken_ports))
        };
        for port in ports {
            state.services.ports.release(port);
        }
        for address in addresses {
            addresses::release(state, &address).await;
        }
    }
}

fn is_service(row: &Row) -> bool {
    row.group.is_empty() && row.plural == "services"
}

/// Before a new object is validated.
pub async fn begin_create(state: &Arc<State>, row: &Row, object: &mut Value, dry_run: bool) -> Result<Undo, Status> {
    if !is_service(row) {
        return Ok(Undo::none());
    }
    let mut undo = Undo::none();
    fields::normalize_cluster_ips(object, None);
    let result = allocate(state, object, None, dry_run, &mut undo).await;
    settle(state, undo, result, dry_run).await
}

/// Before an update is validated.
pub async fn begin_update(
    state: &Arc<State>,
    row: &Row,
    object: &mut Value,
    old: &Value,
    dry_run: bool,
) -> Result<Undo, Status> {
    if !is_service(row) {
        return Ok(Undo::none());
    }
    let mut undo = Undo::none();
    fields::keep_allocated(object, old);
    fields::normalize_cluster_ips(object, Some(old));
    let result = allocate(state, object, Some(old), dry_run, &mut undo).await;
    settle(state, undo, result, dry_run).await
}

async fn settle(state: &State, mut undo: Undo, result: Result<(), Status>, dry_run: bool) -> Result<Undo, Status> {
    match result {
        // What a dry run took it gives back, whatever comes of it.
        Ok(()) if dry_run => {
            undo.finish(state, false).await;
            Ok(Undo::none())
        }
        Ok(()) => Ok(undo),
        Err(status) => {
            undo.finish(state, false).await;
            Err(status)
        }
    }
}

/// After an object is gone from the store.
pub async fn after_delete(state: &State, row: &Row, object: &Value) {
    if !is_service(row) {
        return;
    }
    let service = Service(object);
    for port in service.node_ports().into_iter().chain(service.health_check_port()) {
        state.services.ports.release(port);
    }
    for address in service.owned_ips() {
        addresses::release(state, &address).await;
    }
}

async fn allocate(
    state: &Arc<State>,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
    undo: &mut Undo,
) -> Result<(), Status> {
    fields::default_families(object, old)?;
    allocate_addresses(state, object, old, dry_run, undo).await?;
    let mut taking = ports::Taking::new(&state.services.ports, state, dry_run);
    let result = allocate_ports(object, old, &mut taking, undo);
    undo.taken_ports.extend(taking.taken());
    result
}

async fn allocate_addresses(
    state: &Arc<State>,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
    undo: &mut Undo,
) -> Result<(), Status> {
    let had = old.map(|old| Service(old).owned_ips()).unwrap_or_default();
    let service = Service(object);
    if !service.needs_cluster_ip() {
        // An ExternalName has none; the headless keep their `None`.
        if service.kind() == "ExternalName" {
            undo.freed_addresses.extend(had);
        }
        return Ok(());
    }
    if service.is_headless() || !had.is_empty() && service.owned_ips() == had {
        return Ok(());
    }
    if !had.is_empty() && service.kind() != "ExternalName" {
        // A changed address is refused by validation.
        return Ok(());
    }
    let (namespace, name) = service.name();
    let wanted = service.cluster_ips();
    let mut addresses = Vec::new();
    for index in 0..service.families().max(1) {
        let address = match wanted.get(index).filter(|address| !address.is_empty()) {
            Some(address) => {
                let taken = addresses::take(state, address, &namespace, &name, dry_run).await;
                taken.map_err(|error| {
                    let root = Path::new("spec");
                    let detail = format!("failed to allocate IP {address}: {error}");
                    let error = FieldError::invalid(&root.child("clusterIPs"), json!(wanted), detail);
                    Status::invalid(&fields::service_kind(), &name, &vec![error])
                })?;
                address.clone()
            }
            None => addresses::take_any(state, &namespace, &name, dry_run)
                .await
                .map_err(|error| Status::internal(format!("failed to allocate a serviceIP: {error}")))?,
        };
        if !dry_run {
            undo.taken_addresses.push(address.clone());
        }
        addresses.push(address);
    }
    object["spec"]["clusterIP"] = json!(addresses[0]);
    object["spec"]["clusterIPs"] = json!(addresses);
    Ok(())
}

fn allocate_ports(
    object: &mut Value,
    old: Option<&Value>,
    taking: &mut ports::Taking,
    undo: &mut Undo,
) -> Result<(), Status> {
    let had = old.map(|old| Service(old).node_ports()).unwrap_or_default();
    let had_health = old.and_then(|old| Service(old).health_check_port());
    let (_, name) = Service(object).name();
    let refuse = |index: usize, port: i64, error: String| {
        let root = Path::new("spec");
        let list = root.child("ports");
        let error = FieldError::invalid(&list.index(index).child("nodePort"), port, error);
        Status::invalid(&fields::service_kind(), &name, &vec![error])
    };
    if Service(object).needs_node_ports() {
        let automatic = Service(object).allocates_node_ports();
        // TCP and UDP of one port share the number.
        let mut by_port: Vec<(i64, i64)> = Vec::new();
        let mut taken: Vec<i64> = Vec::new();
        let count = Service(object).ports().len();
        for index in 0..count {
            let entry = Service(object).ports()[index].clone();
            let port = entry["port"].as_i64().unwrap_or_default();
            let own = fields::node_port(&entry);
            if own.is_none() && !automatic {
                continue;
            }
            let shared = by_port.iter().find(|(known, _)| *known == port).map(|(_, node_port)| *node_port);
            let requested = own.or(shared).or_else(|| {
                let later = Service(object).ports().get(index + 1..).unwrap_or_default();
                later.iter().filter(|later| later["port"].as_i64() == Some(port)).find_map(fields::node_port)
            });
            let node_port = match requested {
                Some(node_port) => {
                    let known = had.contains(&node_port) || shared == Some(node_port);
                    // An update may name one twice; validation tells when it may not.
                    if !known && !(old.is_some() && taken.contains(&node_port)) {
                        taking.take(node_port).map_err(|error| refuse(index, node_port, error))?;
                        taken.push(node_port);
                    }
                    node_port
                }
                None => taking
                    .take_any()
                    .map_err(|error| Status::internal(format!("failed to allocate a nodePort: {error}")))?,
            };
            if shared.is_none() {
                by_port.push((port, node_port));
            }
            object["spec"]["ports"][index]["nodePort"] = json!(node_port);
        }
        if old.is_some() {
            let mut seen = std::collections::HashSet::new();
            for entry in Service(object).ports() {
                let protocol = entry["protocol"].as_str().unwrap_or_default();
                if let Some(port) = fields::node_port(entry).filter(|port| !seen.insert((protocol, *port))) {
                    return Err(Status::failure(500, "", format!("duplicate nodePort: {{{protocol} {port}}}")));
                }
            }
        }
        let now = Service(object).node_ports();
        undo.freed_ports.extend(had.iter().filter(|port| !now.contains(port)));
    } else {
        undo.freed_ports.extend(&had);
    }
    if Service(object).needs_health_check_port() {
        match Service(object).health_check_port() {
            Some(port) if Some(port) == had_health => {}
            Some(port) => taking.take(port).map_err(|error| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {port}: {error}"))
            })?,
            None => {
                let port = taking
                    .take_any()
                    .map_err(|error| Status::internal(format!("failed to allocate a HealthCheck NodePort: {error}")))?;
                object["spec"]["healthCheckNodePort"] = json!(port);
            }
        }
    } else {
        undo.freed_ports.extend(had_health);
    }
    Ok(())
}
