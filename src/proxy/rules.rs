//! From [`State`] to iptables chains: pure, and the same state gives the same rules.
//!
//! The chains have kube-proxy's names and shapes, because that is what people look for on a node:
//! KUBE-SERVICES and KUBE-NODEPORTS dispatch, KUBE-SVC-… chooses an endpoint for the whole cluster,
//! KUBE-SVL-… among this node's, KUBE-EXT-… is the way in from outside, KUBE-SEP-… is one endpoint.
//! Beyond kube-proxy: an address of the Services' range that nobody owns is rejected, and from pods
//! the node's own ports are closed but for DNS, the API and what pods themselves serve there.

use super::model::{Endpoint, HostPort, PortName, Protocol, ServicePort, State, TrafficPolicy, eligible};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// What the rules know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// `10.42.0.0/16`.
    pub cluster_cidr: String,
    pub service_cidr: String,
    /// Where the node's DNS listens.
    pub dns_address: Ipv4Addr,
    /// The Service address of DNS; sent to this node's own server.
    pub cluster_dns: Ipv4Addr,
    /// Ports of this node that pods may reach: (the API's, …).
    pub open_ports: Vec<u16>,
}

/// Chains of one table, by name. An empty chain is one that exists and does nothing.
pub type Chains = BTreeMap<String, Vec<String>>;

/// A jump from a chain of the kernel into one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    pub table: &'static str,
    pub chain: &'static str,
    /// Match and target: what follows `-A <chain>`.
    pub rule: &'static str,
}

/// Everything that must be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    pub nat: Chains,
    pub filter: Chains,
}

