//! What controllers keep of a Service.

use super::{IntOrString, nullable};
use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub meta: Meta,
    /// None: its endpoints are made by someone else.
    pub selector: Option<BTreeMap<String, String>>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub kind: Box<str>,
    /// `None` as the first: headless.
    pub cluster_ips: Vec<Box<str>>,
    pub ip_families: Vec<Box<str>>,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
    pub internal_traffic_policy: Box<str>,
    pub external_traffic_policy: Box<str>,
    pub traffic_distribution: Box<str>,
    pub health_check_node_port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: Box<str>,
    pub protocol: Box<str>,
    pub app_protocol: Option<Box<str>>,
    pub port: i32,
    pub target_port: Option<IntOrString>,
    pub node_port: u16,
}

impl Service {
    pub fn is_headless(&self) -> bool {
        self.cluster_ips.first().is_some_and(|address| &**address == "None")
    }
}

impl Projection for Service {
    type Object = Wire;

    const KIND: Kind = kinds::SERVICES;

    fn project(wire: Wire) -> Self {
        let Wire { metadata, spec } = wire;
        let mut cluster_ips = spec.cluster_ips;
        if cluster_ips.is_empty() && !spec.cluster_ip.is_empty() {
            cluster_ips.push(spec.cluster_ip);
        }
        Self {
            meta: metadata,
            selector: spec.selector.filter(|selector| !selector.is_empty()),
            kind: spec.kind,
            cluster_ips,
            ip_families: spec.ip_families,
            ports: spec.ports,
            publish_not_ready_addresses: spec.publish_not_ready_addresses,
            internal_traffic_policy: spec.internal_traffic_policy,
            external_traffic_policy: spec.external_traffic_policy,
            traffic_distribution: spec.traffic_distribution,
            health_check_node_port: spec.health_check_node_port,
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Wire {
    metadata: Meta,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    selector: Option<BTreeMap<String, String>>,
    #[serde(rename = "type")]
    kind: Box<str>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    ip_families: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<ServicePort>,
    publish_not_ready_addresses: bool,
    internal_traffic_policy: Box<str>,
    external_traffic_policy: Box<str>,
    traffic_distribution: Box<str>,
    health_check_node_port: u16,
}
