//! NodePorts: a host port has one user per node, address and protocol.

use super::{Event, Prepared, Rejection, Row};
use crate::runtime::views::{Pod, Port};
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;

pub const ROW: Row = Row { name: "NodePorts", weight: 0, prepare, events: &[Event::NodeAdded, Event::PodDeleted] };

struct NodePorts<'a>(Vec<&'a Port>);

fn host_ports(pod: &Pod) -> impl Iterator<Item = &Port> {
    pod.containers.iter().flat_map(|container| &container.ports).filter(|port| port.host_port > 0)
}

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    let ports: Vec<&Port> = host_ports(cycle.pod).collect();
    (!ports.is_empty()).then(|| Box::new(NodePorts(ports)) as _)
}

fn conflict(one: &Port, two: &Port) -> bool {
    let protocol = |port: &Port| if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.to_string() };
    let any = |port: &Port| matches!(&*port.host_ip, "" | "0.0.0.0" | "::");
    one.host_port == two.host_port
        && protocol(one) == protocol(two)
        && (any(one) || any(two) || one.host_ip == two.host_ip)
}

impl Prepared for NodePorts<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        let taken =
            info.pods.iter().flat_map(|pod| host_ports(pod)).any(|used| self.0.iter().any(|port| conflict(port, used)));
        if taken {
            return Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
