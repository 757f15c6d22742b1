//! Requests and limits: the pod's quality of service, its cgroup's place, and cgroup limits.
//!
//! Pure. Source: "Resource Management for Pods and Containers" and "Pod Quality of Service
//! Classes" of the Kubernetes documentation; the arithmetic is the kubelet's.

use super::pod::{self, Role};
use crate::api::cri::LinuxResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

pub type ResourceList = BTreeMap<String, Quantity>;

const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const SHARES_PER_CPU: u64 = 1024;
const QUOTA_PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// Quality of service: who is evicted and killed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    BestEffort,
    Burstable,
    Guaranteed,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// A quantity rounded up to whole units; text that does not parse counts as zero, because the API
/// server refused it already.
pub fn value(quantity: &Quantity) -> i64 {
    scaled(quantity, 0)
}

/// A quantity rounded up to thousandths.
pub fn milli_value(quantity: &Quantity) -> i64 {
    scaled(quantity, 3)
}

fn scaled(quantity: &Quantity, decimals: u32) -> i64 {
    parse_scaled(&quantity.0, decimals).unwrap_or(0)
}

fn parse_scaled(text: &str, decimals: u32) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, mut exponent): (u32, i32) = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => (0, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    exponent = exponent.checked_add(decimals as i32)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let mut result = digits.checked_mul(1i128 << binary)?;
    if exponent >= 0 {
        result = result.checked_mul(10i128.checked_pow(exponent as u32)?).unwrap_or(i128::from(i64::MAX));
    } else {
        let divisor = 10i128.checked_pow(exponent.unsigned_abs()).unwrap_or(i128::MAX);
        result = (result + divisor - 1) / divisor;
    }
    let result = i64::try_from(result).unwrap_or(i64::MAX);
    Some(if negative { -result } else { result })
}

pub fn request<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource)
}

pub fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource)
}

fn positive(list: Option<&ResourceList>, resource: &str) -> Option<i64> {
    let amount = milli_value(list?.get(resource)?);
    (amount > 0).then_some(amount)
}

pub fn qos_class(pod: &Pod) -> QosClass {
    let known = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match known {
        Some("Guaranteed") => return QosClass::Guaranteed,
        Some("Burstable") => return QosClass::Burstable,
        Some("BestEffort") => return QosClass::BestEffort,
        _ => {}
    }
    compute_qos_class(pod)
}

fn compute_qos_class(pod: &Pod) -> QosClass {
    let own = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let all: Vec<Option<&ResourceRequirements>> = match own {
        Some(own) => vec![Some(own)],
        None => pod::init_containers(pod)
            .iter()
            .chain(pod::regular_containers(pod))
            .map(|container| container.resources.as_ref())
            .collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for requirements in all {
        let requests = requirements.and_then(|requirements| requirements.requests.as_ref());
        let limits = requirements.and_then(|requirements| requirements.limits.as_ref());
        for resource in ["cpu", "memory"] {
            let limit = positive(limits, resource);
            let request = positive(requests, resource).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// Below the pods' root: `burstable/pod<uid>`.
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos_class(pod) {
        QosClass::Guaranteed => format!("pod{uid}"),
        QosClass::Burstable => format!("burstable/pod{uid}"),
        QosClass::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// Thousandths of a CPU to cgroup v1 shares.
pub fn cpu_shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli * SHARES_PER_CPU / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Thousandths of a CPU to microseconds per [`QUOTA_PERIOD`]; None: not limited.
fn cpu_quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli * QUOTA_PERIOD as i64 / 1000).max(MIN_QUOTA))
}

/// The pod's effective request (`limits` false) or limit of one resource in thousandths: containers
/// and sidecars together, or an init container with the sidecars before it where that is more; a
/// pod-level value wins; overhead is added.
pub fn pod_total(pod: &Pod, resource: &str, limits: bool) -> i64 {
    let amount = |requirements: Option<&ResourceRequirements>| {
        let list =
            requirements.and_then(
                |requirements| if limits { requirements.limits.as_ref() } else { requirements.requests.as_ref() },
            );
        list.and_then(|list| list.get(resource)).map(milli_value)
    };
    let mut sidecars = 0i64;
    let mut peak = 0i64;
    for container in pod::init_containers(pod) {
        let own = amount(container.resources.as_ref()).unwrap_or(0);
        if pod::is_sidecar(container) {
            sidecars += own;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + own);
        }
    }
    let regular: i64 =
        pod::regular_containers(pod).iter().map(|container| amount(container.resources.as_ref()).unwrap_or(0)).sum();
    let spec = pod::spec(pod);
    let total = amount(spec.resources.as_ref()).unwrap_or_else(|| peak.max(sidecars + regular));
    let overhead = spec.overhead.as_ref().and_then(|overhead| overhead.get(resource)).map_or(0, milli_value);
    if limits && total == 0 { 0 } else { total + overhead }
}

/// Whether every container that counts has a limit of `resource`, so the pod's cgroup may have one.
fn all_limited(pod: &Pod, resource: &str) -> bool {
    let pod_level = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref())
        .and_then(|requirements| requirements.limits.as_ref())
        .is_some_and(|limits| limits.contains_key(resource));
    pod_level
        || pod::regular_containers(pod)
            .iter()
            .chain(pod::init_containers(pod))
            .all(|container| limit(container, resource).is_some_and(|limit| milli_value(limit) > 0))
}

