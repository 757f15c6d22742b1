//! StorageObjectInUseProtection: volumes, claims and classes of attributes that are in use wait with their
//! deletion; a controller takes the finalizer when they no longer are.

use super::{Attributes, Operation, Plugin, list_mut};
use crate::api::{GroupVersionResource, Status};
use async_trait::async_trait;
use serde_json::Value;

/// Which finalizer which resource of which group gets.
const FINALIZERS: &[(&str, &str, &str)] = &[
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

fn finalizer(resource: &GroupVersionResource) -> Option<&'static str> {
    let row = FINALIZERS.iter().find(|(group, plural, _)| resource.group == *group && resource.resource == *plural);
    row.map(|(_, _, finalizer)| *finalizer)
}

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && finalizer(resource).is_some()
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(finalizer) = finalizer(attributes.resource) else { return Ok(()) };
        let metadata = attributes.object.as_mut().and_then(|object| object.get_mut("metadata"));
        if let Some(list) = metadata.and_then(|metadata| list_mut(metadata, "finalizers"))
            && !list.iter().any(|known| known == finalizer)
        {
            list.push(Value::String(finalizer.to_owned()));
        }
        Ok(())
    }
}
