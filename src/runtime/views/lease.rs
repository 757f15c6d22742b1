//! A Lease: the heartbeat of a node.

use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Lease {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub spec: LeaseSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    pub holder_identity: Option<Box<str>>,
    pub renew_time: Option<jiff::Timestamp>,
    pub lease_duration_seconds: Option<i32>,
}

impl Projection for Lease {
    type Object = Self;

    const KIND: Kind = kinds::LEASES;

    fn project(object: Self) -> Self {
        object
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
