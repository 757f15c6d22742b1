//! NodeResourcesFit: the node has room for what the pod asks for; emptier nodes are better.

use super::{Event, MAX_SCORE, Prepared, Rejection, Row};
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;

pub const ROW: Row = Row {
    name: "NodeResourcesFit",
    weight: 1,
    prepare,
    events: &[Event::NodeAdded, Event::NodeResources, Event::PodDeleted],
};

struct Fit<'a>(&'a Pod);

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    Some(Box::new(Fit(cycle.pod)))
}

impl Prepared for Fit<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        let allocatable = &info.node.allocatable;
        let mut reasons = Vec::new();
        let mut resolvable = true;
        if info.pods.len() as i64 + 1 > allocatable.pods {
            reasons.push("Too many pods".to_owned());
        }
        for (name, asked) in self.0.requests.iter() {
            let has = allocatable.get(name);
            if asked > has - info.requested.get(name) {
                reasons.push(format!("Insufficient {name}"));
                // More than the whole node: nobody's leaving helps.
                resolvable &= asked <= has;
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { reasons, resolvable }) }
    }

    /// LeastAllocated over CPU and memory.
    fn score(&self, info: &NodeInfo) -> i64 {
        let mut sum = 0;
        let mut count = 0;
        for name in ["cpu", "memory"] {
            let has = info.node.allocatable.get(name);
            if has == 0 {
                continue;
            }
            let used = info.scoring_requested.get(name) + self.0.scoring_requests.get(name);
            sum += if used > has { 0 } else { (has - used) * MAX_SCORE / has };
            count += 1;
        }
        if count == 0 { 0 } else { sum / count }
    }
}
