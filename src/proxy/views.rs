//! What the proxy keeps of Services, EndpointSlices and Pods.

use super::model::{Endpoint, HostPort, Protocol, ServicePort, TrafficPolicy};
use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;
use std::net::Ipv4Addr;

/// Services with this label have a proxy of their own.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// ClientIP affinity without a timeout: seconds.
const DEFAULT_AFFINITY: u32 = 10_800;

/// A Service's ports, ready for the rules.
#[derive(Debug, PartialEq)]
pub struct ServiceView {
    meta: Meta,
    /// Name of the port and what it is; none for Services that need no rules.
    pub ports: Vec<(String, ServicePort)>,
    pub publish_not_ready: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceObject {
    metadata: Meta,
    spec: ServiceSpec,
    status: ServiceStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<ServicePortSpec>,
    session_affinity: String,
    session_affinity_config: AffinityConfig,
    internal_traffic_policy: String,
    external_traffic_policy: String,
    load_balancer_source_ranges: Vec<String>,
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServicePortSpec {
    name: String,
    protocol: String,
    port: u16,
    node_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: ClientIp,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    ip: String,
    ip_mode: String,
}

fn policy(text: &str) -> TrafficPolicy {
    if text == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn addresses(texts: &[String]) -> Vec<Ipv4Addr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Projection for ServiceView {
    type Object = ServiceObject;

    const KIND: Kind = kinds::SERVICES;

    fn project(object: ServiceObject) -> Self {
        let ServiceObject { metadata, spec, status } = object;
        let elsewhere = metadata.label(PROXY_NAME).is_some() || metadata.label(HEADLESS).is_some();
        let mut ports = Vec::new();
        if let (false, Ok(cluster_ip)) = (elsewhere || spec.kind == "ExternalName", spec.cluster_ip.parse()) {
            let balancers: Vec<String> = status
                .load_balancer
                .ingress
                .into_iter()
                .filter(|ingress| ingress.ip_mode != "Proxy")
                .map(|ingress| ingress.ip)
                .collect();
            for port in spec.ports {
                let Some(protocol) = Protocol::parse(&port.protocol) else { continue };
                let affinity = (spec.session_affinity == "ClientIP")
                    .then(|| spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(DEFAULT_AFFINITY));
                ports.push((
                    port.name,
                    ServicePort {
                        protocol,
                        cluster_ip,
                        port: port.port,
                        node_port: port.node_port,
                        external_ips: addresses(&spec.external_ips),
                        load_balancer_ips: addresses(&balancers),
                        source_ranges: spec.load_balancer_source_ranges.clone(),
                        internal_policy: policy(&spec.internal_traffic_policy),
                        external_policy: policy(&spec.external_traffic_policy),
                        affinity_seconds: affinity,
                    },
                ));
            }
        }
        Self { meta: metadata, ports, publish_not_ready: spec.publish_not_ready_addresses }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// One slice: the Service it belongs to, and its endpoints by port name.
#[derive(Debug, PartialEq)]
pub struct SliceView {
    meta: Meta,
    pub service: String,
    /// Port name, protocol, endpoints; `local` is filled in by the proxy, which knows its node.
    pub ports: Vec<(String, Protocol, u16)>,
    /// Node name and conditions of each address.
    pub endpoints: Vec<(Option<String>, Endpoint)>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceObject {
    metadata: Meta,
    address_type: String,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    addresses: Vec<String>,
    conditions: SliceConditions,
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SlicePort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

impl Projection for SliceView {
    type Object = SliceObject;

    const KIND: Kind = kinds::ENDPOINT_SLICES;

    fn project(object: SliceObject) -> Self {
        let service = object.metadata.label(SERVICE_NAME).unwrap_or_default().to_owned();
        let mut endpoints = Vec::new();
        if object.address_type == "IPv4" {
            for endpoint in object.endpoints.into_iter().flatten() {
                // Only the first address of an endpoint counts; the others are not defined.
                let Some(ip) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else { continue };
                let conditions = endpoint.conditions;
                let ready = conditions.ready.unwrap_or(true);
                endpoints.push((
                    endpoint.node_name,
                    Endpoint {
                        ip,
                        port: 0,
                        ready,
                        serving: conditions.serving.unwrap_or(ready),
                        terminating: conditions.terminating.unwrap_or(false),
                        local: false,
                    },
                ));
            }
        }
        let ports = object.ports.into_iter().flatten().filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or_default())?;
            Some((port.name.unwrap_or_default(), protocol, port.port?))
        });
        let ports = ports.collect();
        Self { meta: object.metadata, service, ports, endpoints }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn index(&self, add: &mut dyn FnMut(&'static str, &str)) {
        add("service", &self.service);
    }
}

/// The ports of the node that a pod takes.
#[derive(Debug, PartialEq)]
pub struct PodView {
    meta: Meta,
    pub host_ports: Vec<HostPort>,
    /// With the host's network: what it declares.
    pub node_network_ports: Vec<(Protocol, u16)>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PodObject {
    metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Vec<ContainerPort>,
    restart_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    container_port: u16,
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
}

impl Projection for PodView {
    type Object = PodObject;

    const KIND: Kind = kinds::PODS;

    fn project(object: PodObject) -> Self {
        let PodObject { metadata, spec, status } = object;
        let pod = format!("{}/{}", metadata.namespace, metadata.name);
        let (mut host_ports, mut node_network_ports) = (Vec::new(), Vec::new());
        let over = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let sidecars =
            spec.init_containers.iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
        for port in spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports) {
            let Some(protocol) = Protocol::parse(&port.protocol).filter(|_| !over) else { continue };
            if spec.host_network {
                node_network_ports.push((protocol, port.container_port));
            } else if let (true, Ok(pod_ip)) = (port.host_port != 0, status.pod_ip.parse()) {
                let host_ip = port.host_ip.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified());
                let (host_port, container_port) = (port.host_port, port.container_port);
                host_ports.push(HostPort { pod: pod.clone(), protocol, host_ip, host_port, pod_ip, container_port });
            }
        }
        Self { meta: metadata, host_ports, node_network_ports }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
