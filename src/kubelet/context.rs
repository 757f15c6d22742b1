//! What every part of the kubelet shares.

use super::config::Config;
use super::env::{ServicePort, ServiceRecord};
use super::images::Puller;
use super::names::{ClusterDns, parse_resolv_conf};
use super::objects::Objects;
use super::resources::ResourceList;
use super::user_ranges::UserRanges;
use super::volumes::Tokens;
use crate::api::cri::{ContainerRuntime, ImageService};
use crate::client::{self, Kind, kinds};
use crate::runtime::{EventType, Informer, InformerOptions, Meta, Projection, Recorder, Store, Subject};
use arc_swap::ArcSwap;
use serde::Deserialize;
use std::sync::Arc;

/// The field manager and user agent of everything the kubelet writes.
pub const AGENT: &str = "kubelet";

pub struct Context {
    pub config: Config,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub image_service: Arc<dyn ImageService>,
    pub client: client::Objects,
    pub recorder: Recorder,
    pub puller: Puller,
    pub objects: Objects,
    pub tokens: Tokens,
    pub user_ranges: UserRanges,
    pub services: Informer<ServiceView>,
    /// Bytes of memory of the machine.
    pub memory_capacity: i64,
    /// What pods may use of the node, as it is published.
    pub allocatable: ArcSwap<ResourceList>,
}

impl Context {
    pub fn new(
        config: Config,
        runtime: Arc<dyn ContainerRuntime>,
        image_service: Arc<dyn ImageService>,
        client: kube::Client,
        memory_capacity: i64,
        allocatable: ResourceList,
    ) -> Self {
        let objects = client::Objects::new(client.clone(), AGENT);
        let recorder = Recorder::new(objects.clone(), AGENT, &config.node_name);
        Self {
            puller: Puller::new(image_service.clone(), recorder.clone()),
            objects: Objects::new(client.clone()),
            tokens: Tokens::new(client.clone()),
            user_ranges: UserRanges::new(config.root_directory.join("pods")),
            services: Informer::start(client, InformerOptions::default()),
            client: objects,
            recorder,
            runtime,
            image_service,
            config,
            memory_capacity,
            allocatable: ArcSwap::from_pointee(allocatable),
        }
    }

    pub fn normal(&self, subject: &Subject, reason: &str, message: impl Into<String>) {
        self.recorder.event(subject, EventType::Normal, reason, message);
    }

    pub fn warning(&self, subject: &Subject, reason: &str, message: impl Into<String>) {
        self.recorder.event(subject, EventType::Warning, reason, message);
    }

    pub fn host_ips(&self) -> Vec<String> {
        self.config.node_addresses.borrow().iter().map(ToString::to_string).collect()
    }

    /// What pods resolve names with. The node's file is read each time: it changes under us.
    pub fn cluster_dns(&self) -> ClusterDns {
        let host = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        ClusterDns {
            servers: self.config.cluster_dns.iter().map(ToString::to_string).collect(),
            domain: self.config.cluster_domain.clone(),
            host: parse_resolv_conf(&host),
        }
    }

    /// The Services that a pod of `namespace` has variables of.
    pub fn services_for(&self, namespace: &str) -> Vec<ServiceRecord> {
        let store: &Store<ServiceView> = self.services.store();
        let mut all = store.in_namespace(namespace);
        if namespace != "default" {
            all.extend(store.find("default", "kubernetes"));
        }
        all.iter().map(|service| service.record()).collect()
    }
}

/// What the kubelet reads of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    metadata: Meta,
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: String,
    port: i32,
    protocol: String,
}

impl ServiceView {
    fn record(&self) -> ServiceRecord {
        ServiceRecord {
            namespace: self.metadata.namespace.to_string(),
            name: self.metadata.name.to_string(),
            cluster_ip: self.spec.cluster_ip.clone(),
            ports: self
                .spec
                .ports
                .iter()
                .map(|port| ServicePort { name: port.name.clone(), port: port.port, protocol: port.protocol.clone() })
                .collect(),
        }
    }
}

impl Projection for ServiceView {
    type Object = Self;
    const KIND: Kind = kinds::SERVICES;

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.metadata
    }
}
