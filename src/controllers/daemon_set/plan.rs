//! Which pods to make and delete, and what the status says: pure.
//!
//! [`manage`] sees to one pod per node; [`roll`] replaces old versions within the bounds of the
//! strategy. Source: `pkg/controller/daemon`.

use super::placement::{is_updated, placement};
use crate::controllers::history::HASH_LABEL;
use crate::runtime::node_selector::target_node;
use crate::runtime::views::{DaemonSet, DaemonSetStatus, Node, Pod};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The pods of one set by the node that they are on, or are meant for; oldest first.
pub type ByNode = BTreeMap<Arc<str>, Vec<Arc<Pod>>>;

#[derive(Debug, Default)]
pub struct Changes {
    /// Names of nodes.
    pub create: Vec<Arc<str>>,
    pub delete: Vec<Arc<Pod>>,
    /// Of the deleted: those that ended, with their nodes; events tell of them.
    pub ended: Vec<(Arc<Pod>, Arc<str>)>,
    /// When a failed pod may be replaced that may not be yet.
    pub again: Option<Duration>,
}

/// Pods that are over and deleted concern nobody any more.
pub fn by_node(pods: Vec<Arc<Pod>>) -> ByNode {
    let mut nodes = ByNode::new();
    for pod in pods {
        if pod.is_terminal() && pod.meta.is_deleting() {
            continue;
        }
        if let Some(node) = target_node(&pod) {
            nodes.entry(node.into()).or_default().push(pod);
        }
    }
    for pods in nodes.values_mut() {
        pods.sort_by(|one, two| {
            let order = |pod: &Pod| pod.node.is_empty();
            order(one).cmp(&order(two)).then_with(|| one.meta.age_order().cmp(&two.meta.age_order()))
        });
    }
    nodes
}

fn amount(set: &DaemonSet, surge: bool, nodes: i32) -> i32 {
    let strategy = &set.spec.update_strategy;
    if &*strategy.kind != "RollingUpdate" {
        return 0;
    }
    let rolling = &strategy.rolling_update;
    let amount = if surge { &rolling.max_surge } else { &rolling.max_unavailable };
    amount.as_ref().and_then(|amount| amount.scaled(nodes, true)).unwrap_or_default()
}

/// `may_replace`: whether the failed pod of a node may be replaced now, or how long to wait.
pub fn manage(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &ByNode,
    hash: &str,
    now: Timestamp,
    mut may_replace: impl FnMut(&str) -> Result<(), Duration>,
) -> Changes {
    let mut changes = Changes::default();
    let surges = amount(set, true, 1) > 0;
    for node in nodes {
        let place = placement(set, node);
        let Some(on_node) = pods.get(&node.meta.name) else {
            if place.run {
                changes.create.push(node.meta.name.clone());
            }
            continue;
        };
        let staying = on_node.iter().filter(|pod| !pod.meta.is_deleting());
        if !place.keep {
            changes.delete.extend(staying.cloned());
            continue;
        }
        let mut running = Vec::new();
        for pod in staying {
            if !pod.is_terminal() {
                running.push(pod);
                continue;
            }
            if &*pod.phase == "Failed"
                && let Err(delay) = may_replace(&node.meta.name)
            {
                changes.again = Some(changes.again.map_or(delay, |again| again.min(delay)));
                continue;
            }
            changes.ended.push((pod.clone(), node.meta.name.clone()));
            changes.delete.push(pod.clone());
        }
        if !surges {
            changes.delete.extend(running.into_iter().skip(1).cloned());
        } else if running.is_empty() {
            if place.run {
                changes.create.push(node.meta.name.clone());
            }
        } else {
            changes.delete.extend(surplus_of_surge(set, &running, hash, now).cloned());
        }
    }
    let exists = |name: &Arc<str>| nodes.iter().any(|node| node.meta.name == *name);
    // Their node is gone before they were bound: nobody else deletes them.
    let lost = pods.iter().filter(|(name, _)| !exists(name)).flat_map(|(_, pods)| pods);
    changes.delete.extend(lost.filter(|pod| pod.node.is_empty()).cloned());
    changes
}

/// Two pods may be on a node, an old one that is ready and a new one that is not available yet.
fn surplus_of_surge<'a>(
    set: &DaemonSet,
    running: &[&'a Arc<Pod>],
    hash: &str,
    now: Timestamp,
) -> impl Iterator<Item = &'a Arc<Pod>> {
    let (mut new, mut old, mut surplus) = (None, None, Vec::new());
    for &pod in running {
        let place = if pod.meta.label(HASH_LABEL) == Some(hash) { &mut new } else { &mut old };
        if place.is_none() {
            *place = Some(pod);
        } else {
            surplus.push(pod);
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!old.is_ready() || new.is_available(set.spec.min_ready_seconds, now))
    {
        surplus.push(old);
    }
    surplus.into_iter()
}

