//! Matching node selectors and required node affinity as pods carry them.

use super::views::{Node, Pod};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use std::collections::BTreeMap;

/// One requirement of a selector on labels.
pub fn requirement(key: &str, operator: &str, values: &[String], labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(key);
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => {
            let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
            match (number(value), number(values.first())) {
                (Some(value), Some(bound)) => {
                    (operator == "Gt" && value > bound) || (operator == "Lt" && value < bound)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Terms are alternatives; a term without requirements matches nothing.
pub fn node_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by = |one: &NodeSelectorRequirement, labels: &BTreeMap<String, String>| {
        requirement(&one.key, &one.operator, one.values.as_deref().unwrap_or_default(), labels)
    };
    let name = BTreeMap::from([("metadata.name".to_owned(), node.meta.name.to_string())]);
    expressions.iter().all(|one| by(one, &node.meta.labels)) && fields.iter().all(|one| by(one, &name))
}

/// `spec.nodeSelector` and the required node affinity.
pub fn pod_fits_node(pod: &Pod, node: &Node) -> bool {
    if !pod.node_selector.iter().all(|(key, value)| node.meta.labels.get(key) == Some(value)) {
        return false;
    }
    required_of(pod).is_none_or(|required| node_matches(required, node))
}

/// The node affinity that must hold.
fn required_of(pod: &Pod) -> Option<&NodeSelector> {
    pod.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// The node a pod is on, or the only one that its affinity names (`metadata.name In [node]`).
pub fn target_node(pod: &Pod) -> Option<&str> {
    if !pod.node.is_empty() {
        return Some(&pod.node);
    }
    let fields = required_of(pod)?.node_selector_terms.iter().filter_map(|term| term.match_fields.as_ref()).flatten();
    let mut named = fields.filter(|one| one.key == "metadata.name" && one.operator == "In");
    match named.next()?.values.as_deref() {
        Some([name]) => Some(name),
        _ => None,
    }
}
