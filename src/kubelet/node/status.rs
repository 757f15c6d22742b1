//! The Node object as this kubelet makes it: pure.

use super::Machine;
use crate::api::cri::Image;
use crate::kubelet::config::Config;
use crate::kubelet::resources::{ResourceList, milli_value, value};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::net::IpAddr;

/// As many images as Kubernetes lists, the largest.
const MAX_IMAGES: usize = 50;
const MAX_NAMES_PER_IMAGE: usize = 5;

/// What changes while the kubelet runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub addresses: Vec<IpAddr>,
    pub hostname: String,
    /// Bytes of the file system that holds pods and images.
    pub storage_bytes: u64,
    pub runtime_version: String,
    /// Why the node is not ready; empty: it is.
    pub not_ready: Vec<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
    pub images: Vec<Image>,
    pub server_port: u16,
}

fn quantity(text: impl ToString) -> Quantity {
    Quantity(text.to_string())
}

pub fn capacity(config: &Config, machine: &Machine, storage_bytes: u64) -> ResourceList {
    let mut out = ResourceList::from([
        ("cpu".to_owned(), quantity(machine.cpus)),
        ("memory".to_owned(), quantity(format!("{}Ki", machine.memory_bytes / 1024))),
        ("pods".to_owned(), quantity(config.max_pods)),
    ]);
    if storage_bytes > 0 {
        out.insert("ephemeral-storage".to_owned(), quantity(format!("{}Ki", storage_bytes / 1024)));
    }
    for (size, bytes) in &machine.hugepages {
        out.insert(format!("hugepages-{size}"), quantity(bytes));
    }
    out
}

/// Capacity without what is reserved, what must stay free before pods are evicted, and huge pages.
pub fn allocatable(config: &Config, machine: &Machine, storage_bytes: u64) -> ResourceList {
    let mut out = capacity(config, machine, storage_bytes);
    let threshold = |signal: &str, total: u64| -> i64 {
        config.eviction_hard.get(signal).map_or(0, |text| super::super::eviction::threshold_bytes(text, total))
    };
    let reserved = |name: &str| config.reserved.get(name).cloned().map(Quantity);
    if let Some(cpu) = reserved("cpu") {
        let left = (machine.cpus as i64 * 1000 - milli_value(&cpu)).max(0);
        out.insert(
            "cpu".to_owned(),
            if left % 1000 == 0 { quantity(left / 1000) } else { quantity(format!("{left}m")) },
        );
    }
    let hugepages: u64 = machine.hugepages.iter().map(|(_, bytes)| bytes).sum();
    let memory = i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX)
        - reserved("memory").as_ref().map_or(0, value)
        - threshold("memory.available", machine.memory_bytes)
        - i64::try_from(hugepages).unwrap_or(0);
    out.insert("memory".to_owned(), quantity(format!("{}Ki", memory.max(0) / 1024)));
    if storage_bytes > 0 {
        let storage = i64::try_from(storage_bytes).unwrap_or(i64::MAX)
            - reserved("ephemeral-storage").as_ref().map_or(0, value)
            - threshold("nodefs.available", storage_bytes);
        out.insert("ephemeral-storage".to_owned(), quantity(storage.max(0)));
    }
    out
}

/// The whole status; conditions keep their transition times from `old`.
pub fn compute(config: &Config, machine: &Machine, facts: &Facts, old: &NodeStatus, now: Timestamp) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> = facts
        .addresses
        .iter()
        .map(|address| NodeAddress { address: address.to_string(), type_: "InternalIP".to_owned() })
        .collect();
    addresses.push(NodeAddress { address: facts.hostname.clone(), type_: "Hostname".to_owned() });
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(allocatable(config, machine, facts.storage_bytes)),
        capacity: Some(capacity(config, machine, facts.storage_bytes)),
        conditions: Some(conditions(facts, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.server_port) }),
        }),
        images: Some(images(&facts.images)),
        node_info: Some(machine.system_info(&facts.runtime_version, &config.kubelet_version)),
        ..NodeStatus::default()
    }
}

