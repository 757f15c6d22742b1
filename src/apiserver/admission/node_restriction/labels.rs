//! Labels that a node may not give itself.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Labels of Kubernetes's own domains that kubelets set.
const KUBELET_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

const KUBELET_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// The changed labels that are not a node's to change, sorted.
pub fn forbidden(node: &Value, old: &Value) -> Vec<String> {
    let none = Map::new();
    let labels = |node: &'_ Value| -> Map<String, Value> {
        node.pointer("/metadata/labels").and_then(Value::as_object).unwrap_or(&none).clone()
    };
    let (new, old) = (labels(node), labels(old));
    let changed: BTreeSet<&String> =
        new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).collect();
    changed.into_iter().filter(|key| is_forbidden(key)).cloned().collect()
}

fn within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|head| head.ends_with('.'))
}

/// Whether only others may give a node this label.
pub fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let kubernetes = within(domain, "kubernetes.io") || within(domain, "k8s.io");
    let kubelet = KUBELET_LABELS.contains(&label) || KUBELET_DOMAINS.iter().any(|own| within(domain, own));
    within(domain, RESTRICTED) || kubernetes && !kubelet
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_nodes_own_labels_are_its_to_change() {
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let old = node(json!({
            "kubernetes.io/hostname": "a",
            "node-role.kubernetes.io/control-plane": "",
            "custom": "x",
        }));
        let new = node(json!({
            "kubernetes.io/hostname": "b",
            "node.kubernetes.io/anything": "1",
            "x.kubelet.kubernetes.io/y": "1",
            "node-restriction.kubernetes.io/safe": "1",
            "x.node-restriction.kubernetes.io/safe": "1",
            "example.com/a": "1",
            "evil-kubernetes.io/a": "1",
            "custom": "y",
            "a.k8s.io/b": "1",
        }));
        assert_eq!(
            forbidden(&new, &old),
            [
                "a.k8s.io/b",
                "node-restriction.kubernetes.io/safe",
                "node-role.kubernetes.io/control-plane",
                "x.node-restriction.kubernetes.io/safe"
            ]
        );
    }
}
