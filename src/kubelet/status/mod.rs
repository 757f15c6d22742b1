//! The status of a pod: pure, from its spec, the runtime's view and what probes and starts say.
//!
//! Entry: [`compute`]. Phase and conditions are in [`phase`] and [`conditions`], one container's
//! part in [`containers`]; [`patch`] makes the smallest strategic merge patch between two.

mod conditions;
mod containers;
pub mod patch;
mod phase;

use super::pod;
use super::resources;
use super::view::PodView;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The scheme of container ids in the API.
pub const CONTAINER_ID_SCHEME: &str = "orch://";

/// Why a container does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A verdict on the whole pod that its containers do not tell: evicted, past its deadline, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
    /// A condition of type DisruptionTarget goes with it.
    pub disruption: bool,
    /// The node never took the pod: nothing of it ran here.
    pub rejected: bool,
}

/// How far the pod's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Terminating,
    /// Nothing of it runs and nothing will.
    Terminated,
}

pub struct Input<'a> {
    pub pod: &'a Pod,
    pub view: &'a PodView,
    /// What was published last; of the API where this process published none.
    pub old: &'a PodStatus,
    /// By container name: what the last start of it met.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Ids of containers whose postStart hook has not returned.
    pub starting: &'a HashSet<String>,
    /// By container name: its next run is about to start, and until then its status stays.
    pub held: &'a HashSet<String>,
    /// By container id: passed its startup probe; absent: it has none.
    pub started: &'a HashMap<String, bool>,
    /// By container id: passes its readiness probe; absent: it has none.
    pub ready: &'a HashMap<String, bool>,
    /// By container id: what it left as its termination message.
    pub messages: &'a HashMap<String, String>,
    pub verdict: Option<&'a Verdict>,
    pub stage: Stage,
    pub host_ips: &'a [String],
    pub now: Timestamp,
}

pub fn compute(input: &Input) -> PodStatus {
    let pod = input.pod;
    if let Some(verdict) = input.verdict.filter(|verdict| verdict.rejected) {
        return failed(pod, verdict, input.now);
    }
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        start_time: input.old.start_time.clone().or(Some(Time(input.now))),
        qos_class: Some(resources::qos_class(pod).as_str().to_owned()),
        resource_claim_statuses: input.old.resource_claim_statuses.clone(),
        nominated_node_name: input.old.nominated_node_name.clone(),
        resize: input.old.resize.clone(),
        ..PodStatus::default()
    };
    let init = containers::init(input);
    let regular = containers::regular(input);
    let ephemeral = containers::ephemeral(input);
    addresses(input, &mut status);

    let mut phase = phase::compute(pod, &init, &regular, input.stage);
    let old_phase = input.old.phase.as_deref().unwrap_or("Pending");
    if input.verdict.is_some() {
        phase = "Failed";
    }
    if !phase::is_final(phase) && phase::is_final(old_phase) {
        phase = if old_phase == "Failed" { "Failed" } else { "Succeeded" };
    }
    if input.stage == Stage::Terminated && !phase::is_final(phase) {
        phase = "Failed";
    }
    // Others act on a final phase as if nothing of the pod ran: say it when that is true.
    let early = phase::is_final(phase) && !phase::is_final(old_phase) && !input.view.is_stopped();
    if early {
        phase = match old_phase {
            "Running" => "Running",
            _ => "Pending",
        };
    } else if let Some(verdict) = input.verdict {
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
    } else if phase == old_phase {
        status.reason = input.old.reason.clone();
        status.message = input.old.message.clone();
    }
    status.phase = Some(phase.to_owned());

    let lists = conditions::Lists { init: &init, regular: &regular };
    status.conditions = Some(conditions::compute(input, phase, &lists));
    status.init_container_statuses = non_empty(init);
    status.container_statuses = non_empty(regular);
    status.ephemeral_container_statuses = non_empty(ephemeral);
    status
}

fn non_empty(list: Vec<ContainerStatus>) -> Option<Vec<ContainerStatus>> {
    (!list.is_empty()).then_some(list)
}

fn addresses(input: &Input, status: &mut PodStatus) {
    let host: Vec<HostIP> = input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect();
    status.host_ip = host.first().map(|host| host.ip.clone());
    status.host_ips = (!host.is_empty()).then_some(host);
    let ips: Vec<String> = if pod::uses_host_network(input.pod) {
        if input.view.sandboxes.is_empty() { Vec::new() } else { input.host_ips.to_vec() }
    } else {
        // A sandbox that stopped gave its address back.
        input
            .view
            .sandboxes
            .first()
            .filter(|sandbox| sandbox.ready || input.stage == Stage::Running)
            .map(|sandbox| sandbox.ips.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    };
    if ips.is_empty() {
        status.pod_ip = input.old.pod_ip.clone();
        status.pod_ips = input.old.pod_ips.clone();
    } else {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
}

/// The status of a pod that this node refuses.
fn failed(pod: &Pod, verdict: &Verdict, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(verdict.reason.clone()),
        message: Some(verdict.message.clone()),
        start_time: old.start_time.or(Some(Time(now))),
        qos_class: Some(resources::qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        conditions: old.conditions,
        ..PodStatus::default()
    }
}

pub fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
