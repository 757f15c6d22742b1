//! What a Job says of pods that failed, and of when enough have succeeded. Pure.

use super::indexes::Indexes;
use crate::runtime::views::{ExitCodes, FailureRule, Job, Pod, SuccessRule};

/// What becomes of a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Counts,
    Ignored,
    FailsIndex,
    /// With the reason in words.
    FailsJob(String),
}

/// The first rule that matches decides; without one the failure counts.
pub fn failure(job: &Job, pod: &Pod) -> Failure {
    let rules = job.spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    let mut found = rules.enumerate().filter_map(|(index, rule)| Some((index, rule, matches(rule, pod)?)));
    let Some((index, rule, what)) = found.next() else { return Failure::Counts };
    match &*rule.action {
        "Ignore" => Failure::Ignored,
        "FailIndex" => Failure::FailsIndex,
        "FailJob" => Failure::FailsJob(format!("{what} matching FailJob rule at index {index}")),
        _ => Failure::Counts,
    }
}

/// What of the pod matches, in words.
fn matches(rule: &FailureRule, pod: &Pod) -> Option<String> {
    let name = pod.meta.key();
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = pod.exit_codes.iter().find(|(container, code)| is_meant(codes, container, *code))?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let condition = pod.conditions.iter().find(|condition| {
        rule.on_pod_conditions
            .iter()
            .any(|pattern| pattern.kind == condition.kind && pattern.status == condition.status)
    })?;
    Some(format!("Pod {name} has condition {}", condition.kind))
}

fn is_meant(codes: &ExitCodes, container: &str, code: i32) -> bool {
    let named = codes.container_name.as_ref().is_none_or(|name| **name == *container);
    named
        && code != 0
        && match &*codes.operator {
            "In" => codes.values.contains(&code),
            "NotIn" => !codes.values.contains(&code),
            _ => false,
        }
}

/// The message of the rule that is met.
pub fn success(job: &Job, succeeded: &Indexes) -> Option<String> {
    let rules = &job.spec.success_policy.as_ref()?.rules;
    if succeeded.total() == 0 {
        return None;
    }
    let completions = job.spec.completions.unwrap_or_default();
    let met = |rule: &SuccessRule| {
        let Some(indexes) = &rule.succeeded_indexes else {
            return rule.succeeded_count.is_some_and(|count| succeeded.total() >= count);
        };
        let wanted = Indexes::parse(indexes, completions);
        let there = wanted.shared(succeeded);
        wanted.total() > 0 && (there == wanted.total() || rule.succeeded_count.is_some_and(|count| there >= count))
    };
    rules.iter().position(met).map(|index| format!("Matched rules at index {index}"))
}
