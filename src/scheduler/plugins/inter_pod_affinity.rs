//! InterPodAffinity: near these pods, away from those.

use super::{Event, MAX_SCORE, Prepared, Rejection, Row};
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::{Cycle, Surroundings};
use crate::scheduler::selectors::matches;
use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub const ROW: Row = Row {
    name: "InterPodAffinity",
    weight: 2,
    prepare,
    events: &[Event::NodeAdded, Event::NodeLabels, Event::PodPlaced, Event::PodDeleted],
};

type Domain<'a> = (&'a str, &'a str);

struct InterPodAffinity<'a> {
    required: Vec<&'a PodAffinityTerm>,
    /// For each required term: where a pod matches all required terms.
    near: HashSet<Domain<'a>>,
    /// No pod matches anywhere, but the pod itself does: the first of a group may go anywhere.
    first_of_group: bool,
    /// Where pods are that the pod wants to be away from.
    own_anti: HashSet<Domain<'a>>,
    /// Where pods are that want to be away from the pod.
    others_anti: HashSet<Domain<'a>>,
    scores: HashMap<Domain<'a>, i64>,
}

fn required(pod: &Pod, anti: bool) -> &[PodAffinityTerm] {
    let Some(affinity) = &pod.affinity else { return &[] };
    let terms = if anti {
        affinity
            .pod_anti_affinity
            .as_ref()
            .and_then(|own| own.required_during_scheduling_ignored_during_execution.as_deref())
    } else {
        affinity
            .pod_affinity
            .as_ref()
            .and_then(|own| own.required_during_scheduling_ignored_during_execution.as_deref())
    };
    terms.unwrap_or_default()
}

fn preferred(pod: &Pod, anti: bool) -> &[WeightedPodAffinityTerm] {
    let Some(affinity) = &pod.affinity else { return &[] };
    let terms = if anti {
        affinity
            .pod_anti_affinity
            .as_ref()
            .and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_deref())
    } else {
        affinity
            .pod_affinity
            .as_ref()
            .and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_deref())
    };
    terms.unwrap_or_default()
}

/// Whether `other` is one of the pods that a term of `pod` means.
fn means(term: &PodAffinityTerm, pod: &Pod, other: &Pod, surroundings: &Surroundings) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let in_namespace = if listed.is_empty() && term.namespace_selector.is_none() {
        other.meta.namespace == pod.meta.namespace
    } else {
        listed.iter().any(|namespace| **namespace == *other.meta.namespace)
            || term.namespace_selector.as_ref().is_some_and(|selector| {
                let none = Default::default();
                let labels = surroundings.namespaces.get(&other.meta.namespace).unwrap_or(&none);
                matches(Some(selector), labels)
            })
    };
    in_namespace && matches(term.label_selector.as_ref(), &other.meta.labels)
}

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    let (pod, around) = (cycle.pod, cycle.surroundings);
    let mut prepared = InterPodAffinity {
        required: required(pod, false).iter().collect(),
        near: HashSet::new(),
        first_of_group: false,
        own_anti: HashSet::new(),
        others_anti: HashSet::new(),
        scores: HashMap::new(),
    };
    let has_own =
        pod.affinity.as_ref().is_some_and(|own| own.pod_affinity.is_some() || own.pod_anti_affinity.is_some());
    let mut others = false;
    for info in &cycle.snapshot.nodes {
        for other in &info.pods {
            let has = other
                .affinity
                .as_ref()
                .is_some_and(|own| own.pod_affinity.is_some() || own.pod_anti_affinity.is_some());
            if !has && !has_own {
                continue;
            }
            others = true;
            let domain = |key: &'a str| info.label(key).map(|value| (key, value));
            if has_own {
                let all = !prepared.required.is_empty()
                    && prepared.required.iter().all(|term| means(term, pod, other, around));
                if all {
                    prepared.near.extend(required(pod, false).iter().filter_map(|term| domain(&term.topology_key)));
                }
                for term in required(pod, true).iter().filter(|term| means(term, pod, other, around)) {
                    prepared.own_anti.extend(domain(&term.topology_key));
                }
                for (terms, sign) in [(preferred(pod, false), 1), (preferred(pod, true), -1)] {
                    for term in terms.iter().filter(|term| means(&term.pod_affinity_term, pod, other, around)) {
                        if let Some(domain) = domain(&term.pod_affinity_term.topology_key) {
                            *prepared.scores.entry(domain).or_default() += sign * i64::from(term.weight);
                        }
                    }
                }
            }
            if has {
                prepared.count_others(info, other, pod, around);
            }
        }
    }
    prepared.first_of_group =
        prepared.near.is_empty() && prepared.required.iter().all(|term| means(term, pod, pod, around));
    (has_own || others).then(|| Box::new(prepared) as _)
}

impl<'a> InterPodAffinity<'a> {
    /// What a running pod wants of the new one. A hard wish to be near counts one softly.
    fn count_others(&mut self, info: &'a NodeInfo, other: &'a Pod, pod: &Pod, around: &Surroundings) {
        let domain = |key: &'a str| info.label(key).map(|value| (key, value));
        for term in required(other, true).iter().filter(|term| means(term, other, pod, around)) {
            self.others_anti.extend(domain(&term.topology_key));
        }
        for term in required(other, false).iter().filter(|term| means(term, other, pod, around)) {
            if let Some(domain) = domain(&term.topology_key) {
                *self.scores.entry(domain).or_default() += 1;
            }
        }
        for (terms, sign) in [(preferred(other, false), 1), (preferred(other, true), -1)] {
            for term in terms.iter().filter(|term| means(&term.pod_affinity_term, other, pod, around)) {
                if let Some(domain) = domain(&term.pod_affinity_term.topology_key) {
                    *self.scores.entry(domain).or_default() += sign * i64::from(term.weight);
                }
            }
        }
    }

    fn is_in(info: &NodeInfo, domains: &HashSet<Domain<'a>>) -> bool {
        domains.iter().any(|(key, value)| info.label(key) == Some(value))
    }
}

impl Prepared for InterPodAffinity<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        for term in &self.required {
            let reason = "node(s) didn't match pod affinity rules";
            let Some(value) = info.label(&term.topology_key) else { return Err(Rejection::unresolvable(reason)) };
            if !self.near.contains(&(term.topology_key.as_str(), value)) && !self.first_of_group {
                return Err(Rejection::unresolvable(reason));
            }
        }
        if Self::is_in(info, &self.own_anti) {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if Self::is_in(info, &self.others_anti) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn score(&self, info: &NodeInfo) -> i64 {
        let matching = self.scores.iter().filter(|((key, value), _)| info.label(key) == Some(value));
        matching.map(|(_, score)| score).sum()
    }

    fn normalize(&self, scores: &mut [i64], _nodes: &[Arc<NodeInfo>]) {
        let (Some(&least), Some(&most)) = (scores.iter().min(), scores.iter().max()) else { return };
        for score in scores {
            *score = if most == least { 0 } else { MAX_SCORE * (*score - least) / (most - least) };
        }
    }
}
