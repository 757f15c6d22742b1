//! PodTopologySpread: matching pods are spread over nodes, zones or what a label says.
//!
//! A pod without constraints of its own is spread softly with its Service's and owner's pods:
//! skew 3 over hosts, 5 over zones.

use super::{Event, MAX_SCORE, Prepared, Rejection, Row};
use crate::runtime::node_selector::pod_fits_node;
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::selectors::{AllOf, matches};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub const ROW: Row = Row {
    name: "PodTopologySpread",
    weight: 2,
    prepare,
    events: &[Event::NodeAdded, Event::NodeLabels, Event::NodeTaints, Event::PodPlaced, Event::PodDeleted],
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

enum Selector<'a> {
    Own(&'a TopologySpreadConstraint, BTreeMap<String, String>),
    Workload(&'a AllOf),
}

impl Selector<'_> {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Own(constraint, keys) => {
                matches(constraint.label_selector.as_ref(), labels)
                    && keys.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
            Self::Workload(all) => all.matches(labels),
        }
    }
}

struct Constraint<'a> {
    key: &'a str,
    max_skew: i64,
    hard: bool,
    min_domains: usize,
    /// Matching pods by value of the key, on nodes that count.
    counts: HashMap<&'a str, i64>,
    selector: Selector<'a>,
}

struct Spread<'a> {
    pod: &'a Pod,
    constraints: Vec<Constraint<'a>>,
    /// The default constraints accept nodes without the label.
    defaulted: bool,
}

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    let pod = cycle.pod;
    let mut constraints: Vec<Constraint> = Vec::new();
    let defaulted = pod.spread.is_empty();
    if defaulted {
        let workload = &cycle.surroundings.workload;
        if workload.is_empty() {
            return None;
        }
        for (key, max_skew) in [(HOSTNAME, 3), (ZONE, 5)] {
            constraints.push(Constraint {
                key,
                max_skew,
                hard: false,
                min_domains: 1,
                counts: HashMap::new(),
                selector: Selector::Workload(workload),
            });
        }
    }
    for own in &pod.spread {
        let keys = own.match_label_keys.iter().flatten();
        let keys = keys.filter_map(|key| Some((key.clone(), pod.meta.labels.get(key)?.clone()))).collect();
        constraints.push(Constraint {
            key: &own.topology_key,
            max_skew: i64::from(own.max_skew),
            hard: own.when_unsatisfiable == "DoNotSchedule",
            min_domains: own.min_domains.and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            counts: HashMap::new(),
            selector: Selector::Own(own, keys),
        });
    }
    for constraint in &mut constraints {
        for info in &cycle.snapshot.nodes {
            let Some(value) = info.label(constraint.key) else { continue };
            if !counts_node(constraint, pod, info) {
                continue;
            }
            let matching = info.pods.iter().filter(|other| {
                !other.meta.is_deleting()
                    && other.meta.namespace == pod.meta.namespace
                    && constraint.selector.matches(&other.meta.labels)
            });
            *constraint.counts.entry(value).or_default() += matching.count() as i64;
        }
    }
    Some(Box::new(Spread { pod, constraints, defaulted }))
}

/// nodeAffinityPolicy (default: honour) and nodeTaintsPolicy (default: ignore).
fn counts_node(constraint: &Constraint, pod: &Pod, info: &NodeInfo) -> bool {
    let Selector::Own(own, _) = &constraint.selector else { return pod_fits_node(pod, &info.node) };
    let affinity = own.node_affinity_policy.as_deref() == Some("Ignore") || pod_fits_node(pod, &info.node);
    let taints = own.node_taints_policy.as_deref() != Some("Honor")
        || info
            .node
            .taints
            .iter()
            .filter(|taint| &*taint.effect != "PreferNoSchedule")
            .all(|taint| pod.tolerations.iter().any(|toleration| toleration.tolerates(taint)));
    affinity && taints
}

impl Prepared for Spread<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        for constraint in self.constraints.iter().filter(|constraint| constraint.hard) {
            let Some(value) = info.label(constraint.key) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(reason));
            };
            let least = if constraint.counts.len() < constraint.min_domains {
                0
            } else {
                constraint.counts.values().min().copied().unwrap_or_default()
            };
            let own = i64::from(constraint.selector.matches(&self.pod.meta.labels));
            let here = constraint.counts.get(value).copied().unwrap_or_default();
            if here + own - least > constraint.max_skew {
                return Err(Rejection::resolvable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    /// The weighted number of matching pods around: the fewer the better.
    fn score(&self, info: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for constraint in self.constraints.iter().filter(|constraint| !constraint.hard) {
            let Some(value) = info.label(constraint.key) else { continue };
            let count = constraint.counts.get(value).copied().unwrap_or_default() as f64;
            let weight = ((constraint.counts.len() + 2) as f64).ln();
            score += count * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64], nodes: &[Arc<NodeInfo>]) {
        let soft = || self.constraints.iter().filter(|constraint| !constraint.hard);
        if soft().next().is_none() {
            scores.fill(0);
            return;
        }
        // A node outside the topology gets nothing.
        let inside: Vec<bool> = nodes
            .iter()
            .map(|info| self.defaulted || soft().all(|constraint| info.label(constraint.key).is_some()))
            .collect();
        let counted: Vec<i64> =
            scores.iter().zip(&inside).filter(|(_, inside)| **inside).map(|(score, _)| *score).collect();
        let (least, most) =
            (counted.iter().min().copied().unwrap_or_default(), counted.iter().max().copied().unwrap_or_default());
        for (score, inside) in scores.iter_mut().zip(inside) {
            *score = match (inside, most) {
                (false, _) => 0,
                (true, 0) => MAX_SCORE,
                (true, most) => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }
}
