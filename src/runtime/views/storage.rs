//! Volumes and claims.

use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolumeClaim {
    pub meta: Meta,
    pub phase: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolume {
    pub meta: Meta,
    pub phase: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Wire {
    metadata: Meta,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: Box<str>,
}

impl Projection for PersistentVolumeClaim {
    type Object = Wire;

    const KIND: Kind = kinds::PERSISTENT_VOLUME_CLAIMS;

    fn project(wire: Wire) -> Self {
        Self { meta: wire.metadata, phase: wire.status.phase }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Projection for PersistentVolume {
    type Object = Wire;

    const KIND: Kind = kinds::PERSISTENT_VOLUMES;

    fn project(wire: Wire) -> Self {
        Self { meta: wire.metadata, phase: wire.status.phase }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
