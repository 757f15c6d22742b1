//! Preemption: which pods would have to go so that a more important one fits. Pure.
//!
//! On each node where it could help: take all pods of lower priority away, see whether it fits, and
//! put back as many as fit, first those that a disruption budget protects, of each the most important first. A budget
//! is kept where that is possible. Source: `plugins/defaultpreemption`.

use super::cache::{NodeInfo, Snapshot};
use super::cycle::{Cycle, Filters, Misfit, Surroundings};
use crate::runtime::views::{Pod, PodDisruptionBudget};
use std::cmp::Reverse;
use std::sync::Arc;

/// A node, and who has to leave it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: Arc<str>,
    pub victims: Vec<Arc<Pod>>,
    /// So many of them in spite of a budget.
    violations: usize,
}

/// The best place, or what the event says about there being none.
pub fn find(
    pod: &Pod,
    snapshot: &Snapshot,
    around: &Surroundings,
    misfit: &Misfit,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<Candidate, String> {
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
        match victims(pod, info, snapshot, around, budgets) {
            Some((victims, violations)) => candidates.push(Candidate { node: name.clone(), victims, violations }),
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

/// And how many of them a budget protects.
fn victims(
    pod: &Pod,
    info: &NodeInfo,
    snapshot: &Snapshot,
    around: &Surroundings,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Option<(Vec<Arc<Pod>>, usize)> {
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
    let importance = |other: &Arc<Pod>| (Reverse(other.priority), other.start_time);
    potential.sort_by_key(importance);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (is_protected, other) in by_budget(potential, budgets) {
        let mut with = left.clone();
        with.add(other.clone());
        if fits(&with) {
            left = with;
        } else {
            violations += usize::from(is_protected);
            victims.push(other);
        }
    }
    victims.sort_by_key(importance);
    Some((victims, violations))
}

/// First those that could not go without breaking a budget. A budget without a selector protects nobody here; a pod
/// whose eviction was allowed already does not count again.
fn by_budget(pods: Vec<Arc<Pod>>, budgets: &[Arc<PodDisruptionBudget>]) -> Vec<(bool, Arc<Pod>)> {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.status.disruptions_allowed).collect();
    let mut marked: Vec<(bool, Arc<Pod>)> = Vec::with_capacity(pods.len());
    for pod in pods {
        let mut is_protected = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            let applies = budget.meta.namespace == pod.meta.namespace
                && !pod.meta.labels.is_empty()
                && budget.spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
                && budget.selects(&pod.meta.labels)
                && !budget.status.disrupted_pods.contains_key(&*pod.meta.name);
            if applies {
                *left -= 1;
                is_protected |= *left < 0;
            }
        }
        marked.push((is_protected, pod));
    }
    marked.sort_by_key(|(is_protected, _)| !is_protected);
    marked
}

/// The fewest that a budget protects, then the least important victims, the fewest, the youngest.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let priorities = candidate.victims.iter().map(|victim| i64::from(victim.priority));
        let highest = priorities.clone().max();
        // Negative priorities count too: shifted, so that fewer victims are never worse.
        let sum: i64 = priorities.map(|priority| priority + i64::from(i32::MAX) + 1).sum();
        let important = candidate.victims.iter().filter(|victim| Some(i64::from(victim.priority)) == highest);
        let earliest = important.filter_map(|victim| victim.start_time).min();
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}
