//! Matching label selectors as pods carry them.

use crate::runtime::LabelSelector;
use crate::runtime::node_selector::requirement;
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
