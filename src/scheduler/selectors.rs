//! Matching label and node selectors as pods carry them.

use crate::runtime::LabelSelector;
use crate::runtime::views::Node;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use std::collections::BTreeMap;

/// A missing selector matches nothing, an empty one everything.
pub fn matches(selector: Option<&meta::LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let named = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    named
        && selector.match_expressions.iter().flatten().all(|expression| {
            requirement(&expression.key, &expression.operator, expression.values.as_deref().unwrap_or_default(), labels)
        })
}

fn requirement(key: &str, operator: &str, values: &[String], labels: &BTreeMap<String, String>) -> bool {
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
pub fn pod_fits_node(pod: &crate::runtime::views::Pod, node: &Node) -> bool {
    if !pod.node_selector.iter().all(|(key, value)| node.meta.labels.get(key) == Some(value)) {
        return false;
    }
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| node_matches(required, node))
}

/// Several selectors that must all match.
#[derive(Clone, Debug, Default)]
pub struct AllOf {
    pub labels: BTreeMap<String, String>,
    pub selectors: Vec<LabelSelector>,
}

impl AllOf {
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.selectors.is_empty()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.selectors.iter().all(|selector| selector.matches(labels))
    }
}
