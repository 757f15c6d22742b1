//! Volumes, claims and the classes of their attributes.

use crate::client::{Kind, kinds};
use crate::runtime::{Meta, Projection};
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolumeClaim {
    pub meta: Meta,
    pub phase: Box<str>,
    /// The VolumeAttributesClasses that it has, wants or is given.
    pub classes: Vec<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolume {
    pub meta: Meta,
    pub phase: Box<str>,
    /// Its VolumeAttributesClass, if any.
    pub classes: Vec<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeAttributesClass {
    pub meta: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Wire {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    volume_attributes_class_name: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Box<str>,
    current_volume_attributes_class_name: Box<str>,
    modify_volume_status: Modify,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Modify {
    target_volume_attributes_class_name: Box<str>,
}

impl Wire {
    fn classes(&mut self) -> Vec<Box<str>> {
        let mut classes = Vec::new();
        for class in [
            &mut self.spec.volume_attributes_class_name,
            &mut self.status.current_volume_attributes_class_name,
            &mut self.status.modify_volume_status.target_volume_attributes_class_name,
        ] {
            let class = std::mem::take(class);
            if !class.is_empty() && !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }
}

impl Projection for PersistentVolumeClaim {
    type Object = Wire;

    const KIND: Kind = kinds::PERSISTENT_VOLUME_CLAIMS;

    fn project(mut wire: Wire) -> Self {
        Self { classes: wire.classes(), meta: wire.metadata, phase: wire.status.phase }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Projection for PersistentVolume {
    type Object = Wire;

    const KIND: Kind = kinds::PERSISTENT_VOLUMES;

    fn project(mut wire: Wire) -> Self {
        Self { classes: wire.classes(), meta: wire.metadata, phase: wire.status.phase }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Projection for VolumeAttributesClass {
    type Object = Wire;

    const KIND: Kind = kinds::VOLUME_ATTRIBUTES_CLASSES;

    fn project(wire: Wire) -> Self {
        Self { meta: wire.metadata }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
