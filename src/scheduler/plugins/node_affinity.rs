//! NodeAffinity: node selectors, required and preferred node affinity.

use super::{Event, Prepared, Rejection, Row, normalize_to_largest};
use crate::runtime::node_selector::{pod_fits_node, term_matches};
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;
use k8s_openapi::api::core::v1::PreferredSchedulingTerm;
use std::sync::Arc;

pub const ROW: Row = Row { name: "NodeAffinity", weight: 2, prepare, events: &[Event::NodeAdded, Event::NodeLabels] };

struct NodeAffinity<'a> {
    pod: &'a Pod,
    preferred: &'a [PreferredSchedulingTerm],
}

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    let pod = cycle.pod;
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    if affinity.is_none() && pod.node_selector.is_empty() {
        return None;
    }
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    Some(Box::new(NodeAffinity { pod, preferred: preferred.unwrap_or_default() }))
}

impl Prepared for NodeAffinity<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        if pod_fits_node(self.pod, &info.node) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }

    fn score(&self, info: &NodeInfo) -> i64 {
        let matching = self.preferred.iter().filter(|term| term_matches(&term.preference, &info.node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64], _nodes: &[Arc<NodeInfo>]) {
        normalize_to_largest(scores, false);
    }
}
