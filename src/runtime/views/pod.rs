//! What controllers and the scheduler keep of a pod.

use super::nullable;
use super::resources::{ResourceList, Resources};
use crate::client::{Kind, kinds};
use crate::runtime::{Condition, Meta, Projection};
use k8s_openapi::api::core::v1::{Affinity, TopologySpreadConstraint};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Indexes: `node` (spec.nodeName).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub meta: Meta,
    /// Empty: not bound.
    pub node: Arc<str>,
    pub scheduler: Box<str>,
    pub priority: i32,
    /// Empty, `Never` or `PreemptLowerPriority`.
    pub preemption_policy: Box<str>,
    pub host_network: bool,
    pub hostname: Box<str>,
    pub subdomain: Box<str>,
    pub service_account: Box<str>,
    pub restart_policy: Box<str>,
    pub active_deadline_seconds: Option<i64>,
    pub termination_grace_period_seconds: Option<i64>,
    pub node_selector: BTreeMap<String, String>,
    pub affinity: Option<Box<Affinity>>,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<TopologySpreadConstraint>,
    pub scheduling_gates: Vec<Box<str>>,
    /// Without init and ephemeral containers.
    pub containers: Vec<Container>,
    /// Names of the claims of its volumes; an ephemeral volume's is `<pod>-<volume>`.
    pub claims: Vec<Box<str>>,
    pub config: References,
    /// What it takes of a node.
    pub requests: Resources,
    /// The same with Kubernetes's defaults for containers that ask for no CPU or memory; for
    /// scoring only.
    pub scoring_requests: Resources,
    pub phase: Box<str>,
    pub reason: Box<str>,
    pub conditions: Vec<Condition>,
    pub ips: Vec<Box<str>>,
    pub nominated_node: Box<str>,
    pub start_time: Option<jiff::Timestamp>,
    /// Restarts of all containers together.
    pub restarts: i64,
    /// Of the container that restarted most; of such a sidecar.
    pub most_restarts: (i32, i32),
    /// Exit codes of the containers that ended, by name; then those of init containers that failed.
    pub exit_codes: Vec<(Box<str>, i32)>,
    /// When the last of its containers ended, if all have.
    pub finished: Option<jiff::Timestamp>,
    pub observed_generation: i64,
}

/// The objects that a pod reads, by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References {
    pub resource_claims: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub name: Box<str>,
    pub image: Box<str>,
    pub ports: Vec<Port>,
    /// An init container that goes on running.
    pub sidecar: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub name: Box<str>,
    pub container_port: i32,
    pub host_port: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: Box<str>,
    pub protocol: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    pub key: Box<str>,
    /// Empty or `Equal`; `Exists`; `Lt` and `Gt` compare numbers.
    pub operator: Box<str>,
    pub value: Box<str>,
    /// Empty: all.
    pub effect: Box<str>,
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// Source: `ToleratesTaint` of `k8s.io/component-helpers`.
    pub fn tolerates(&self, taint: &super::Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        let numbers = || Some((self.value.parse::<i64>().ok()?, taint.value.parse::<i64>().ok()?));
        match &*self.operator {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            "Lt" => numbers().is_some_and(|(bound, value)| value < bound),
            "Gt" => numbers().is_some_and(|(bound, value)| value > bound),
            _ => false,
        }
    }
}

impl Pod {
    pub const NODE: &'static str = "node";

    pub fn is_terminal(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed")
    }

    /// Neither finished nor on its way out.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.meta.is_deleting()
    }

    pub fn is_ready(&self) -> bool {
        Condition::is_true(&self.conditions, "Ready")
    }

    /// Since when it is ready.
    pub fn ready_since(&self) -> Option<jiff::Timestamp> {
        Condition::find(&self.conditions, "Ready")
            .filter(|condition| &*condition.status == "True")
            .and_then(|condition| condition.last_transition_time)
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: jiff::Timestamp) -> bool {
        if !self.is_ready() {
            return false;
        }
        min_ready_seconds == 0
            || self
                .ready_since()
                .is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(min_ready_seconds))
    }

    /// How long until it is available, if it only has to stay ready.
    pub fn available_in(&self, min_ready_seconds: i32, now: jiff::Timestamp) -> Option<Duration> {
        if min_ready_seconds == 0 || !self.is_active() || self.is_available(min_ready_seconds, now) {
            return None;
        }
        let left = i64::from(min_ready_seconds) - now.duration_since(self.ready_since()?).as_secs();
        u64::try_from(left).ok().map(|left| Duration::from_secs(left.max(1)))
    }

    pub fn is_static_mirror(&self) -> bool {
        self.meta.annotations.contains_key("kubernetes.io/config.mirror")
    }
}

