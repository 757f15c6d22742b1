//! DefaultStorageClass: a claim that names no class gets the newest of those that are the default.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::{Fields, GroupResource, GroupVersionResource, Status};
use crate::storage::{Prefix, Storage};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

const IS_DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub struct DefaultStorageClass {
    storage: Arc<dyn Storage>,
}

impl DefaultStorageClass {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_core(resource, "persistentvolumeclaims")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(claim) = attributes.object.as_deref_mut() else { return Ok(()) };
        // An empty class is a choice, too.
        let named = claim.at("spec").get("storageClassName").is_some_and(|class| !class.is_null())
            || claim.at("metadata").at("annotations").get_set(OLD_CLASS).is_some();
        if named {
            return Ok(());
        }
        let prefix = Prefix::resource(&GroupResource::new("storage.k8s.io", "storageclasses"));
        let is_default = |class: &Value| {
            let annotations = class.at("metadata").at("annotations");
            IS_DEFAULT.iter().any(|name| annotations.str_at(name) == "true")
        };
        let mut defaults: Vec<Value> =
            self.storage.snapshot().range(&prefix, None).map(|entry| entry.body.parse()).filter(is_default).collect();
        defaults.sort_by(|a, b| {
            let key = |class: &Value| class.at("metadata").str_at("creationTimestamp").to_owned();
            let name = |class: &Value| class.at("metadata").str_at("name").to_owned();
            key(b).cmp(&key(a)).then_with(|| name(a).cmp(&name(b)))
        });
        if let Some(class) = defaults.first() {
            claim["spec"]["storageClassName"] = json!(class.at("metadata").str_at("name"));
        }
        Ok(())
    }
}