/// Limits of the pod's own cgroup.
pub fn pod_cgroup(pod: &Pod, pids_limit: Option<i64>) -> LinuxResources {
    let cpu = all_limited(pod, "cpu").then(|| pod_total(pod, "cpu", true)).and_then(cpu_quota);
    let memory = all_limited(pod, "memory").then(|| pod_total(pod, "memory", true).saturating_add(999) / 1000);
    let shares = match qos_class(pod) {
        QosClass::BestEffort => MIN_SHARES,
        _ => cpu_shares(pod_total(pod, "cpu", false)),
    };
    LinuxResources {
        cpu_shares: Some(shares),
        cpu_quota: cpu,
        cpu_period: cpu.map(|_| QUOTA_PERIOD),
        memory_limit: memory.filter(|&memory| memory > 0),
        pids_limit,
        ..LinuxResources::default()
    }
}

/// Limits of one container. `memory_capacity`: bytes of the machine.
pub fn container_cgroup(pod: &Pod, role: Role, container: &Container, memory_capacity: i64) -> LinuxResources {
    let cpu_limit = limit(container, "cpu").map_or(0, milli_value);
    let cpu_request = request(container, "cpu").map_or(cpu_limit, milli_value);
    let quota = cpu_quota(cpu_limit);
    let hugepages = container
        .resources
        .as_ref()
        .and_then(|requirements| requirements.limits.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|(name, quantity)| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix('i')?;
            Some((format!("{size}B"), u64::try_from(value(quantity)).ok()?))
        })
        .collect();
    LinuxResources {
        cpu_shares: Some(cpu_shares(cpu_request)),
        cpu_quota: quota,
        cpu_period: quota.map(|_| QUOTA_PERIOD),
        memory_limit: limit(container, "memory").map(value).filter(|&limit| limit > 0),
        oom_score_adj: oom_score_adj(pod, role, container, memory_capacity),
        pids_limit: None,
        hugepage_limits: hugepages,
        // When a container's memory ends it ends as a whole; only a container: a pod's group holds its pause, too.
        unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
    }
}

/// How eagerly the kernel kills the container when memory ends: the less of its request it may
/// use, the later.
pub fn oom_score_adj(pod: &Pod, role: Role, container: &Container, memory_capacity: i64) -> i32 {
    if pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= NODE_CRITICAL_PRIORITY) {
        return GUARANTEED_OOM_SCORE as i32;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => GUARANTEED_OOM_SCORE as i32,
        QosClass::BestEffort => BEST_EFFORT_OOM_SCORE as i32,
        QosClass::Burstable => {
            let own = burstable_score(container, memory_capacity);
            let score = if role == Role::Sidecar {
                let others = pod::regular_containers(pod).iter().map(|other| burstable_score(other, memory_capacity));
                others.min().map_or(own, |least| own.min(least))
            } else {
                own
            };
            score as i32
        }
    }
}

fn burstable_score(container: &Container, memory_capacity: i64) -> i64 {
    let request = request(container, "memory").map_or(0, value);
    let score = 1000 - (1000i128 * i128::from(request) / i128::from(memory_capacity.max(1))) as i64;
    if score < 1000 + GUARANTEED_OOM_SCORE {
        1000 + GUARANTEED_OOM_SCORE
    } else if score == BEST_EFFORT_OOM_SCORE {
        score - 1
    } else {
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u1"}, "spec": {"containers": containers}})).expect("a pod")
    }

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn quantities_round_up() {
        for (text, units, thousandths) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1.5", 2, 1500),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("2k", 2000, 2_000_000),
            ("1e3", 1000, 1_000_000),
            ("0.1m", 1, 1),
            ("-2", -2, -2000),
            ("0", 0, 0),
        ] {
            assert_eq!(value(&quantity(text)), units, "{text}");
            assert_eq!(milli_value(&quantity(text)), thousandths, "{text}");
        }
    }

    #[test]
    fn quality_of_service() {
        let same = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let only_limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let request = json!({"requests": {"cpu": "1"}});
        let of = |resources: &[Value]| {
            let containers: Vec<Value> =
                resources.iter().map(|resources| json!({"name": "c", "resources": resources})).collect();
            qos_class(&pod(json!(containers)))
        };
        assert_eq!(of(&[json!({})]), QosClass::BestEffort);
        assert_eq!(of(std::slice::from_ref(&same)), QosClass::Guaranteed);
        assert_eq!(of(&[only_limits]), QosClass::Guaranteed);
        assert_eq!(of(&[request]), QosClass::Burstable);
        assert_eq!(of(&[same, json!({})]), QosClass::Burstable);
    }

    #[test]
    fn cgroup_limits() {
        let pod = pod(json!([{"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi", "hugepages-2Mi": "4Mi"}}}]));
        let container = &pod::regular_containers(&pod)[0];
        let resources = container_cgroup(&pod, Role::Regular, container, 1 << 30);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!((resources.cpu_quota, resources.cpu_period), (Some(50_000), Some(100_000)));
        assert_eq!(resources.memory_limit, Some(128 << 20));
        assert_eq!(resources.oom_score_adj, 1000 - 62);
        assert_eq!(resources.hugepage_limits.get("2MB"), Some(&(4 << 20)));
        assert_eq!(resources.unified.get("memory.oom.group").map(String::as_str), Some("1"));
        let whole = pod_cgroup(&pod, Some(100));
        assert!(whole.unified.is_empty(), "the pod's pause outlives a container without memory: {:?}", whole.unified);
        assert_eq!((whole.cpu_shares, whole.cpu_quota), (Some(256), Some(50_000)));
        assert_eq!((whole.memory_limit, whole.pids_limit), (Some(128 << 20), Some(100)));
        assert_eq!(cgroup_parent(&pod), "burstable/podu1");
    }

    #[test]
    fn an_init_container_counts_with_the_sidecars_before_it() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "500m"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "200m"}}}]}}))
        .expect("a pod");
        assert_eq!(pod_total(&pod, "cpu", false), 600);
    }
}
