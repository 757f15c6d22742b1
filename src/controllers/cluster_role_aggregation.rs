//! Aggregated ClusterRoles: rules are the union of those that the selectors match.
//! Source: `pkg/controller/clusterroleaggregation`.

use super::context::{Context, Running};
use super::seen::modify;
use crate::client::{Objects, kinds};
use crate::runtime::{Action, Controller, LabelSelector, Meta, ObjectKey, Projection, Store, WorkQueue, whole};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

const NAME: &str = "clusterrole-aggregation-controller";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterRole {
    #[serde(rename = "metadata")]
    meta: Meta,
    rules: Option<Vec<Value>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<LabelSelector>,
}

whole!(ClusterRole, kinds::CLUSTER_ROLES);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let roles = context.informers.of::<ClusterRole>();
    roles.on_change({
        let (queue, roles) = (queue.clone(), Arc::downgrade(&roles));
        move |_| {
            let Some(roles) = roles.upgrade() else { return };
            roles.all().iter().filter(|role| role.aggregation_rule.is_some()).for_each(|role| queue.add(role.key()));
        }
    });
    let controller = Aggregation { objects: context.objects(NAME), roles: roles.clone() };
    Running::new(controller, queue, 1, [roles.until_synced()], move || roles.keys())
}

/// The union of the rules of the roles that a role aggregates, in the order of their names.
fn aggregated(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<Value>> {
    let selectors = &role.aggregation_rule.as_ref()?.cluster_role_selectors;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let mut matching: Vec<&Arc<ClusterRole>> = all
            .iter()
            .filter(|other| other.meta.name != role.meta.name && selector.matches(&other.meta.labels))
            .collect();
        matching.sort_by(|one, two| one.meta.name.cmp(&two.meta.name));
        for rule in matching.iter().flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

struct Aggregation {
    objects: Objects,
    roles: Arc<Store<ClusterRole>>,
}

#[async_trait]
impl Controller for Aggregation {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(role) = self.roles.get(key) else { return Ok(Action::Done) };
        let Some(rules) = aggregated(&role, &self.roles.all()) else { return Ok(Action::Done) };
        if role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(Action::Done);
        }
        let rules = Value::from(rules);
        let change = |live: &mut Value| std::mem::replace(&mut live["rules"], rules.clone()) != rules;
        modify(&self.objects, &kinds::CLUSTER_ROLES, &role.meta, "", change).await?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_joined_once_each() {
        let role = |name: &str, labels: Value, rules: Value| -> Arc<ClusterRole> {
            let role = json!({ "metadata": { "name": name, "labels": labels }, "rules": rules });
            Arc::new(serde_json::from_value(role).expect("a role"))
        };
        let all = [
            role("b", json!({ "to": "view" }), json!([{ "verbs": ["get"] }, { "verbs": ["list"] }])),
            role("a", json!({ "to": "view" }), json!([{ "verbs": ["list"] }])),
            role("c", json!({}), json!([{ "verbs": ["*"] }])),
        ];
        let view: ClusterRole = serde_json::from_value(json!({
            "metadata": { "name": "view" },
            "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "to": "view" } }] },
        }))
        .expect("a role");
        assert_eq!(aggregated(&view, &all), Some(vec![json!({ "verbs": ["list"] }), json!({ "verbs": ["get"] })]));
        assert_eq!(aggregated(&all[2], &all), None);
    }
}
