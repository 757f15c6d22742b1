//! The row of a pod in a Table: how many containers are ready, and why not more.

use super::pod_spec::containers::is_sidecar;
use crate::api::Fields;
use crate::resources::cells::{self, or_none};
use serde_json::Value;

pub fn cells(pod: &Value, now: &cells::Clock) -> Vec<Value> {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let summary = summary(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, cells::since(time, now)),
        _ => summary.restarts.to_string(),
    };
    let address = status.list_at("podIPs").first().map(|address| address.str_at("ip")).unwrap_or_default();
    let gates = spec.list_at("readinessGates");
    let open = gates.iter().filter(|gate| has_condition(status, gate.str_at("conditionType"), "True")).count();
    let gates = if gates.is_empty() { cells::NONE.to_owned() } else { format!("{open}/{}", gates.len()) };
    vec![
        cells::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        cells::age(pod, now),
        or_none(address).into(),
        or_none(spec.str_at("nodeName")).into(),
        or_none(status.str_at("nominatedNodeName")).into(),
        gates.into(),
    ]
}

struct Summary<'a> {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<&'a str>,
    reason: String,
}

fn has_condition(status: &Value, kind: &str, value: &str) -> bool {
    let mut conditions = status.list_at("conditions").iter();
    conditions.any(|condition| condition.str_at("type") == kind && condition.str_at("status") == value)
}

fn summary(pod: &Value) -> Summary<'_> {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let sidecars: Vec<&str> = spec
        .list_at("initContainers")
        .iter()
        .filter(|container| is_sidecar(container))
        .map(|container| container.str_at("name"))
        .collect();
    let phase = status.str_at("phase");
    let mut summary = Summary {
        ready: 0,
        total: spec.list_at("containers").len() + sidecars.len(),
        restarts: 0,
        last_restart: None,
        reason: [status.str_at("reason"), phase]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned(),
    };
    let gated = |condition: &&Value| {
        condition.str_at("type") == "PodScheduled" && condition.str_at("reason") == "SchedulingGated"
    };
    if status.list_at("conditions").iter().any(|condition| gated(&condition)) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = init_containers(pod, &sidecars, &mut summary);
    if !initializing || has_condition(status, "Initialized", "True") {
        containers(pod, &sidecars, &mut summary);
    }
    if pod.at("metadata").has("deletionTimestamp") {
        if status.str_at("reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !["Failed", "Succeeded"].contains(&phase) {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Counts a container's restarts; times are RFC 3339 in UTC, so they compare as text.
fn count_restarts<'a>(container: &'a Value, restarts: &mut i64, last: &mut Option<&'a str>) {
    *restarts += container.int_at("restartCount");
    let finished = container.at("lastState").at("terminated").optional_str("finishedAt");
    *last = (*last).max(finished);
}

/// Whether the pod is still at its init containers.
fn init_containers<'a>(pod: &'a Value, sidecars: &[&str], summary: &mut Summary<'a>) -> bool {
    let count = pod.at("spec").list_at("initContainers").len();
    for (index, container) in pod.at("status").list_at("initContainerStatuses").iter().enumerate() {
        count_restarts(container, &mut summary.restarts, &mut summary.last_restart);
        let state = container.at("state");
        let waiting = state.at("waiting").str_at("reason");
        let terminated = state.get_set("terminated");
        if terminated.is_some_and(|end| end.int_at("exitCode") == 0) {
            continue;
        }
        if sidecars.contains(&container.str_at("name")) && container.bool_at("started") {
            summary.ready += usize::from(container.bool_at("ready"));
            continue;
        }
        summary.reason = match terminated {
            Some(end) => format!("Init:{}", end_reason(end)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{count}"),
        };
        return true;
    }
    false
}

fn end_reason(terminated: &Value) -> String {
    match (terminated.str_at("reason"), terminated.int_at("signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.int_at("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers<'a>(pod: &'a Value, sidecars: &[&str], summary: &mut Summary<'a>) {
    let status = pod.at("status");
    (summary.restarts, summary.last_restart) = (0, None);
    for container in status.list_at("initContainerStatuses") {
        if sidecars.contains(&container.str_at("name")) {
            count_restarts(container, &mut summary.restarts, &mut summary.last_restart);
        }
    }
    let (mut running, mut failure) = (false, None);
    for container in status.list_at("containerStatuses").iter().rev() {
        count_restarts(container, &mut summary.restarts, &mut summary.last_restart);
        let state = container.at("state");
        let waiting = state.at("waiting").str_at("reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(end) = state.get_set("terminated") {
            summary.reason = end_reason(end);
            if end.int_at("exitCode") != 0 {
                failure = Some(summary.reason.clone());
            }
        } else if container.bool_at("ready") && state.has("running") {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if running && has_condition(status, "Ready", "True") {
            summary.reason = "Running".to_owned();
        } else if let Some(failure) = failure {
            summary.reason = failure;
        } else if running {
            summary.reason = "NotReady".to_owned();
        }
    }
}
