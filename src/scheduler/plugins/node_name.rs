//! NodeName: a pod that names its node takes no other.

use super::{Event, Prepared, Rejection, Row};
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;

pub const ROW: Row = Row { name: "NodeName", weight: 0, prepare, events: &[Event::NodeAdded] };

struct NodeName<'a>(&'a str);

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    (!cycle.pod.node.is_empty()).then(|| Box::new(NodeName(&cycle.pod.node)) as _)
}

impl Prepared for NodeName<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        if info.name() == self.0 {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }
}
