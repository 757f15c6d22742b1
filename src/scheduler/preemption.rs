//! Preemption: which pods would have to go so that a more important one fits. Pure.
//!
//! On each node where it could help: take all pods of lower priority away, see whether it fits, and
//! put back as many as fit, the most important first. Source: `plugins/defaultpreemption`.

use super::cache::{NodeInfo, Snapshot};
use super::cycle::{Cycle, Filters, Misfit, Surroundings};
use crate::runtime::views::Pod;
use std::cmp::Reverse;
use std::sync::Arc;

/// A node, and who has to leave it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: Arc<str>,
    pub victims: Vec<Arc<Pod>>,
}

/// The best place, or what the event says about there being none.
pub fn find(pod: &Pod, snapshot: &Snapshot, around: &Surroundings, misfit: &Misfit) -> Result<Candidate, String> {
    if &*pod.preemption_policy == "Never" {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    // It made room before: while its victims are still leaving, nobody else goes.
    if !pod.nominated_node.is_empty()
        && let Some(info) = snapshot.nodes.iter().find(|info| info.name() == &*pod.nominated_node)
        && info.pods.iter().any(|other| other.meta.is_deleting() && other.priority < pod.priority)
    {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let mut candidates = Vec::new();
    let mut hopeless = 0;
    for name in &misfit.resolvable {
        let Some(info) = snapshot.nodes.iter().find(|info| info.name() == &**name) else { continue };
        match victims(pod, info, snapshot, around) {
            Some(victims) => candidates.push(Candidate { node: name.clone(), victims }),
            None => hopeless += 1,
        }
    }
    let unhelpful = misfit.nodes - misfit.resolvable.len();
    best(candidates).ok_or_else(|| {
        let mut reasons = Vec::new();
        if hopeless > 0 {
            reasons.push(format!("{hopeless} No preemption victims found for incoming pod"));
        }
        if unhelpful > 0 {
            reasons.push(format!("{unhelpful} Preemption is not helpful for scheduling"));
        }
        reasons.sort();
        format!("0/{} nodes are available: {}.", misfit.nodes, reasons.join(", "))
    })
}

fn victims(pod: &Pod, info: &NodeInfo, snapshot: &Snapshot, around: &Surroundings) -> Option<Vec<Arc<Pod>>> {
    let fits = |info: &NodeInfo| {
        let snapshot = snapshot.with(info.clone());
        let cycle = Cycle { pod, snapshot: &snapshot, surroundings: around };
        Filters::prepare(&cycle).filter(info).is_ok()
    };
    let mut left = info.clone();
    let mut potential: Vec<Arc<Pod>> =
        info.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if potential.is_empty() {
        return None;
    }
    for other in &potential {
        left.remove(&other.meta.uid);
    }
    if !fits(&left) {
        return None;
    }
    potential.sort_by_key(|other| (Reverse(other.priority), other.start_time));
    let mut victims = Vec::new();
    for other in potential {
        let mut with = left.clone();
        with.add(other.clone());
        if fits(&with) {
            left = with;
        } else {
            victims.push(other);
        }
    }
    Some(victims)
}

/// The least important victims, then the fewest, then the youngest.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let priorities = candidate.victims.iter().map(|victim| i64::from(victim.priority));
        let highest = priorities.clone().max();
        // Negative priorities count too: shifted, so that fewer victims are never worse.
        let sum: i64 = priorities.map(|priority| priority + i64::from(i32::MAX) + 1).sum();
        let important = candidate.victims.iter().filter(|victim| Some(i64::from(victim.priority)) == highest);
        let earliest = important.filter_map(|victim| victim.start_time).min();
        (highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}
