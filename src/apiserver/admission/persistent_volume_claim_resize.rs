//! PersistentVolumeClaimResize: only claims of a class that allows it grow.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::{Fields, GroupResource, GroupVersionResource, Quantity, Status};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

pub struct PersistentVolumeClaimResize {
    storage: Arc<dyn Storage>,
}

impl PersistentVolumeClaimResize {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }

    fn allows(&self, claim: &Value) -> bool {
        let annotated = claim.at("metadata").at("annotations").str_at("volume.beta.kubernetes.io/storage-class");
        let class = if annotated.is_empty() { claim.at("spec").str_at("storageClassName") } else { annotated };
        let key = Key::new(&GroupResource::new("storage.k8s.io", "storageclasses"), "", class);
        !class.is_empty()
            && self.storage.get(&key).is_some_and(|entry| entry.body.parse()["allowVolumeExpansion"] == true)
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Update && subresource.is_empty() && is_core(resource, "persistentvolumeclaims")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (attributes.object.as_deref(), attributes.old_object) else { return Ok(()) };
        let size = |claim: &Value| Quantity::of(&claim["spec"]["resources"]["requests"]["storage"]);
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old.at("status").str_at("phase") != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        if !self.allows(claim) {
            let reason = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
            return Err(attributes.forbidden(reason));
        }
        Ok(())
    }
}
