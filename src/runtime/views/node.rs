//! What controllers and the scheduler keep of a node.

use super::nullable;
use super::resources::{ResourceList, Resources};
use crate::client::{Kind, kinds};
use crate::runtime::{Condition, Meta, Projection};
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub meta: Meta,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub pod_cidrs: Vec<Box<str>>,
    pub allocatable: Resources,
    pub conditions: Vec<Condition>,
    /// type, address
    pub addresses: Vec<(Box<str>, Box<str>)>,
    pub images: Vec<Image>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: Box<str>,
    pub time_added: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<Box<str>>,
    pub size_bytes: i64,
}

impl Node {
    pub fn is_ready(&self) -> bool {
        Condition::is_true(&self.conditions, "Ready")
    }

    pub fn has_taint(&self, key: &str, effect: &str) -> bool {
        self.taints.iter().any(|taint| &*taint.key == key && &*taint.effect == effect)
    }
}

impl Projection for Node {
    type Object = Wire;

    const KIND: Kind = kinds::NODES;

    fn project(wire: Wire) -> Self {
        let Wire { metadata, spec, status } = wire;
        let mut pod_cidrs = spec.pod_cidrs;
        if pod_cidrs.is_empty() && !spec.pod_cidr.is_empty() {
            pod_cidrs.push(spec.pod_cidr);
        }
        Self {
            meta: metadata,
            unschedulable: spec.unschedulable,
            taints: spec.taints,
            pod_cidrs,
            allocatable: Resources::parse(
                status.allocatable.as_ref().or(status.capacity.as_ref()).unwrap_or(&ResourceList::new()),
            ),
            conditions: status.conditions,
            addresses: status.addresses.into_iter().map(|address| (address.kind, address.address)).collect(),
            images: status.images,
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
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    unschedulable: bool,
    #[serde(deserialize_with = "nullable")]
    taints: Vec<Taint>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Box<str>,
    #[serde(rename = "podCIDRs", deserialize_with = "nullable")]
    pod_cidrs: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    capacity: Option<ResourceList>,
    allocatable: Option<ResourceList>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    images: Vec<Image>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: Box<str>,
    address: Box<str>,
}
