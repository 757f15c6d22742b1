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
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        labels::selector(object.at("nodeTopology"), false, &Path::new("nodeTopology"), &mut errors);
        let class = object.str_at("storageClassName");
        errors.check(&Path::new("storageClassName"), class, names::dns_subdomain(class));
        if let Some(amount) = object.get_set("capacity").map(Quantity::of).filter(Quantity::is_negative) {
            let detail = "must be greater than or equal to 0";
            errors.invalid(&Path::new("capacity"), amount.to_string(), detail);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        errors.immutable(&Path::new("nodeTopology"), object.at("nodeTopology"), old.at("nodeTopology"));
        let class = Path::new("storageClassName");
        errors.immutable_text(&class, object.at("storageClassName"), old.at("storageClassName"));
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
