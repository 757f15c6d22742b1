//! The conditions that the kubelet owns; those of others stay as they are.

use super::{Input, Stage, condition};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// In the order in which the kubelet writes them.
pub const OWNED: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

pub struct Lists<'a> {
    pub init: &'a [ContainerStatus],
    pub regular: &'a [ContainerStatus],
}

/// What a condition says: status, reason, message.
struct Answer {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Answer {
    fn yes() -> Self {
        Self { status: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason, message }
    }
}

pub fn compute(input: &Input, phase: &str, lists: &Lists) -> Vec<PodCondition> {
    let containers_ready = containers_ready(input, phase, lists);
    let ready = ready(input, &containers_ready);
    let answers = [sandbox_ready(input), initialized(input, phase, lists), ready, containers_ready, Answer::yes()];
    let mut out: Vec<PodCondition> =
        OWNED.iter().zip(answers).map(|(kind, answer)| with_transition(input, kind, answer)).collect();
    if let Some(verdict) = input.verdict.filter(|verdict| verdict.disruption) {
        let answer = Answer { status: true, reason: "TerminationByKubelet", message: verdict.message.clone() };
        out.push(with_transition(input, "DisruptionTarget", answer));
    }
    let others = input.old.conditions.iter().flatten();
    let kept: Vec<PodCondition> =
        others.filter(|condition| !out.iter().any(|own| own.type_ == condition.type_)).cloned().collect();
    out.extend(kept);
    out
}

fn with_transition(input: &Input, kind: &str, answer: Answer) -> PodCondition {
    let status = if answer.status { "True" } else { "False" };
    let before = condition(input.old, kind);
    let unchanged =
        before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: (!answer.reason.is_empty()).then(|| answer.reason.to_owned()),
        message: (!answer.message.is_empty()).then_some(answer.message),
        last_probe_time: None,
        last_transition_time: unchanged.or(Some(Time(input.now))),
        observed_generation: input.pod.metadata.generation,
    }
}

fn sandbox_ready(input: &Input) -> Answer {
    let host = pod::uses_host_network(input.pod);
    let ready = input.view.sandboxes.first().is_some_and(|sandbox| sandbox.ready && (host || !sandbox.ips.is_empty()));
    if ready { Answer::yes() } else { Answer::no("", String::new()) }
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn initialized(input: &Input, phase: &str, lists: &Lists) -> Answer {
    if phase == "Succeeded" {
        return Answer { status: true, reason: "PodCompleted", message: String::new() };
    }
    let began = lists.regular.iter().any(|status| {
        let state = status.state.clone().unwrap_or_default();
        state.running.is_some() || status.container_id.is_some()
    });
    let mut incomplete = Vec::new();
    for container in pod::init_containers(input.pod) {
        let status = lists.init.iter().find(|status| status.name == container.name);
        let done = status
            .is_some_and(|status| if pod::is_sidecar(container) { status.started == Some(true) } else { status.ready });
        if !done && !(began && (!pod::is_sidecar(container) || input.stage != Stage::Running)) {
            incomplete.push(container.name.as_str());
        }
    }
    if incomplete.is_empty() {
        return Answer::yes();
    }
    let message = format!("containers with incomplete status: {}", names(&incomplete));
    Answer::no("ContainersNotInitialized", message)
}

fn containers_ready(input: &Input, phase: &str, lists: &Lists) -> Answer {
    match phase {
        "Succeeded" => return Answer::no("PodCompleted", String::new()),
        "Failed" => return Answer::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = pod::init_containers(input.pod).iter().filter(|container| pod::is_sidecar(container));
    let mut unready: Vec<&str> = Vec::new();
    for container in sidecars.chain(pod::regular_containers(input.pod)) {
        let mut statuses = lists.init.iter().chain(lists.regular);
        let status = statuses.find(|status| status.name == container.name);
        if !status.is_some_and(|status| status.ready) {
            unready.push(&container.name);
        }
    }
    if unready.is_empty() {
        return Answer::yes();
    }
    Answer::no("ContainersNotReady", format!("containers with unready status: {}", names(&unready)))
}

fn ready(input: &Input, containers_ready: &Answer) -> Answer {
    if !containers_ready.status {
        return Answer::no(containers_ready.reason, containers_ready.message.clone());
    }
    let spec = pod::spec(input.pod);
    let api = input.pod.status.as_ref();
    let mut messages = Vec::new();
    for gate in spec.readiness_gates.as_deref().unwrap_or_default() {
        let kind = &gate.condition_type;
        match api.and_then(|status| condition(status, kind)) {
            None => messages.push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(condition) if condition.status != "True" => messages
                .push(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() { Answer::yes() } else { Answer::no("ReadinessGatesNotReady", messages.join(", ")) }
}