/// Where ours are entered; each is put first in its chain.
pub const JUMPS: &[Jump] = &[
    Jump {
        table: "nat",
        chain: "PREROUTING",
        rule: "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    },
    Jump {
        table: "nat",
        chain: "OUTPUT",
        rule: "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    },
    Jump {
        table: "nat",
        chain: "POSTROUTING",
        rule: "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
    },
    Jump { table: "filter", chain: "INPUT", rule: "-m comment --comment \"kubernetes node ports\" -j KUBE-INPUT" },
    Jump {
        table: "filter",
        chain: "FORWARD",
        rule: "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
    },
    Jump {
        table: "filter",
        chain: "OUTPUT",
        rule: "-m comment --comment \"kubernetes service portals\" -j KUBE-OUTPUT",
    },
];

/// Packets to be masqueraded carry this bit.
const MASQUERADE_MARK: &str = "0x4000/0x4000";

/// All rules of a state.
pub fn rules(state: &State, node: &NodeNetwork) -> RuleSet {
    let mut set = RuleSet { nat: base_nat(node), filter: base_filter(state, node) };
    for (name, service) in &state.services {
        let endpoints = state.endpoints.get(name).map(Vec::as_slice).unwrap_or_default();
        service_rules(&mut set, name, service, endpoints, node);
    }
    push(
        &mut set.nat,
        "KUBE-SERVICES",
        "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS".to_owned(),
    );
    host_ports(&mut set, &state.host_ports);
    set
}

fn push(chains: &mut Chains, chain: &str, rule: String) {
    match chains.get_mut(chain) {
        Some(rules) => rules.push(rule),
        None => {
            chains.insert(chain.to_owned(), vec![rule]);
        }
    }
}

fn base_nat(node: &NodeNetwork) -> Chains {
    let mut chains = Chains::new();
    // DNS goes to this node's own server, from pods and from the host alike.
    let mut services = Vec::new();
    for protocol in ["udp", "tcp"] {
        services.push(format!(
            "-d {}/32 -p {protocol} -m {protocol} --dport 53 -m comment --comment \"cluster dns on this node\" -j DNAT --to-destination {}:53",
            node.cluster_dns, node.dns_address
        ));
    }
    chains.insert("KUBE-SERVICES".to_owned(), services);
    chains.insert("KUBE-NODEPORTS".to_owned(), Vec::new());
    chains.insert("KUBE-HOSTPORTS".to_owned(), Vec::new());
    chains.insert("KUBE-MARK-MASQ".to_owned(), vec![format!("-j MARK --or-mark {}", mark_value())]);
    chains.insert(
        "KUBE-POSTROUTING".to_owned(),
        vec![
            // Pods leave the cluster with the node's address; inside it they keep their own.
            format!(
                "-s {cidr} ! -d {cidr} -m comment --comment \"pods leave the cluster as the node\" -j KUBE-EGRESS",
                cidr = node.cluster_cidr
            ),
            format!("-m mark ! --mark {MASQUERADE_MARK} -j RETURN"),
            format!("-j MARK --xor-mark {}", mark_value()),
            "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
                .to_owned(),
        ],
    );
    chains.insert(
        "KUBE-EGRESS".to_owned(),
        vec!["-d 224.0.0.0/4 -j RETURN".to_owned(), "-j MASQUERADE --random-fully".to_owned()],
    );
    chains
}

fn mark_value() -> &'static str {
    MASQUERADE_MARK.split_once('/').map_or(MASQUERADE_MARK, |(value, _)| value)
}

fn base_filter(state: &State, node: &NodeNetwork) -> Chains {
    let pods = format!("-s {} ! -i lo", node.cluster_cidr);
    let unowned = format!(
        "-d {} -m comment --comment \"no service owns this address\" -j REJECT --reject-with icmp-port-unreachable",
        node.service_cidr
    );
    // The node's own packets for the range are routed to the loopback, where an ICMP error from an address
    // that nobody has is not sent: a connection is refused with a reset.
    let unowned_by_node = format!(
        "-d {} -p tcp -m comment --comment \"no service owns this address\" -j REJECT --reject-with tcp-reset",
        node.service_cidr
    );
    let mut input = vec![
        "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN".to_owned(),
        // Pods' links route loopback addresses, for node ports and host ports at 127.0.0.1.
        "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP".to_owned(),
        unowned.clone(),
        format!("! -s {} -j RETURN", node.cluster_cidr),
        format!("{pods} -p icmp -j ACCEPT"),
    ];
    for protocol in ["udp", "tcp"] {
        input.push(format!("{pods} -d {}/32 -p {protocol} -m {protocol} --dport 53 -j ACCEPT", node.dns_address));
    }
    for port in &node.open_ports {
        input.push(format!("{pods} -p tcp -m tcp --dport {port} -j ACCEPT"));
    }
    for (protocol, port) in &state.node_network_ports {
        let protocol = protocol.lower();
        input.push(format!("{pods} -p {protocol} -m {protocol} --dport {port} -j ACCEPT"));
    }
    input.push(format!(
        "{pods} -m comment --comment \"the node's own ports are closed to pods\" -j REJECT --reject-with icmp-port-unreachable"
    ));
    let forward = vec![
        "-m conntrack --ctstate INVALID -m comment --comment \"packets of no connection are not let through with a wrong address\" -j DROP".to_owned(),
        unowned.clone(),
        format!("-m mark --mark {MASQUERADE_MARK} -m comment --comment \"kubernetes forwarding rules\" -j ACCEPT"),
        "-m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"kubernetes forwarding conntrack rule\" -j ACCEPT".to_owned(),
        format!("-s {} -j ACCEPT", node.cluster_cidr),
        format!("-d {} -j ACCEPT", node.cluster_cidr),
    ];
    Chains::from([
        ("KUBE-INPUT".to_owned(), input),
        ("KUBE-FORWARD".to_owned(), forward),
        ("KUBE-OUTPUT".to_owned(), vec![unowned_by_node, unowned]),
    ])
}

/// The chain of something: a prefix and 16 characters that depend on all of its parts.
fn chain_name(prefix: &str, parts: &[&str]) -> String {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut name = prefix.to_owned();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in digest.iter().take(10) {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            name.push(char::from(BASE32[(bits >> held) as usize & 31]));
        }
    }
    name
}

