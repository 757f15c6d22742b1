//! What the rules are made from: Services, endpoints and host ports, as far as a proxy reads them.
//!
//! Plain values; the informers' projections make them and [`super::rules`] reads them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// `TCP`, `UDP`, `SCTP`; empty is TCP, as the API defaults it. None: not one that is proxied.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As iptables names it.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Which endpoints a kind of traffic may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// Names a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    pub namespace: String,
    pub service: String,
    /// Empty: the only port.
    pub port: String,
}

impl std::fmt::Display for PortName {
    /// `default/web:http`, `default/web`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// One port of one Service that has a cluster address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub protocol: Protocol,
    pub cluster_ip: Ipv4Addr,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    pub external_ips: Vec<Ipv4Addr>,
    /// Of load balancers in VIP mode.
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Empty: everyone.
    pub source_ranges: Vec<String>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
    /// ClientIP affinity: seconds.
    pub affinity_seconds: Option<u32>,
}

/// One address that serves a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    pub port: u16,
    pub ready: bool,
    /// Still answers while it terminates.
    pub serving: bool,
    pub terminating: bool,
    /// On this node.
    pub local: bool,
}

/// A port of the node that leads into a pod of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `default/web`.
    pub pod: String,
    pub protocol: Protocol,
    /// None: all addresses of the node.
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub pod_ip: Ipv4Addr,
    pub container_port: u16,
}

/// Everything the rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub services: BTreeMap<PortName, ServicePort>,
    /// Sorted; by the port they serve.
    pub endpoints: BTreeMap<PortName, Vec<Endpoint>>,
    pub host_ports: Vec<HostPort>,
    /// Ports that pods with the host's network declare: pods may reach them.
    pub node_network_ports: Vec<(Protocol, u16)>,
}

/// The endpoints that traffic of one kind goes to: the ready ones, else those that still serve while
/// they terminate; with `Local`, only this node's.
pub fn eligible(endpoints: &[Endpoint], policy: TrafficPolicy) -> Vec<&Endpoint> {
    let on_node = |endpoint: &&Endpoint| policy == TrafficPolicy::Cluster || endpoint.local;
    let ready: Vec<&Endpoint> = endpoints.iter().filter(on_node).filter(|endpoint| endpoint.ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    endpoints.iter().filter(on_node).filter(|endpoint| endpoint.serving && endpoint.terminating).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8, ready: bool, terminating: bool, local: bool) -> Endpoint {
        Endpoint { ip: Ipv4Addr::new(10, 42, 0, last), port: 80, ready, serving: true, terminating, local }
    }

    #[test]
    fn terminating_endpoints_serve_only_when_no_other_does() {
        let both = [endpoint(1, false, true, true), endpoint(2, true, false, false)];
        assert_eq!(eligible(&both, TrafficPolicy::Cluster), [&both[1]]);
        assert_eq!(eligible(&both, TrafficPolicy::Local), [&both[0]]);
        assert!(eligible(&both[1..], TrafficPolicy::Local).is_empty());
    }
}
