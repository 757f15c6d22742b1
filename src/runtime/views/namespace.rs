//! Namespaces and service accounts.

use super::nullable;
use crate::client::{Kind, kinds};
use crate::runtime::{Condition, Meta, Projection, whole};
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    pub meta: Meta,
    /// `spec.finalizers`: namespace deletion's own.
    pub finalizers: Vec<Box<str>>,
    pub phase: Box<str>,
    pub conditions: Vec<Condition>,
}

impl Projection for Namespace {
    type Object = Wire;

    const KIND: Kind = kinds::NAMESPACES;

    fn project(wire: Wire) -> Self {
        Self {
            meta: wire.metadata,
            finalizers: wire.spec.finalizers,
            phase: wire.status.phase,
            conditions: wire.status.conditions,
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
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    finalizers: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: Box<str>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    #[serde(rename = "metadata")]
    pub meta: Meta,
}

whole!(ServiceAccount, kinds::SERVICE_ACCOUNTS);