fn conditions(facts: &Facts, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let ready = if facts.not_ready.is_empty() {
        ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        ("Ready", false, "KubeletNotReady", facts.not_ready.join(", "))
    };
    let pressure = |kind: &'static str, pressed: bool, with: &'static str, without: &'static str, words: &str| {
        let reason = if pressed { with } else { without };
        let message =
            if pressed { format!("kubelet has {words}") } else { format!("kubelet has {}", without_words(words)) };
        (kind, pressed, reason, message)
    };
    let rows = [
        pressure(
            "MemoryPressure",
            facts.memory_pressure,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "insufficient memory available",
        ),
        pressure(
            "DiskPressure",
            facts.disk_pressure,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "disk pressure",
        ),
        pressure(
            "PIDPressure",
            facts.pid_pressure,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "insufficient PID available",
        ),
        ready,
    ];
    let own: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let before = old.conditions.as_deref().unwrap_or_default();
    let mut out: Vec<NodeCondition> =
        before.iter().filter(|condition| !own.contains(&condition.type_.as_str())).cloned().collect();
    for (kind, holds, reason, message) in rows {
        let status = if holds { "True" } else { "False" };
        let unchanged = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        out.push(NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: unchanged
                .and_then(|condition| condition.last_transition_time.clone())
                .or(Some(Time(now))),
        });
    }
    out
}

fn without_words(words: &str) -> String {
    match words.strip_prefix("insufficient ") {
        Some(rest) => format!("sufficient {rest}"),
        None => format!("no {words}"),
    }
}

fn images(all: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = all.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    sorted
        .into_iter()
        .take(MAX_IMAGES)
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES_PER_IMAGE).cloned().collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

/// Whether two statuses differ in more than heartbeats.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let without_heartbeats = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    without_heartbeats(a) != without_heartbeats(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::sync::watch;

    fn config() -> Config {
        let mut config = Config::new("n1", watch::channel(Vec::new()).1, watch::channel(Ok(())).1);
        config.reserved =
            BTreeMap::from([("cpu".to_owned(), "500m".to_owned()), ("memory".to_owned(), "1Gi".to_owned())]);
        config
    }

    fn machine() -> Machine {
        Machine { cpus: 2, memory_bytes: 4 << 30, ..Machine::default() }
    }

    #[test]
    fn reserves_and_thresholds_come_off() {
        let list = allocatable(&config(), &machine(), 100 << 30);
        let text = |name: &str| list[name].0.clone();
        assert_eq!(text("cpu"), "1500m");
        assert_eq!(text("memory"), format!("{}Ki", (3 << 20) - 100 * 1024));
        assert_eq!(text("ephemeral-storage"), (90u64 << 30).to_string());
        assert_eq!(text("pods"), "110");
    }

    #[test]
    fn conditions_keep_their_transition_times() {
        let at = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
        let mut facts = Facts { hostname: "n1".into(), ..Facts::default() };
        let first = compute(&config(), &machine(), &facts, &NodeStatus::default(), at(10));
        let second = compute(&config(), &machine(), &facts, &first, at(20));
        assert!(!differs(&first, &second));
        facts.memory_pressure = true;
        facts.not_ready = vec!["container runtime is down".into()];
        let third = compute(&config(), &machine(), &facts, &second, at(30));
        assert!(differs(&second, &third));
        let text: Vec<String> = third
            .conditions
            .iter()
            .flatten()
            .map(|condition| {
                let since = condition.last_transition_time.as_ref().map_or(0, |time| time.0.as_second());
                let (reason, message) =
                    (condition.reason.as_deref().unwrap_or(""), condition.message.as_deref().unwrap_or(""));
                format!("{} {} {reason} {since}: {message}", condition.type_, condition.status)
            })
            .collect();
        expect_test::expect![[r#"
            MemoryPressure True KubeletHasInsufficientMemory 30: kubelet has insufficient memory available
            DiskPressure False KubeletHasNoDiskPressure 10: kubelet has no disk pressure
            PIDPressure False KubeletHasSufficientPID 10: kubelet has sufficient PID available
            Ready False KubeletNotReady 30: container runtime is down"#]]
        .assert_eq(&text.join("\n"));
    }
}