fn service_rules(
    set: &mut RuleSet,
    name: &PortName,
    service: &ServicePort,
    endpoints: &[Endpoint],
    node: &NodeNetwork,
) {
    let protocol = service.protocol.lower();
    let id = name.to_string();
    let cluster_chain = chain_name("KUBE-SVC-", &[&id, protocol]);
    let local_chain = chain_name("KUBE-SVL-", &[&id, protocol]);
    let external_chain = chain_name("KUBE-EXT-", &[&id, protocol]);
    let cluster = eligible(endpoints, TrafficPolicy::Cluster);
    let local = eligible(endpoints, TrafficPolicy::Local);

    let internal_chain = match service.internal_policy {
        TrafficPolicy::Cluster => &cluster_chain,
        TrafficPolicy::Local => &local_chain,
    };
    let internal = match service.internal_policy {
        TrafficPolicy::Cluster => &cluster,
        TrafficPolicy::Local => &local,
    };
    let addressed = format!("-d {}/32 -p {protocol} -m {protocol} --dport {}", service.cluster_ip, service.port);
    if service.cluster_ip == node.cluster_dns && service.port == 53 {
        // Already sent to this node's own server.
    } else if internal.is_empty() {
        // Without a rule the address is not translated, and what is not translated is rejected.
    } else {
        push(
            &mut set.nat,
            "KUBE-SERVICES",
            format!("{addressed} -m comment --comment \"{id} cluster IP\" -j {internal_chain}"),
        );
    }

    let from_outside: Vec<Ipv4Addr> = service.external_ips.iter().chain(&service.load_balancer_ips).copied().collect();
    let outside = service.node_port != 0 || !from_outside.is_empty();
    let external = match service.external_policy {
        TrafficPolicy::Cluster => &cluster,
        TrafficPolicy::Local => &local,
    };
    if outside {
        outside_rules(set, name, service, &from_outside, &external_chain, external.is_empty(), cluster.is_empty());
        if !cluster.is_empty() {
            external_rules(set, &id, service, &external_chain, &cluster_chain, &local_chain, !local.is_empty(), node);
        }
    }

    let cluster_used = outside || service.internal_policy == TrafficPolicy::Cluster;
    let local_used =
        service.internal_policy == TrafficPolicy::Local || (outside && service.external_policy == TrafficPolicy::Local);
    for (used, chain, eligible) in [(cluster_used, &cluster_chain, &cluster), (local_used, &local_chain, &local)] {
        if used && !eligible.is_empty() {
            if chain == internal_chain {
                // From outside the pods' network the answer must come back through this node.
                push(
                    &mut set.nat,
                    chain,
                    format!(
                        "! -s {} {addressed} -m comment --comment \"{id} cluster IP\" -j KUBE-MARK-MASQ",
                        node.cluster_cidr
                    ),
                );
            }
            balance(set, &id, service, chain, eligible);
        }
    }
}

/// Node port, external and load-balancer addresses: into the external chain, or refused.
fn outside_rules(
    set: &mut RuleSet,
    name: &PortName,
    service: &ServicePort,
    addresses: &[Ipv4Addr],
    external_chain: &str,
    nobody: bool,
    nobody_at_all: bool,
) {
    let protocol = service.protocol.lower();
    for address in addresses {
        let rule = format!(
            "-d {address}/32 -p {protocol} -m {protocol} --dport {} -m comment --comment \"{name} external IP\"",
            service.port
        );
        if nobody_at_all {
            reject(set, &rule);
        } else {
            push(&mut set.nat, "KUBE-SERVICES", format!("{rule} -j {external_chain}"));
            if nobody {
                drop_packet(set, &rule);
            }
        }
    }
    if service.node_port != 0 {
        let port = format!("-p {protocol} -m {protocol} --dport {} -m comment --comment \"{name}\"", service.node_port);
        let local = format!("-m addrtype --dst-type LOCAL {port}");
        if nobody_at_all {
            reject(set, &local);
        } else {
            push(&mut set.nat, "KUBE-NODEPORTS", format!("{port} -j {external_chain}"));
            if nobody {
                drop_packet(set, &local);
            }
        }
    }
}

