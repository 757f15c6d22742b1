//! TaintToleration: a tainted node takes only pods that tolerate it; among the others, fewer
//! untolerated PreferNoSchedule taints are better.

use super::{Event, Prepared, Rejection, Row, normalize_to_largest};
use crate::runtime::views::{Pod, Taint};
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;
use std::sync::Arc;

pub const ROW: Row =
    Row { name: "TaintToleration", weight: 3, prepare, events: &[Event::NodeAdded, Event::NodeTaints] };

struct TaintToleration<'a>(&'a Pod);

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    Some(Box::new(TaintToleration(cycle.pod)))
}

impl TaintToleration<'_> {
    fn untolerated<'n>(&'n self, info: &'n NodeInfo) -> impl Iterator<Item = &'n Taint> {
        let tolerations = &self.0.tolerations;
        info.node.taints.iter().filter(|taint| !tolerations.iter().any(|toleration| toleration.tolerates(taint)))
    }
}

impl Prepared for TaintToleration<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        if self.untolerated(info).all(|taint| &*taint.effect == "PreferNoSchedule") {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn score(&self, info: &NodeInfo) -> i64 {
        self.untolerated(info).filter(|taint| &*taint.effect == "PreferNoSchedule").count() as i64
    }

    fn normalize(&self, scores: &mut [i64], _nodes: &[Arc<NodeInfo>]) {
        normalize_to_largest(scores, true);
    }
}
