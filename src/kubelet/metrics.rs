//! Prometheus texts of the kubelet: its own, of resources, and the cAdvisor names people use.

use super::context::Context;
use super::pods::Pods;
use super::stats::{self, PodUsage};
use std::fmt::Write as _;

/// A family of samples in the text format.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    samples: Vec<(String, f64)>,
    /// When they were taken, milliseconds since the epoch; where it matters.
    at: Option<i64>,
}

fn write(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {}", family.name, family.help, family.name, family.kind);
        let stamp = family.at.map(|at| format!(" {at}")).unwrap_or_default();
        for (labels, value) in &family.samples {
            let _ = writeln!(out, "{}{labels} {value}{stamp}", family.name);
        }
    }
    out
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Each running container with its usage: labels and stats.
fn containers<'a>(
    usage: &'a [PodUsage],
    extra: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (String, &'a crate::api::cri::ContainerStats)> {
    usage.iter().flat_map(move |pod| {
        pod.containers.iter().filter_map(move |(id, name, _)| {
            let stats = pod.stats.containers.iter().find(|stats| stats.id == *id)?;
            let mut pairs = vec![("container", name.as_str())];
            pairs.extend_from_slice(extra);
            pairs.extend([("namespace", pod.key.namespace.as_str()), ("pod", pod.key.name.as_str())]);
            Some((labels(&pairs), stats))
        })
    })
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// `/metrics`.
pub fn kubelet(context: &Context, pods: &Pods) -> String {
    let all = pods.all();
    let (mut running_pods, mut running_containers, mut exited) = (0, 0, 0);
    for shared in &all {
        let state = shared.state.lock();
        running_pods += usize::from(state.view.ready_sandbox().is_some());
        let running = state.view.running().count();
        running_containers += running;
        exited += state.view.containers.len() - running;
    }
    let one = |value: usize| vec![(String::new(), value as f64)];
    let by_state = |state: &str, value: usize| (labels(&[("container_state", state)]), value as f64);
    let alpha = "[ALPHA] ";
    let families = [
        Family {
            name: "kubelet_node_name",
            kind: "gauge",
            help: "[ALPHA] The node's name. The count is always 1.",
            samples: vec![(labels(&[("node", &context.config.node_name)]), 1.0)],
            at: None,
        },
        Family {
            name: "kubelet_running_pods",
            kind: "gauge",
            help: &format!("{alpha}Number of pods that have a running pod sandbox"),
            samples: one(running_pods),
            at: None,
        },
        Family {
            name: "kubelet_running_containers",
            kind: "gauge",
            help: &format!("{alpha}Number of containers currently running"),
            samples: vec![by_state("exited", exited), by_state("running", running_containers)],
            at: None,
        },
        Family {
            name: "kubelet_desired_pods",
            kind: "gauge",
            help: &format!("{alpha}The number of pods the kubelet is being instructed to run"),
            samples: one(all.len()),
            at: None,
        },
    ];
    write(&families)
}

/// `/metrics/resource`.
pub async fn resource(context: &Context, pods: &Pods) -> Result<String, String> {
    let usage = stats::pods(context, pods).await?;
    let node = stats::node();
    let at = Some(node.timestamp / 1_000_000);
    let of_pod = |pod: &PodUsage| labels(&[("namespace", &pod.key.namespace), ("pod", &pod.key.name)]);
    let working_set = node.memory_total.saturating_sub(node.memory_available);
    let started = |pod: &PodUsage| {
        pod.containers
            .iter()
            .map(|(_, name, at)| {
                let labels = labels(&[("container", name), ("namespace", &pod.key.namespace), ("pod", &pod.key.name)]);
                (labels, *at as f64 / 1e9)
            })
            .collect::<Vec<_>>()
    };
    let families = [
        Family {
            name: "container_cpu_usage_seconds_total",
            kind: "counter",
            help: "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            samples: containers(&usage, &[])
                .map(|(labels, one)| (labels, seconds(one.cgroup.cpu_usage_core_nanos)))
                .collect(),
            at: at,
        },
        Family {
            name: "container_memory_working_set_bytes",
            kind: "gauge",
            help: "[STABLE] Current working set of the container in bytes",
            samples: containers(&usage, &[])
                .map(|(labels, one)| (labels, one.cgroup.memory_working_set_bytes as f64))
                .collect(),
            at: at,
        },
        Family {
            name: "container_start_time_seconds",
            kind: "gauge",
            help: "[STABLE] Start time of the container since unix epoch in seconds",
            samples: usage.iter().flat_map(started).collect(),
            at: at,
        },
        Family {
            name: "node_cpu_usage_seconds_total",
            kind: "counter",
            help: "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            samples: vec![(String::new(), seconds(node.cpu_nanoseconds))],
            at: at,
        },
        Family {
            name: "node_memory_working_set_bytes",
            kind: "gauge",
            help: "[STABLE] Current working set of the node in bytes",
            samples: vec![(String::new(), working_set as f64)],
            at: at,
        },
        Family {
            name: "pod_cpu_usage_seconds_total",
            kind: "counter",
            help: "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            samples: usage.iter().map(|pod| (of_pod(pod), seconds(pod.stats.cgroup.cpu_usage_core_nanos))).collect(),
            at: at,
        },
        Family {
            name: "pod_memory_working_set_bytes",
            kind: "gauge",
            help: "[STABLE] Current working set of the pod in bytes",
            samples: usage.iter().map(|pod| (of_pod(pod), pod.stats.cgroup.memory_working_set_bytes as f64)).collect(),
            at: at,
        },
        Family {
            name: "resource_scrape_error",
            kind: "gauge",
            help: "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
            samples: vec![(String::new(), 0.0)],
            at: at,
        },
    ];
    Ok(write(&families))
}

/// `/metrics/cadvisor`: the families that dashboards read.
pub async fn cadvisor(context: &Context, pods: &Pods) -> Result<String, String> {
    let usage = stats::pods(context, pods).await?;
    let sample = |value: fn(&crate::api::cri::ContainerStats) -> f64| -> Vec<(String, f64)> {
        containers(&usage, &[]).map(|(labels, one)| (labels, value(one))).collect()
    };
    let network = |value: fn(&crate::api::cri::SandboxStats) -> u64| -> Vec<(String, f64)> {
        usage
            .iter()
            .map(|pod| {
                let pairs = [("interface", "eth0"), ("namespace", &*pod.key.namespace), ("pod", &*pod.key.name)];
                (labels(&pairs), value(&pod.stats) as f64)
            })
            .collect()
    };
    let families = [
        Family {
            name: "container_cpu_usage_seconds_total",
            kind: "counter",
            help: "Cumulative cpu time consumed in seconds.",
            samples: sample(|one| seconds(one.cgroup.cpu_usage_core_nanos)),
            at: None,
        },
        Family {
            name: "container_memory_usage_bytes",
            kind: "gauge",
            help: "Current memory usage in bytes, including all memory regardless of when it was accessed",
            samples: sample(|one| one.cgroup.memory_usage_bytes as f64),
            at: None,
        },
        Family {
            name: "container_memory_working_set_bytes",
            kind: "gauge",
            help: "Current working set in bytes.",
            samples: sample(|one| one.cgroup.memory_working_set_bytes as f64),
            at: None,
        },
        Family {
            name: "container_memory_rss",
            kind: "gauge",
            help: "Size of RSS in bytes.",
            samples: sample(|one| one.cgroup.memory_rss_bytes as f64),
            at: None,
        },
        Family {
            name: "container_fs_usage_bytes",
            kind: "gauge",
            help: "Number of bytes that are consumed by the container on this filesystem.",
            samples: sample(|one| one.rootfs_used_bytes as f64),
            at: None,
        },
        Family {
            name: "container_processes",
            kind: "gauge",
            help: "Number of processes running inside the container.",
            samples: sample(|one| one.cgroup.process_count as f64),
            at: None,
        },
        Family {
            name: "container_network_receive_bytes_total",
            kind: "counter",
            help: "Cumulative count of bytes received",
            samples: network(|stats| stats.rx_bytes),
            at: None,
        },
        Family {
            name: "container_network_transmit_bytes_total",
            kind: "counter",
            help: "Cumulative count of bytes transmitted",
            samples: network(|stats| stats.tx_bytes),
            at: None,
        },
    ];
    Ok(write(&families))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), "{a=\"x\\\"y\\\\z\\n\"}");
        let family = Family { name: "n", kind: "gauge", help: "h", samples: vec![(String::new(), 1.5)], at: None };
        assert_eq!(write(&[family]), "# HELP n h\n# TYPE n gauge\nn 1.5\n");
    }
}
