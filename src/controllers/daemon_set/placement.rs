//! On which nodes a DaemonSet's pods belong, and the pod for one node: pure.

use crate::client::kinds;
use crate::controllers::history::HASH_LABEL;
use crate::controllers::pod_control::pod_from_template;
use crate::runtime::node_selector::pod_fits_node;
use crate::runtime::views::{DaemonSet, Node, Pod, Taint};
use serde_json::{Map, Value, json};

/// The annotation of a set and, in its short form, the label of a pod, by which versions were told
/// apart before there were revisions.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// What every pod of a DaemonSet tolerates: it runs on nodes in trouble too.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And this one on the node's own network.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

fn tolerated(host_network: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    TOLERATED.iter().copied().chain(host_network.then_some(TOLERATED_ON_HOST))
}

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// A pod is to be there.
    pub run: bool,
    /// A pod that is there may stay.
    pub keep: bool,
}

pub fn placement(set: &DaemonSet, node: &Node) -> Placement {
    let pod = &*set.pod;
    let named = pod.node.is_empty() || pod.node == node.meta.name;
    if !named || !pod_fits_node(pod, node) {
        return Placement { run: false, keep: false };
    }
    let keep = fits(pod, node, &["NoExecute"]);
    Placement { run: keep && fits(pod, node, &["NoSchedule"]), keep }
}

/// Whether all taints with these effects are tolerated.
fn fits(pod: &Pod, node: &Node, effects: &[&str]) -> bool {
    let tolerates = |taint: &Taint| {
        tolerated(pod.host_network).any(|(key, effect)| *taint.key == *key && *taint.effect == *effect)
            || pod.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    };
    node.taints.iter().filter(|taint| effects.contains(&&*taint.effect)).all(tolerates)
}

/// Whether a pod is of the current version.
pub fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let same = |label: &str, value: Option<&str>| value.is_some() && pod.meta.label(label) == value;
    same(HASH_LABEL, (!hash.is_empty()).then_some(hash)) || same(GENERATION_LABEL, generation(set))
}

fn generation(set: &DaemonSet) -> Option<&str> {
    set.meta.annotation(TEMPLATE_GENERATION).filter(|generation| generation.parse::<i64>().is_ok())
}

/// What the pods of all nodes have in common.
pub fn pod(set: &DaemonSet, hash: &str) -> Value {
    let mut pod = pod_from_template(&kinds::DAEMON_SETS, &set.meta, &set.spec.template);
    let labels = &mut pod["metadata"]["labels"];
    if let Some(generation) = generation(set) {
        labels[GENERATION_LABEL] = generation.into();
    }
    labels[HASH_LABEL] = hash.into();
    let spec = &mut pod["spec"];
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in tolerated(set.pod.host_network) {
        let toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
        let same = |one: &&mut Value| {
            one["key"] == key
                && one["effect"] == effect
                && one["operator"] == "Exists"
                && one["value"].as_str().unwrap_or_default().is_empty()
        };
        match tolerations.iter_mut().find(same) {
            // One with a limit in time loses it.
            Some(one) => *one = toleration,
            None => tolerations.push(toleration),
        }
    }
    spec["tolerations"] = tolerations.into();
    pod
}

/// The same for one node: its affinity lets the scheduler bind it nowhere else.
pub fn pod_on(mut pod: Value, node: &str) -> Value {
    fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
        let child = &mut parent[field];
        if !child.is_object() {
            *child = Map::new().into();
        }
        child
    }
    let affinity = object(object(&mut pod["spec"], "affinity"), "nodeAffinity");
    let required = object(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
    required["nodeSelectorTerms"] =
        json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }]);
    pod
}
