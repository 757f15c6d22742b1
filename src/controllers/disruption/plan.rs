//! What a budget's status says: pure.

use crate::api::time::seconds;
use crate::resources::policy::pod_disruption_budget::{CONDITION, SYNC_FAILED, set_condition, verdict};
use crate::runtime::Condition;
use crate::runtime::views::{DisruptionBudgetStatus, IntOrString, Pod, PodDisruptionBudget};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long an eviction that was allowed may take to show.
pub const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// How many pods there should be: those that are there, or what their owners ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Expect {
    Pods,
    Scale,
}

pub fn expect(budget: &PodDisruptionBudget) -> Expect {
    let share = matches!(budget.spec.min_available, Some(IntOrString::Text(_)));
    if budget.spec.max_unavailable.is_some() || share { Expect::Scale } else { Expect::Pods }
}

/// Of so many expected pods. Err: the amount is neither a number nor a share.
pub fn desired_healthy(budget: &PodDisruptionBudget, expected: i32) -> anyhow::Result<i32> {
    let amount = |amount: &IntOrString| {
        let scaled = amount.scaled(expected, true);
        scaled.ok_or_else(|| anyhow::anyhow!("invalid value for IntOrString: {amount:?}"))
    };
    match (&budget.spec.max_unavailable, &budget.spec.min_available) {
        (Some(most), _) => Ok((expected - amount(most)?).max(0)),
        (None, Some(least)) => amount(least),
        (None, None) => Ok(0),
    }
}

/// Evictions that are under way, those that did not come to pass, and when the next one is late.
#[derive(Debug, Default, PartialEq)]
pub struct Disrupted {
    pub under_way: BTreeMap<String, Timestamp>,
    pub late: Vec<Arc<str>>,
    pub next: Option<Timestamp>,
}

pub fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> Disrupted {
    let mut disrupted = Disrupted::default();
    for pod in pods.iter().filter(|pod| !pod.meta.is_deleting()) {
        let Some(since) = budget.status.disrupted_pods.get(&*pod.meta.name) else { continue };
        let due = *since + DELETION_TIMEOUT;
        if due < now {
            disrupted.late.push(pod.meta.name.clone());
        } else {
            disrupted.under_way.insert(pod.meta.name.to_string(), *since);
            disrupted.next = Some(disrupted.next.map_or(due, |next| next.min(due)));
        }
    }
    disrupted
}

pub fn current_healthy(pods: &[Arc<Pod>], under_way: &BTreeMap<String, Timestamp>) -> i32 {
    let healthy =
        |pod: &&Arc<Pod>| !pod.meta.is_deleting() && !under_way.contains_key(&*pod.meta.name) && pod.is_ready();
    i32::try_from(pods.iter().filter(healthy).count()).unwrap_or(i32::MAX)
}

/// But for its conditions.
pub fn status(
    budget: &PodDisruptionBudget,
    expected: i32,
    desired: i32,
    current: i32,
    under_way: BTreeMap<String, Timestamp>,
) -> DisruptionBudgetStatus {
    DisruptionBudgetStatus {
        observed_generation: budget.meta.generation,
        disrupted_pods: under_way,
        // A budget without pods allows none: the first ones may come before the next look.
        disruptions_allowed: if expected <= 0 { 0 } else { (current - desired).max(0) },
        current_healthy: current,
        desired_healthy: desired,
        expected_pods: expected,
        conditions: budget.status.conditions.clone(),
    }
}

pub fn is_current(budget: &PodDisruptionBudget, next: &DisruptionBudgetStatus) -> bool {
    let (state, reason) = verdict(next.disruptions_allowed.into());
    budget.status == *next
        && Condition::find(&next.conditions, CONDITION)
            .is_some_and(|condition| &*condition.status == state && &*condition.reason == reason)
}

/// The status as it is written over `live`, with its condition.
pub fn write(live: &mut Value, next: &DisruptionBudgetStatus, now: Timestamp) {
    let status = &mut live["status"];
    status["observedGeneration"] = next.observed_generation.into();
    for (field, value) in [
        ("disruptionsAllowed", next.disruptions_allowed),
        ("currentHealthy", next.current_healthy),
        ("desiredHealthy", next.desired_healthy),
        ("expectedPods", next.expected_pods),
    ] {
        status[field] = value.into();
    }
    let pods: Map<String, Value> =
        next.disrupted_pods.iter().map(|(name, since)| (name.clone(), seconds(*since).into())).collect();
    status["disruptedPods"] = pods.into();
    set_condition(status, verdict(next.disruptions_allowed.into()), "", now);
}

