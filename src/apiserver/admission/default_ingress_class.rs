//! DefaultIngressClass: an Ingress that names no class gets the one that is the default.

use super::{Attributes, Operation, Plugin, Sources};
use crate::api::{Fields, GroupResource, GroupVersionResource, Status};
use crate::storage::{Prefix, Storage};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub struct DefaultIngressClass {
    storage: Arc<dyn Storage>,
}

impl DefaultIngressClass {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create
            && subresource.is_empty()
            && resource.group == "networking.k8s.io"
            && resource.resource == "ingresses"
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let prefix = Prefix::resource(&GroupResource::new("networking.k8s.io", "ingressclasses"));
        let Some(ingress) = attributes.object.as_deref_mut() else { return Ok(()) };
        let named = ingress.at("spec").get_set("ingressClassName").is_some()
            || ingress.at("metadata").at("annotations").get_set(OLD_CLASS).is_some();
        if named {
            return Ok(());
        }
        let mut defaults: Vec<Value> = self
            .storage
            .snapshot()
            .range(&prefix, None)
            .map(|entry| entry.body.parse())
            .filter(|class| class.at("metadata").at("annotations").str_at(IS_DEFAULT) == "true")
            .collect();
        // The newest; of the same age, the first by name.
        defaults.sort_by(|a, b| {
            let key = |class: &Value| class.at("metadata").str_at("creationTimestamp").to_owned();
            let name = |class: &Value| class.at("metadata").str_at("name").to_owned();
            key(b).cmp(&key(a)).then_with(|| name(a).cmp(&name(b)))
        });
        if let Some(class) = defaults.first() {
            ingress["spec"]["ingressClassName"] = json!(class.at("metadata").str_at("name"));
        }
        Ok(())
    }
}