impl Projection for Pod {
    type Object = Wire;

    const KIND: Kind = kinds::PODS;

    fn project(wire: Wire) -> Self {
        let Wire { mut metadata, spec, status } = wire;
        metadata.annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let (requests, scoring_requests) = requests(&spec);
        let claims = claims(&metadata.name, &spec.volumes);
        let code = |container: &ContainerStatus| {
            let ended = container.state.terminated.as_ref()?;
            Some((container.name.clone(), ended.exit_code))
        };
        let failed_init = status.init_container_statuses.iter().filter_map(code).filter(|(_, code)| *code != 0);
        let exit_codes = status.container_statuses.iter().filter_map(code).chain(failed_init).collect();
        let finished = finished(&spec, &status);
        let restarts = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .map(|container| i64::from(container.restart_count))
            .sum();
        let most = |statuses: &mut dyn Iterator<Item = &ContainerStatus>| {
            statuses.map(|container| container.restart_count).max().unwrap_or_default()
        };
        let sidecars = status.init_container_statuses.iter().filter(|container| spec.is_sidecar(container));
        let most_restarts = (most(&mut status.container_statuses.iter()), most(&mut { sidecars }));
        let mut ips: Vec<Box<str>> = status.pod_ips.into_iter().map(|address| address.ip).collect();
        if ips.is_empty() && !status.pod_ip.is_empty() {
            ips.push(status.pod_ip);
        }
        let sidecars = spec.init_containers.iter().filter(|container| &*container.restart_policy == "Always");
        let containers = spec
            .containers
            .iter()
            .map(|container| (container, false))
            .chain(sidecars.map(|container| (container, true)))
            .map(|(container, sidecar)| Container {
                name: container.name.clone(),
                image: container.image.clone(),
                ports: container.ports.clone(),
                sidecar,
            })
            .collect();
        Self {
            meta: metadata,
            node: spec.node_name,
            scheduler: spec.scheduler_name,
            priority: spec.priority.unwrap_or_default(),
            preemption_policy: spec.preemption_policy,
            host_network: spec.host_network,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            service_account: spec.service_account_name,
            restart_policy: spec.restart_policy,
            active_deadline_seconds: spec.active_deadline_seconds,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_selector: spec.node_selector,
            affinity: spec.affinity,
            tolerations: spec.tolerations,
            spread: spec.topology_spread_constraints,
            scheduling_gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
            containers,
            claims,
            config: References { resource_claims: spec.resource_claims.len() },
            requests,
            scoring_requests,
            phase: status.phase,
            reason: status.reason,
            conditions: status.conditions,
            ips,
            nominated_node: status.nominated_node_name,
            start_time: status.start_time,
            restarts,
            most_restarts,
            exit_codes,
            finished,
            observed_generation: status.observed_generation,
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn index(&self, add: &mut dyn FnMut(&'static str, &str)) {
        add(Self::NODE, &self.node);
    }
}

/// As it is on the wire, without what is not read.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Wire {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Arc<str>,
    scheduler_name: Box<str>,
    priority: Option<i32>,
    preemption_policy: Box<str>,
    host_network: bool,
    hostname: Box<str>,
    subdomain: Box<str>,
    service_account_name: Box<str>,
    restart_policy: Box<str>,
    active_deadline_seconds: Option<i64>,
    termination_grace_period_seconds: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    node_selector: BTreeMap<String, String>,
    affinity: Option<Box<Affinity>>,
    #[serde(deserialize_with = "nullable")]
    tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "nullable")]
    topology_spread_constraints: Vec<TopologySpreadConstraint>,
    #[serde(deserialize_with = "nullable")]
    scheduling_gates: Vec<Named>,
    #[serde(deserialize_with = "nullable")]
    resource_claims: Vec<Named>,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<WireContainer>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<WireContainer>,
    #[serde(deserialize_with = "nullable")]
    volumes: Vec<Volume>,
    overhead: Option<ResourceList>,
    resources: Option<Requirements>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContainer {
    name: Box<str>,
    image: Box<str>,
    restart_policy: Box<str>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Port>,
    #[serde(deserialize_with = "nullable")]
    resources: Requirements,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirements {
    #[serde(deserialize_with = "nullable")]
    requests: ResourceList,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: Box<str>,
    persistent_volume_claim: Option<Claim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Claim {
    claim_name: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Box<str>,
    reason: Box<str>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<PodIp>,
    nominated_node_name: Box<str>,
    start_time: Option<jiff::Timestamp>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    observed_generation: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodIp {
    ip: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Box<str>,
    restart_count: i32,
    state: ContainerState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i32,
    finished_at: Option<jiff::Timestamp>,
}

impl Spec {
    fn is_sidecar(&self, status: &ContainerStatus) -> bool {
        let mut containers = self.init_containers.iter();
        containers.any(|container| container.name == status.name && &*container.restart_policy == "Always")
    }
}

/// Sidecars end after the containers, so they count, too.
fn finished(spec: &Spec, status: &Status) -> Option<jiff::Timestamp> {
    let sidecars = status.init_container_statuses.iter().filter(|container| spec.is_sidecar(container));
    let ends = status.container_statuses.iter().chain(sidecars);
    ends.map(|container| container.state.terminated.as_ref()?.finished_at).try_fold(None, |last, end| {
        let end: jiff::Timestamp = end?;
        Some(last.max(Some(end)))
    })?
}

fn claims(pod: &str, volumes: &[Volume]) -> Vec<Box<str>> {
    volumes
        .iter()
        .filter_map(|volume| match &volume.persistent_volume_claim {
            Some(claim) => Some(claim.claim_name.clone()),
            None => volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name).into()),
        })
        .collect()
}

/// What a container counts for in scoring when it asks for none: 0.1 CPU, 200 MB.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// The requests of a pod, real and with defaults: the larger of its containers together and any of
/// its init containers with the sidecars before it, at least what the pod itself says, plus overhead.
fn requests(spec: &Spec) -> (Resources, Resources) {
    let total = |of: &dyn Fn(&WireContainer) -> Resources, pod_level: &ResourceList| {
        let mut total = Resources::default();
        for container in &spec.containers {
            total.add(&of(container));
        }
        let mut sidecars = Resources::default();
        let mut initial = Resources::default();
        for container in &spec.init_containers {
            let mut own = of(container);
            if &*container.restart_policy == "Always" {
                sidecars.add(&own);
                total.add(&own);
                own = sidecars.clone();
            } else {
                own.add(&sidecars);
            }
            initial.raise_to(&own);
        }
        total.raise_to(&initial);
        let whole = Resources::parse(pod_level);
        for name in pod_level.keys() {
            match name.as_str() {
                "cpu" => total.milli_cpu = whole.milli_cpu,
                "memory" => total.memory = whole.memory,
                name if name.starts_with("hugepages-") => {
                    total.scalars.insert(name.into(), whole.get(name));
                }
                _ => {}
            }
        }
        if let Some(overhead) = &spec.overhead {
            total.add(&Resources::parse(overhead));
        }
        total
    };
    let none = ResourceList::new();
    let pod_level = spec.resources.as_ref().map_or(&none, |resources| &resources.requests);
    let real = total(&|container| Resources::parse(&container.resources.requests), pod_level);
    let scoring = total(
        &|container| {
            let mut resources = Resources::parse(&container.resources.requests);
            if !container.resources.requests.contains_key("cpu") {
                resources.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if !container.resources.requests.contains_key("memory") {
                resources.memory = DEFAULT_MEMORY;
            }
            resources
        },
        pod_level,
    );
    (real, scoring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        Pod::project(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn requests_are_the_larger_of_containers_and_init_containers() {
        let pod = pod(json!({
            "spec": {
                "containers": [
                    { "name": "a", "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } } },
                    { "name": "b", "resources": { "requests": { "cpu": "0.1" } } }
                ],
                "initContainers": [
                    { "name": "side", "restartPolicy": "Always", "resources": { "requests": { "cpu": "50m" } } },
                    { "name": "once", "resources": { "requests": { "cpu": "1", "example.com/gpu": "1" } } }
                ],
                "overhead": { "memory": "1Mi" }
            }
        }));
        assert_eq!(pod.requests.milli_cpu, 1050);
        assert_eq!(pod.requests.memory, 101 << 20);
        assert_eq!(pod.requests.get("example.com/gpu"), 1);
        assert_eq!(pod.scoring_requests.memory, (100 << 20) + DEFAULT_MEMORY * 2 + (1 << 20));
    }

    #[test]
    fn availability_counts_from_readiness() {
        let pod = pod(json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }
        ] } }));
        let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
        assert!(pod.is_available(0, at("2026-01-01T00:00:00Z")));
        assert!(!pod.is_available(10, at("2026-01-01T00:00:09Z")));
        assert!(pod.is_available(10, at("2026-01-01T00:00:10Z")));
    }
}
