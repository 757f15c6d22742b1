//! ServiceAccount: the identity of a pod.

use crate::api::{Fields, FieldsMut};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, Verb, cells};
use serde_json::{Value, json};
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

const ENFORCE_MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// Of the secrets only the names are kept.
fn clean_secrets(object: &mut Value) {
    for secret in object.items_mut("secrets") {
        *secret = match secret.str_at("name") {
            "" => json!({}),
            name => json!({ "name": name }),
        };
    }
}

impl Strategy for ServiceAccount {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        clean_secrets(object);
    }

    fn prepare_update(&self, object: &mut Value, _: &Value, _: &Context) {
        clean_secrets(object);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let set = |object: &Value| object.at("metadata").at("annotations").has(ENFORCE_MOUNTABLE_SECRETS);
        if !set(object) || old.is_some_and(set) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{ENFORCE_MOUNTABLE_SECRETS}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), cells::age(object, now)])
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}
