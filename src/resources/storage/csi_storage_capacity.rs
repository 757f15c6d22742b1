//! CSIStorageCapacity: what a storage class has left in some topology.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use crate::resources::{Resource, Strategy, labels};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        strategy: Arc::new(CsiStorageCapacity),
        ..Resource::new("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
    }
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        labels::selector(object.at("nodeTopology"), false, &Path::new("nodeTopology"), &mut errors);
        let class = object.str_at("storageClassName");
        errors.check(&Path::new("storageClassName"), class, names::dns_subdomain(class));
        for field in ["capacity", "maximumVolumeSize"] {
            if let Some(amount) = object.get_set(field).map(Quantity::of).filter(Quantity::is_negative) {
                let detail = "must be greater than or equal to 0";
                errors.invalid(&Path::new(field), amount.to_string(), detail);
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["nodeTopology", "storageClassName"] {
            errors.immutable(&Path::new(field), object.at(field), old.at(field));
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
