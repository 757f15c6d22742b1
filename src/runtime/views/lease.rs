//! A Lease: the heartbeat of a node.

use crate::client::kinds;
use crate::runtime::{Meta, whole};
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

whole!(Lease, kinds::LEASES);