/// Refuse at once: nobody serves it.
fn reject(set: &mut RuleSet, rule: &str) {
    for chain in ["KUBE-INPUT", "KUBE-FORWARD", "KUBE-OUTPUT"] {
        insert_first(set, chain, format!("{rule} -j REJECT --reject-with icmp-port-unreachable"));
    }
}

/// Drop without a word, so that a balancer tries another node: nobody serves it here.
fn drop_packet(set: &mut RuleSet, rule: &str) {
    for chain in ["KUBE-INPUT", "KUBE-FORWARD"] {
        insert_first(set, chain, format!("{rule} -j DROP"));
    }
}

fn insert_first(set: &mut RuleSet, chain: &str, rule: String) {
    set.filter.entry(chain.to_owned()).or_default().insert(0, rule);
}

#[allow(clippy::too_many_arguments, reason = "the parts of one chain, each named")]
fn external_rules(
    set: &mut RuleSet,
    id: &str,
    service: &ServicePort,
    external_chain: &str,
    cluster_chain: &str,
    local_chain: &str,
    has_local: bool,
    node: &NodeNetwork,
) {
    let nat = &mut set.nat;
    for range in &service.source_ranges {
        push(
            nat,
            external_chain,
            format!("! -s {range} -m comment --comment \"{id} outside of the source ranges\" -j RETURN"),
        );
    }
    match service.external_policy {
        TrafficPolicy::Cluster => {
            push(
                nat,
                external_chain,
                format!("-m comment --comment \"masquerade traffic for {id} external destinations\" -j KUBE-MARK-MASQ"),
            );
            push(nat, external_chain, format!("-j {cluster_chain}"));
        }
        TrafficPolicy::Local => {
            push(
                nat,
                external_chain,
                format!(
                    "-s {} -m comment --comment \"pod traffic for {id} external destinations\" -j {cluster_chain}",
                    node.cluster_cidr
                ),
            );
            push(
                nat,
                external_chain,
                format!(
                    "-m comment --comment \"masquerade LOCAL traffic for {id} external destinations\" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
                ),
            );
            push(
                nat,
                external_chain,
                format!(
                    "-m comment --comment \"route LOCAL traffic for {id} external destinations\" -m addrtype --src-type LOCAL -j {cluster_chain}"
                ),
            );
            if has_local {
                push(nat, external_chain, format!("-j {local_chain}"));
            }
        }
    }
}

/// Choose one endpoint: the one that the client had before, else each with the same probability.
fn balance(set: &mut RuleSet, id: &str, service: &ServicePort, chain: &str, endpoints: &[&Endpoint]) {
    let protocol = service.protocol.lower();
    let count = endpoints.len();
    let chains: Vec<String> = endpoints
        .iter()
        .map(|endpoint| chain_name("KUBE-SEP-", &[id, protocol, &format!("{}:{}", endpoint.ip, endpoint.port)]))
        .collect();
    if let Some(seconds) = service.affinity_seconds {
        for (endpoint, target) in endpoints.iter().zip(&chains) {
            push(
                &mut set.nat,
                chain,
                format!(
                    "-m comment --comment \"{id} -> {}:{}\" -m recent --name {target} --rcheck --seconds {seconds} --reap --rsource -j {target}",
                    endpoint.ip, endpoint.port
                ),
            );
        }
    }
    for (index, (endpoint, target)) in endpoints.iter().zip(&chains).enumerate() {
        let mut rule = format!("-m comment --comment \"{id} -> {}:{}\"", endpoint.ip, endpoint.port);
        if index + 1 < count {
            let probability = 1.0 / (count - index) as f64;
            write!(rule, " -m statistic --mode random --probability {probability:.10}").expect("a String takes it");
        }
        push(&mut set.nat, chain, format!("{rule} -j {target}"));
        if !set.nat.contains_key(target) {
            let mut rules = vec![format!("-s {}/32 -m comment --comment \"{id}\" -j KUBE-MARK-MASQ", endpoint.ip)];
            let recent = match service.affinity_seconds {
                Some(_) => format!(" -m recent --name {target} --set --rsource"),
                None => String::new(),
            };
            rules.push(format!(
                "-p {protocol} -m comment --comment \"{id}\"{recent} -m {protocol} -j DNAT --to-destination {}:{}",
                endpoint.ip, endpoint.port
            ));
            set.nat.insert(target.clone(), rules);
        }
    }
}

