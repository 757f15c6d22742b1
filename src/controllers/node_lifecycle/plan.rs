//! What a node's conditions and taints should be: pure.

use crate::runtime::Condition;
use crate::runtime::views::{Node, Taint};
use jiff::Timestamp;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that a silent kubelet can no longer vouch for.
const VOUCHED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Conditions that are bad news when true, and the taints that say so.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

const MANAGED: &[&str] = &[
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
];

/// The conditions of a node whose kubelet is silent; None: they say so already.
pub fn silent_conditions(node: &Node, now: Timestamp) -> Option<Vec<Condition>> {
    let mut conditions = node.conditions.clone();
    for kind in VOUCHED {
        match conditions.iter_mut().find(|condition| *condition.kind == **kind) {
            Some(condition) if &*condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = "NodeStatusUnknown".into();
                condition.message = "Kubelet stopped posting node status.".into();
                condition.last_transition_time = Some(now);
            }
            None => conditions.push(Condition {
                kind: (*kind).into(),
                status: "Unknown".into(),
                reason: "NodeStatusNeverUpdated".into(),
                message: "Kubelet never posted node status.".into(),
                last_transition_time: Some(now),
                last_heartbeat_time: node.meta.creation_timestamp,
                ..Condition::default()
            }),
        }
    }
    (conditions != node.conditions).then_some(conditions)
}

/// Whether pods may be driven off a node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Yes.
    Allowed,
    /// Not yet: a NoExecute taint that is there stays, none is added.
    Later,
    /// No: every node is lost, so it is more likely that we are.
    Stopped,
}

/// The taints of a node; None: they are right.
pub fn taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let status = |kind: &str| Condition::find(&node.conditions, kind).map(|condition| &*condition.status);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let readiness = match status("Ready") {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    wanted.extend(readiness.map(|key| (key, "NoSchedule")));
    wanted
        .extend(PRESSURES.iter().filter(|(kind, _)| status(kind) == Some("True")).map(|(_, key)| (*key, "NoSchedule")));
    if node.unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    if let Some(key) = readiness {
        // From not ready to unreachable or back, the pods' time goes on.
        let has_any = node.has_taint(NOT_READY, "NoExecute") || node.has_taint(UNREACHABLE, "NoExecute");
        if eviction == Eviction::Allowed || (eviction == Eviction::Later && has_any) {
            wanted.push((key, "NoExecute"));
        }
    }
    let is_managed = |taint: &Taint| {
        MANAGED.contains(&&*taint.key)
            && (&*taint.effect == "NoSchedule"
                || (&*taint.effect == "NoExecute" && (*taint.key == *NOT_READY || *taint.key == *UNREACHABLE)))
    };
    let mut taints: Vec<Taint> = node
        .taints
        .iter()
        .filter(|taint| !is_managed(taint) || wanted.contains(&(&taint.key, &taint.effect)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| *taint.key == *key && *taint.effect == *effect) {
            taints.push(Taint { key: key.into(), effect: effect.into(), time_added: Some(now), value: "".into() });
        }
    }
    (taints != node.taints).then_some(taints)
}

/// Whether evictions are on, from how many nodes are ready. None: nodes are lost in such numbers
/// that in a small cluster nobody is evicted.
pub fn zone_allows(ready: usize, not_ready: usize) -> Zone {
    let total = ready + not_ready;
    if not_ready > 0 && ready == 0 {
        Zone::FullDisruption
    } else if not_ready > 2 && not_ready as f64 / total as f64 >= 0.55 {
        Zone::PartialDisruption { large: total > 50 }
    } else {
        Zone::Normal
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Normal,
    PartialDisruption { large: bool },
    FullDisruption,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;
    use serde_json::{Value, json};

    fn node(ready: &str, taints: Value) -> Node {
        let node = json!({
            "metadata": { "name": "n1" },
            "spec": { "taints": taints },
            "status": { "conditions": [{ "type": "Ready", "status": ready }, { "type": "DiskPressure", "status": "False" }] },
        });
        Node::project(serde_json::from_value(node).expect("a node"))
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    #[test]
    fn a_silent_kubelet_makes_conditions_unknown_once() {
        let mut node = node("True", json!([]));
        let conditions = silent_conditions(&node, now()).expect("changes");
        let ready = Condition::find(&conditions, "Ready").expect("is there");
        assert_eq!((&*ready.status, &*ready.reason), ("Unknown", "NodeStatusUnknown"));
        assert_eq!(&*ready.message, "Kubelet stopped posting node status.");
        let memory = Condition::find(&conditions, "MemoryPressure").expect("is there");
        assert_eq!(&*memory.reason, "NodeStatusNeverUpdated");
        node.conditions = conditions;
        assert_eq!(silent_conditions(&node, now()), None);
    }

    #[test]
    fn taints_follow_conditions() {
        let own = json!([{ "key": "mine", "effect": "NoExecute" }]);
        let mut lost = node("Unknown", own);
        let taints = super::taints(&lost, Eviction::Allowed, now()).expect("changes");
        assert_eq!(
            keys(&taints),
            ["mine:NoExecute", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
        );
        lost.taints = taints;
        assert_eq!(super::taints(&lost, Eviction::Allowed, now()), None);
        // It comes back.
        lost.conditions[0].status = "True".into();
        let taints = super::taints(&lost, Eviction::Allowed, now()).expect("changes");
        assert_eq!(keys(&taints), ["mine:NoExecute"]);
    }

    #[test]
    fn nobody_is_driven_off_when_all_nodes_are_lost() {
        let mut lost = node("Unknown", json!([]));
        let taints = super::taints(&lost, Eviction::Stopped, now()).expect("changes");
        assert_eq!(keys(&taints), ["node.kubernetes.io/unreachable:NoSchedule"]);
        lost.taints = super::taints(&lost, Eviction::Allowed, now()).expect("changes");
        assert_eq!(super::taints(&lost, Eviction::Later, now()), None, "what is there stays");
        assert!(super::taints(&lost, Eviction::Stopped, now()).is_some(), "and goes when all are lost");
    }

    #[test]
    fn zones() {
        assert_eq!(zone_allows(1, 0), Zone::Normal);
        assert_eq!(zone_allows(0, 1), Zone::FullDisruption);
        assert_eq!(zone_allows(1, 1), Zone::Normal);
        assert_eq!(zone_allows(2, 3), Zone::PartialDisruption { large: false });
        assert_eq!(zone_allows(20, 40), Zone::PartialDisruption { large: true });
    }
}
