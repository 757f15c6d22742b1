//! ServiceAccount: the identity of a pod.

use crate::resources::{Column, Resource, Strategy, Subresource, Verb, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["sa".into()],
        subresources: vec![Subresource::custom_of(
            "token",
            "authentication.k8s.io/v1",
            "TokenRequest",
            &[Verb::Create],
        )],
        columns: Column::strings(&["Age"]),
        strategy: Arc::new(ServiceAccount),
        ..Resource::new("", "v1", "ServiceAccount", "serviceaccounts")
    }
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), cells::age(object, now)])
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}
