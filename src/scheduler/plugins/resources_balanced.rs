//! NodeResourcesBalancedAllocation: a node whose CPU and memory fill at the same rate is better.

use super::{MAX_SCORE, Prepared, Row};
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;

pub const ROW: Row = Row { name: "NodeResourcesBalancedAllocation", weight: 1, prepare, events: &[] };

struct Balanced<'a>(&'a Pod);

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    // A pod that asks for nothing tips no balance.
    let asks = cycle.pod.requests.milli_cpu != 0 || cycle.pod.requests.memory != 0;
    asks.then(|| Box::new(Balanced(cycle.pod)) as _)
}

impl Prepared for Balanced<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let fractions: Vec<f64> = ["cpu", "memory"]
            .iter()
            .filter(|name| info.node.allocatable.get(name) != 0)
            .map(|name| {
                let used = info.requested.get(name) + self.0.requests.get(name);
                (used as f64 / info.node.allocatable.get(name) as f64).min(1.0)
            })
            .collect();
        let deviation = match fractions.as_slice() {
            [one, two] => (one - two).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }
}
