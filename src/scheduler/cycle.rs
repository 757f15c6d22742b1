//! One pod, one snapshot, one decision: pure.

use super::cache::{NodeInfo, Snapshot};
use super::plugins::{PLUGINS, Prepared, Rejection};
use super::selectors::AllOf;
use crate::runtime::views::Pod;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// What a cycle is about; plugins read it.
pub struct Cycle<'a> {
    pub pod: &'a Pod,
    pub snapshot: &'a Snapshot,
    pub surroundings: &'a Surroundings,
}

/// What else of the cluster plugins read.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The selectors of the pod's Services and of the workload that owns it.
    pub workload: AllOf,
    /// Labels of namespaces.
    pub namespaces: Arc<HashMap<Arc<str>, BTreeMap<String, String>>>,
}

/// Why no node takes a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Misfit {
    pub nodes: usize,
    /// Reason to number of nodes.
    pub reasons: BTreeMap<String, usize>,
    pub plugins: Vec<&'static str>,
    /// Nodes where the removal of pods could help.
    pub resolvable: Vec<Arc<str>>,
    /// What preemption says.
    pub preemption: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        if !reasons.is_empty() {
            write!(f, ": {}.", reasons.join(", "))?;
        }
        if !self.preemption.is_empty() {
            write!(f, " preemption: {}", self.preemption)?;
        }
        Ok(())
    }
}

/// The plugins that have something to say about this pod.
pub struct Filters<'a>(Vec<(&'static str, i64, Box<dyn Prepared + 'a>)>);

impl<'a> Filters<'a> {
    pub fn prepare(cycle: &Cycle<'a>) -> Self {
        let prepared = PLUGINS.iter().filter_map(|row| Some((row.name, row.weight, (row.prepare)(cycle)?)));
        Self(prepared.collect())
    }

    /// Whether a node takes the pod; the first refusal counts.
    pub fn filter(&self, info: &NodeInfo) -> Result<(), (&'static str, Rejection)> {
        for (name, _, plugin) in &self.0 {
            plugin.filter(info).map_err(|rejection| (*name, rejection))?;
        }
        Ok(())
    }

    /// The sum of the plugins' scores, each 0 to 100 times its weight.
    fn scores(&self, nodes: &[Arc<NodeInfo>]) -> Vec<i64> {
        let mut total = vec![0; nodes.len()];
        for (_, weight, plugin) in &self.0 {
            if *weight == 0 {
                continue;
            }
            let mut scores: Vec<i64> = nodes.iter().map(|info| plugin.score(info)).collect();
            plugin.normalize(&mut scores, nodes);
            for (total, score) in total.iter_mut().zip(scores) {
                *total += weight * score;
            }
        }
        total
    }
}

/// The node for a pod. `draw`: decides among equals.
pub fn schedule(cycle: &Cycle<'_>, draw: u64) -> Result<Arc<str>, Misfit> {
    let nodes = &cycle.snapshot.nodes;
    let mut misfit = Misfit { nodes: nodes.len(), ..Misfit::default() };
    let filters = Filters::prepare(cycle);
    let mut feasible = Vec::new();
    for info in nodes {
        match filters.filter(info) {
            Ok(()) => feasible.push(info.clone()),
            Err((plugin, rejection)) => {
                for reason in rejection.reasons {
                    *misfit.reasons.entry(reason).or_default() += 1;
                }
                if !misfit.plugins.contains(&plugin) {
                    misfit.plugins.push(plugin);
                }
                if rejection.resolvable {
                    misfit.resolvable.push(info.node.meta.name.clone());
                }
            }
        }
    }
    match feasible.as_slice() {
        [] => return Err(misfit),
        [only] => return Ok(only.node.meta.name.clone()),
        _ => {}
    }
    let scores = filters.scores(&feasible);
    let best = scores.iter().max().copied().unwrap_or_default();
    let equals: Vec<&Arc<NodeInfo>> =
        feasible.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(info, _)| info).collect();
    let index = usize::try_from(draw % equals.len() as u64).unwrap_or_default();
    Ok(equals[index].node.meta.name.clone())
}