/// The new and the old pod of a node. None: there are more, which `manage` deletes first.
fn versions<'a>(set: &DaemonSet, pods: &'a [Arc<Pod>], hash: &str) -> Option<[Option<&'a Arc<Pod>>; 2]> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !pod.meta.is_deleting()) {
        let place = if is_updated(set, pod, hash) { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some([new, old])
}

/// One step of a rolling update.
pub fn roll(set: &DaemonSet, nodes: &[Arc<Node>], pods: &ByNode, hash: &str, now: Timestamp) -> Changes {
    let wanted: Vec<&Arc<Node>> = nodes.iter().filter(|node| placement(set, node).run).collect();
    let desired = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let mut all: BTreeMap<&str, &[Arc<Pod>]> = wanted.iter().map(|node| (&*node.meta.name, &[][..])).collect();
    all.extend(pods.iter().map(|(name, pods)| (&**name, pods.as_slice())));
    let surge = amount(set, true, desired);
    let mut unavailable = amount(set, false, desired);
    if desired > 0 && unavailable == 0 && surge == 0 {
        unavailable = 1;
    }
    let available = |pod: &Pod| pod.is_available(set.spec.min_ready_seconds, now);
    let nodes: Vec<_> = all.into_iter().map(|(name, pods)| (name, versions(set, pods, hash))).collect();
    if surge == 0 {
        Changes { delete: replace(&nodes, unavailable, available), ..Changes::default() }
    } else {
        let runs = |name: &str| wanted.iter().any(|node| *node.meta.name == *name);
        replace_by_surge(&nodes, surge, desired, available, runs)
    }
}

/// A node with its new and old pod.
type Versions<'a> = (&'a str, Option<[Option<&'a Arc<Pod>>; 2]>);

/// Old pods to delete: those that serve nobody, and others as long as `limit` nodes at most are without an
/// available pod.
fn replace(nodes: &[Versions<'_>], limit: i32, available: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
    let (mut delete, mut candidates, mut unavailable) = (Vec::new(), Vec::new(), 0);
    for (_, versions) in nodes {
        match versions {
            Some([None, Some(old)]) if available(old) => candidates.push((*old).clone()),
            Some([None, Some(old)]) => {
                delete.push((*old).clone());
                unavailable += 1;
            }
            Some([Some(new), None]) if available(new) => {}
            _ => unavailable += 1,
        }
    }
    let left = usize::try_from(limit - unavailable).unwrap_or_default();
    delete.extend(candidates.into_iter().take(left));
    delete
}

/// New pods beside old ones, `limit` at most; an old pod goes when its new one is available.
fn replace_by_surge(
    nodes: &[Versions<'_>],
    limit: i32,
    desired: i32,
    available: impl Fn(&Pod) -> bool,
    runs: impl Fn(&str) -> bool,
) -> Changes {
    let mut changes = Changes::default();
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    let (mut surging, mut serving) = (0, 0);
    for (name, versions) in nodes {
        let Some([new, old]) = versions else {
            surging += 1;
            continue;
        };
        serving += i32::from(old.or(*new).is_some_and(|pod| available(pod)));
        let Some(old) = old else { continue };
        match new {
            None if available(old) && runs(name) => candidates.push(Arc::from(*name)),
            None if available(old) => misplaced.push((*old).clone()),
            None if runs(name) => changes.create.push(Arc::from(*name)),
            Some(new) if !available(new) => surging += 1,
            _ => changes.delete.push((*old).clone()),
        }
    }
    // Where it is to run no more it goes only when others serve.
    changes.delete.extend(misplaced.into_iter().take(usize::try_from(serving - desired).unwrap_or_default()));
    changes.create.extend(candidates.into_iter().take(usize::try_from(limit - surging).unwrap_or_default()));
    changes
}

/// `acted`: this generation was acted on.
pub fn status(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &ByNode,
    hash: &str,
    now: Timestamp,
    acted: bool,
) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: if acted { set.meta.generation } else { set.status.observed_generation },
        collision_count: set.status.collision_count,
        ..DaemonSetStatus::default()
    };
    for node in nodes {
        let first = pods.get(&node.meta.name).and_then(|pods| pods.first());
        if !placement(set, node).run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod.is_ready());
        status.number_available += i32::from(pod.is_available(set.spec.min_ready_seconds, now));
        status.updated_number_scheduled += i32::from(is_updated(set, pod, hash));
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status
}
