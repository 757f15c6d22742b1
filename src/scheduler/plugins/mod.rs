//! The plugins: what makes a node fit a pod, and fit better. One file each, one row each.
//!
//! A plugin prepares once per cycle (None: it has nothing to say about this pod) and is then asked
//! per node. All are pure.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod pod_topology_spread;
mod resources_balanced;
mod resources_fit;
mod taint_toleration;

use super::cache::NodeInfo;
use super::cycle::Cycle;
use std::sync::Arc;

/// A score is at most this.
pub const MAX_SCORE: i64 = 100;

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<String>,
    /// Whether the removal of pods from the node could help.
    pub resolvable: bool,
}

impl Rejection {
    pub fn resolvable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    pub fn unresolvable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// A plugin that was prepared for one pod.
pub trait Prepared: Send + Sync {
    fn filter(&self, _info: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    fn score(&self, _info: &NodeInfo) -> i64 {
        0
    }

    /// Bring the scores of the feasible nodes to 0..=100.
    fn normalize(&self, _scores: &mut [i64], _nodes: &[Arc<NodeInfo>]) {}
}

/// What can happen that may make a pod fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NodeAdded,
    /// Allocatable resources grew or images came.
    NodeResources,
    NodeLabels,
    /// Taints, or unschedulable.
    NodeTaints,
    /// A pod was bound, or a bound pod's labels changed.
    PodPlaced,
    /// A bound pod is gone or finished.
    PodDeleted,
}

pub struct Row {
    pub name: &'static str,
    /// 0: it does not score.
    pub weight: i64,
    pub prepare: for<'a> fn(&Cycle<'a>) -> Option<Box<dyn Prepared + 'a>>,
    /// What can undo a refusal.
    pub events: &'static [Event],
}

/// In the order in which they are asked.
pub const PLUGINS: &[Row] = &[
    node_unschedulable::ROW,
    node_name::ROW,
    taint_toleration::ROW,
    node_affinity::ROW,
    node_ports::ROW,
    resources_fit::ROW,
    pod_topology_spread::ROW,
    inter_pod_affinity::ROW,
    resources_balanced::ROW,
    image_locality::ROW,
];

/// Whether an event may undo a plugin's refusal.
pub fn cares(plugin: &str, event: Event) -> bool {
    PLUGINS.iter().any(|row| row.name == plugin && row.events.contains(&event))
}

/// Scores in proportion to the largest; `reverse`: the least is best.
fn normalize_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().max().copied().unwrap_or_default();
    for score in scores {
        *score = match (largest, reverse) {
            (0, true) => MAX_SCORE,
            (0, false) => 0,
            (largest, true) => MAX_SCORE - MAX_SCORE * *score / largest,
            (largest, false) => MAX_SCORE * *score / largest,
        };
    }
}
