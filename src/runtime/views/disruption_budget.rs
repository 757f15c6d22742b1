//! PodDisruptionBudgets.

use super::{IntOrString, nullable};
use crate::client::kinds;
use crate::runtime::{Condition, LabelSelector, Meta, whole};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: DisruptionBudgetSpec,
    pub status: DisruptionBudgetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionBudgetSpec {
    pub min_available: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
    /// None: no pod; empty: all of the namespace.
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionBudgetStatus {
    pub observed_generation: i64,
    /// Pods whose eviction was allowed, and when, until they are seen to go.
    #[serde(deserialize_with = "nullable")]
    pub disrupted_pods: BTreeMap<String, Timestamp>,
    pub disruptions_allowed: i32,
    pub current_healthy: i32,
    pub desired_healthy: i32,
    pub expected_pods: i32,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

impl PodDisruptionBudget {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.spec.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

whole!(PodDisruptionBudget, kinds::POD_DISRUPTION_BUDGETS);
