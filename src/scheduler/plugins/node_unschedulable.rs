//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use super::{Event, Prepared, Rejection, Row};
use crate::runtime::views::{Pod, Taint};
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;

pub const ROW: Row =
    Row { name: "NodeUnschedulable", weight: 0, prepare, events: &[Event::NodeAdded, Event::NodeTaints] };

struct NodeUnschedulable<'a>(&'a Pod);

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    Some(Box::new(NodeUnschedulable(cycle.pod)))
}

impl Prepared for NodeUnschedulable<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        if !info.node.unschedulable {
            return Ok(());
        }
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        if self.0.tolerations.iter().any(|toleration| toleration.tolerates(&taint)) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) were unschedulable"))
    }
}
