//! An EndpointSlice: kept as it is, its writers compare all of it.

use super::nullable;
use crate::client::{Kind, kinds};
use crate::runtime::{Meta, ObjectKey, Projection};
use serde::{Deserialize, Serialize};

/// Indexes: `service` (`<namespace>/<service>` of the label `kubernetes.io/service-name`).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub address_type: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: EndpointConditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Not said: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetReference {
    pub kind: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    #[serde(deserialize_with = "nullable")]
    pub name: Box<str>,
    pub protocol: Box<str>,
    pub port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<Box<str>>,
}

impl EndpointSlice {
    pub const SERVICE: &'static str = "service";
    pub const SERVICE_LABEL: &'static str = "kubernetes.io/service-name";
    pub const MANAGED_BY_LABEL: &'static str = "endpointslice.kubernetes.io/managed-by";

    pub fn is_managed_by(&self, manager: &str) -> bool {
        self.meta.label(Self::MANAGED_BY_LABEL) == Some(manager)
    }

    /// The Service that it is for.
    pub fn service(&self) -> Option<ObjectKey> {
        let name = self.meta.label(Self::SERVICE_LABEL)?;
        Some(ObjectKey { namespace: self.meta.namespace.clone(), name: name.into() })
    }
}

impl Projection for EndpointSlice {
    type Object = Self;

    const KIND: Kind = kinds::ENDPOINT_SLICES;

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn index(&self, add: &mut dyn FnMut(&'static str, &str)) {
        if let Some(service) = self.service() {
            add(Self::SERVICE, &service.to_string());
        }
    }
}
