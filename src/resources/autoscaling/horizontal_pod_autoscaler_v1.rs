//! HorizontalPodAutoscaler in `autoscaling/v1`: CPU in a field, the rest in annotations; stored as
//! v2.

use super::annotations::{to_v1, to_v2};
use super::horizontal_pod_autoscaler::{self as v2, HorizontalPodAutoscaler};
use crate::api::{ErrorList, FieldsMut};
use crate::resources::{Context, Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource { stored_as: Some(v2::row("v2").gvr()), strategy: Arc::new(Older), ..v2::row("v1") }
}

struct Older;

impl Strategy for Older {
    fn default(&self, object: &mut Value) {
        object.object_mut("spec").set_default("minReplicas", 1);
    }

    fn to_stored(&self, object: &mut Value) {
        to_v2(object);
    }

    fn from_stored(&self, object: &mut Value) {
        to_v1(object);
    }

    fn prepare_create(&self, object: &mut Value, context: &Context) {
        HorizontalPodAutoscaler.default(object);
        HorizontalPodAutoscaler.prepare_create(object, context);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, context: &Context) {
        HorizontalPodAutoscaler.default(object);
        HorizontalPodAutoscaler.prepare_update(object, old, context);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        HorizontalPodAutoscaler.validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        HorizontalPodAutoscaler.validate_update(object, old)
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&v2::Status)
    }

    fn cells(&self, object: &Value, now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        let mut newer = object.clone();
        to_v2(&mut newer);
        HorizontalPodAutoscaler.cells(&newer, now)
    }
}