fn host_ports(set: &mut RuleSet, ports: &[HostPort]) {
    for port in ports {
        let protocol = port.protocol.lower();
        let to = port.host_ip.map(|address| format!("-d {address}/32 ")).unwrap_or_default();
        let comment = format!("-m comment --comment \"{} hostport {}\"", port.pod, port.host_port);
        let matched = format!("{to}-p {protocol} -m {protocol} --dport {}", port.host_port);
        push(&mut set.nat, "KUBE-HOSTPORTS", format!("{matched} -s {}/32 {comment} -j KUBE-MARK-MASQ", port.pod_ip));
        push(
            &mut set.nat,
            "KUBE-HOSTPORTS",
            format!("{matched} -m addrtype --src-type LOCAL {comment} -j KUBE-MARK-MASQ"),
        );
        push(
            &mut set.nat,
            "KUBE-HOSTPORTS",
            format!("{matched} {comment} -j DNAT --to-destination {}:{}", port.pod_ip, port.container_port),
        );
    }
    if !ports.is_empty() {
        // Before the node ports: both see only packets to this node's own addresses.
        let rules = set.nat.entry("KUBE-SERVICES".to_owned()).or_default();
        let last = rules.len().saturating_sub(1);
        rules.insert(
            last,
            "-m comment --comment \"pods' host ports\" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS".to_owned(),
        );
    }
}

/// UDP flows that must be forgotten because their endpoint is gone: (service address and port, or
/// node port with no address) to the endpoint's address.
pub fn stale_flows(old: &State, new: &State) -> Vec<Flow> {
    let mut flows = Vec::new();
    for (name, endpoints) in &old.endpoints {
        let Some(service) = old.services.get(name).filter(|service| service.protocol == Protocol::Udp) else {
            continue;
        };
        let now = new.endpoints.get(name).map(Vec::as_slice).unwrap_or_default();
        let serves = |endpoint: &&Endpoint| {
            eligible(now, TrafficPolicy::Cluster)
                .iter()
                .any(|other| (other.ip, other.port) == (endpoint.ip, endpoint.port))
        };
        for endpoint in endpoints.iter().filter(|endpoint| !serves(endpoint)) {
            let addresses =
                std::iter::once(&service.cluster_ip).chain(&service.external_ips).chain(&service.load_balancer_ips);
            flows.extend(addresses.map(|address| Flow {
                original: Some(*address),
                port: service.port,
                endpoint: Some(endpoint.ip),
            }));
            if service.node_port != 0 {
                flows.push(Flow { original: None, port: service.node_port, endpoint: Some(endpoint.ip) });
            }
        }
    }
    // A Service that had no endpoint: packets sent then may have made an entry without translation.
    for (name, service) in new.services.iter().filter(|(_, service)| service.protocol == Protocol::Udp) {
        let had = |state: &State| {
            state.endpoints.get(name).is_some_and(|list| !eligible(list, TrafficPolicy::Cluster).is_empty())
        };
        if had(new) && !had(old) {
            flows.push(Flow { original: Some(service.cluster_ip), port: service.port, endpoint: None });
            if service.node_port != 0 {
                flows.push(Flow { original: None, port: service.node_port, endpoint: None });
            }
        }
    }
    flows
}

/// A connection-tracking entry to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Original destination; None: any of this node's.
    pub original: Option<Ipv4Addr>,
    pub port: u16,
    /// Where it was translated to; None: anywhere.
    pub endpoint: Option<Ipv4Addr>,
}

#[cfg(test)]
mod tests;
