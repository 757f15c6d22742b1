//! What DNS keeps of Services and EndpointSlices.

use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;
use std::net::Ipv4Addr;

#[derive(Debug, PartialEq)]
pub struct ServiceView {
    meta: Meta,
    pub address: ServiceAddress,
    /// Name, protocol in lower case, number.
    pub ports: Vec<(String, String, u16)>,
    pub publish_not_ready: bool,
}

/// What the name of a Service stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    Cluster(Ipv4Addr),
    /// The addresses of its endpoints.
    Headless,
    /// Another name.
    External(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceObject {
    metadata: Meta,
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    external_name: String,
    ports: Vec<Port>,
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

impl Port {
    fn named(self) -> Option<(String, String, u16)> {
        let protocol = self.protocol.unwrap_or_else(|| "TCP".to_owned()).to_ascii_lowercase();
        Some((self.name.unwrap_or_default(), protocol, self.port?))
    }
}

impl Projection for ServiceView {
    type Object = ServiceObject;

    const KIND: Kind = kinds::SERVICES;

    fn project(object: ServiceObject) -> Self {
        let spec = object.spec;
        let address = match spec.cluster_ip.parse() {
            _ if spec.kind == "ExternalName" => ServiceAddress::External(spec.external_name),
            Ok(address) => ServiceAddress::Cluster(address),
            Err(_) => ServiceAddress::Headless,
        };
        let ports = spec.ports.into_iter().filter_map(Port::named).collect();
        Self { meta: object.metadata, address, ports, publish_not_ready: spec.publish_not_ready_addresses }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn index(&self, add: &mut dyn FnMut(&'static str, &str)) {
        if let ServiceAddress::Cluster(address) = self.address {
            add("address", &address.to_string());
        }
    }
}

#[derive(Debug, PartialEq)]
pub struct SliceView {
    meta: Meta,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<(String, String, u16)>,
    service: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    /// The pod's, else made of the address.
    pub hostname: String,
    pub ready: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceObject {
    metadata: Meta,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    addresses: Vec<String>,
    hostname: Option<String>,
    conditions: Conditions,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    ready: Option<bool>,
}

/// `10.42.0.7` as a label: `10-42-0-7`.
pub(super) fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

impl Projection for SliceView {
    type Object = SliceObject;

    const KIND: Kind = kinds::ENDPOINT_SLICES;

    fn project(object: SliceObject) -> Self {
        let endpoints = object.endpoints.into_iter().flatten().filter_map(|endpoint| {
            let address: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
            let hostname = endpoint.hostname.unwrap_or_else(|| dashed(address));
            Some(Endpoint { address, hostname, ready: endpoint.conditions.ready.unwrap_or(true) })
        });
        let endpoints = endpoints.collect();
        let ports = object.ports.into_iter().flatten().filter_map(Port::named).collect();
        let service = object.metadata.label("kubernetes.io/service-name").unwrap_or_default().to_owned();
        Self { meta: object.metadata, endpoints, ports, service }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn index(&self, add: &mut dyn FnMut(&'static str, &str)) {
        add("service", &format!("{}/{}", self.meta.namespace, self.service));
        for endpoint in &self.endpoints {
            add("address", &endpoint.address.to_string());
        }
    }
}