/// Nothing is allowed when nothing is known.
pub fn write_failure(live: &mut Value, message: &str, now: Timestamp) {
    let status = &mut live["status"];
    status["disruptionsAllowed"] = 0.into();
    set_condition(status, ("False", SYNC_FAILED), message, now);
}

/// As Go writes a selector.
pub fn go_text(selector: Option<&crate::runtime::LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels: String = selector.match_labels.iter().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions: String = selector
        .match_expressions
        .iter()
        .map(|one| {
            let values = one.values.join(" ");
            format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Projection;
    use serde_json::json;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let object = json!({ "metadata": { "name": "web", "generation": 3 }, "spec": spec, "status": status });
        serde_json::from_value(object).expect("a budget")
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let pod = json!({ "metadata": { "name": name }, "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": if ready { "True" } else { "False" } }] } });
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn what_must_stay_healthy() {
        let check = |spec: Value, how: Expect, expected: i32, desired: i32| {
            let budget = budget(spec, json!({}));
            assert_eq!(expect(&budget), how);
            assert_eq!(desired_healthy(&budget, expected).expect("an amount"), desired);
        };
        check(json!({ "minAvailable": 2 }), Expect::Pods, 5, 2);
        check(json!({ "minAvailable": "50%" }), Expect::Scale, 5, 3);
        check(json!({ "maxUnavailable": 1 }), Expect::Scale, 5, 4);
        check(json!({ "maxUnavailable": "30%" }), Expect::Scale, 5, 3);
        check(json!({ "maxUnavailable": 9 }), Expect::Scale, 5, 0);
        assert!(desired_healthy(&budget(json!({ "minAvailable": "few" }), json!({})), 5).is_err());
    }

    #[test]
    fn an_eviction_counts_until_it_shows_or_is_late() {
        let disrupted_pods = json!({ "a": "2026-01-01T00:00:00Z", "b": "2026-01-01T00:01:30Z" });
        let budget = budget(json!({ "minAvailable": 1 }), json!({ "disruptedPods": disrupted_pods }));
        let pods = [pod("a", true), pod("b", true), pod("c", true), pod("d", false)];
        let found = disrupted(&budget, &pods, at("2026-01-01T00:02:30Z"));
        assert_eq!(found.late, ["a".into()]);
        assert_eq!(found.under_way.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(found.next, Some(at("2026-01-01T00:03:30Z")));
        assert_eq!(current_healthy(&pods, &found.under_way), 2);
    }

    #[test]
    fn a_written_status_is_current() {
        let mut live = json!({ "metadata": { "name": "web", "generation": 3 }, "spec": { "minAvailable": 1 } });
        let read = |live: &Value| -> PodDisruptionBudget { serde_json::from_value(live.clone()).expect("a budget") };
        let plan = |live: &Value, current: i32| status(&read(live), 3, 1, current, BTreeMap::new());
        let (first, second) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:05:00Z"));
        assert!(!is_current(&read(&live), &plan(&live, 3)));
        let next = plan(&live, 3);
        write(&mut live, &next, first);
        assert_eq!(live["status"]["disruptionsAllowed"], 2);
        assert_eq!(live["status"]["conditions"][0]["reason"], "SufficientPods");
        assert!(is_current(&read(&live), &plan(&live, 3)));
        let next = plan(&live, 2);
        write(&mut live, &next, second);
        assert_eq!(live["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let next = plan(&live, 1);
        write(&mut live, &next, second);
        let condition = &live["status"]["conditions"][0];
        assert_eq!((&condition["reason"], &condition["status"]), (&json!("InsufficientPods"), &json!("False")));
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:05:00Z");
        write_failure(&mut live, "no owner", second);
        assert_eq!(live["status"]["conditions"][0]["message"], "no owner");
        assert!(!is_current(&read(&live), &plan(&live, 2)));
        // No pods: nothing is allowed.
        assert_eq!(status(&read(&live), 0, 0, 0, BTreeMap::new()).disruptions_allowed, 0);
    }

    #[test]
    fn selectors_are_shown_as_go_does() {
        let selector = json!({ "matchLabels": { "app": "web" },
                               "matchExpressions": [{ "key": "x", "operator": "In", "values": ["a", "b"] }] });
        let selector = serde_json::from_value(selector).expect("a selector");
        assert_eq!(
            go_text(Some(&selector)),
            "&LabelSelector{MatchLabels:map[string]string{app: web,},\
             MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:x,Operator:In,Values:[a b],},},}"
        );
    }
}
