//! The pod's sandbox: what it is asked for, and making it.

use super::container_config::labels;
use super::state::Shared;
use crate::api::cri::{NamespaceMode, PodSandboxConfig, PodSandboxStatus};
use crate::kubelet::pod;
use crate::kubelet::resources::{self, value};
use crate::kubelet::{names, security};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn sandbox_config(shared: &Shared, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
    let context = &shared.context;
    let spec = pod::spec(pod);
    let (dns, warning) = names::resolver(pod, &context.cluster_dns());
    if let Some(warning) = warning {
        context.warning(&pod::subject(pod), "DNSConfigForming", warning);
    }
    let host_network = pod::uses_host_network(pod);
    let hostname =
        if host_network { hostname_of_node() } else { names::node_hostname(pod, &context.config.cluster_domain)? };
    Ok(PodSandboxConfig {
        name: shared.key.name.clone(),
        namespace: shared.key.namespace.clone(),
        uid: shared.key.uid.clone(),
        attempt,
        hostname,
        dns,
        log_directory: shared.log_directory(),
        labels: pod.metadata.labels.clone().into_iter().flatten().chain(labels(pod, "")).collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        network: if host_network { NamespaceMode::Node } else { NamespaceMode::Pod },
        pid: security::pid_mode(pod),
        ipc: if spec.host_ipc.unwrap_or(false) { NamespaceMode::Node } else { NamespaceMode::Pod },
        user_namespace: match spec.host_users {
            Some(false) => Some(context.user_ranges.of(&shared.key.uid)?),
            _ => None,
        },
        sysctls: security::sysctls(pod, &context.config.allowed_unsafe_sysctls)?,
        cgroup_parent: resources::cgroup_parent(pod),
        resources: resources::pod_cgroup(pod, context.config.pod_pids_limit),
        ingress_bandwidth: bandwidth(pod, "kubernetes.io/ingress-bandwidth"),
        egress_bandwidth: bandwidth(pod, "kubernetes.io/egress-bandwidth"),
    })
}

fn hostname_of_node() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Bits per second in the annotation, bytes per second to the runtime.
fn bandwidth(pod: &Pod, annotation: &str) -> Option<u64> {
    let bits = value(&Quantity(pod::annotation(pod, annotation)?.to_owned()));
    u64::try_from(bits / 8).ok().filter(|&bytes| bytes > 0)
}

/// Make the sandbox; the error is told by an event already.
pub async fn create(shared: &Shared, pod: &Pod, attempt: u32) -> Result<PodSandboxStatus, String> {
    let context = &shared.context;
    let result = match sandbox_config(shared, pod, attempt) {
        Ok(config) => context.runtime.run_pod_sandbox(&config).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        let message = format!("Failed to create pod sandbox: {error}");
        context.warning(&pod::subject(pod), "FailedCreatePodSandBox", message);
    }
    result
}
