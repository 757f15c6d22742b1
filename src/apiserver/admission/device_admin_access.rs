//! Administrative access to devices in use: only in namespaces that are labelled for it.
//!
//! Not in Kubernetes's chain, where the storage of claims does it; always on.

use super::{Attributes, Operation, Plugin, Sources};
use crate::api::{ErrorList, Fields, GroupResource, GroupVersionResource, Path, Report, Status};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const LABEL: &str = "resource.kubernetes.io/admin-access";

pub struct DeviceAdminAccess {
    storage: Arc<dyn Storage>,
}

impl DeviceAdminAccess {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }

    fn is_labelled(&self, namespace: &str) -> bool {
        let key = Key::new(&GroupResource::new("", "namespaces"), "", namespace);
        let namespace = self.storage.get(&key).map(|entry| entry.body.parse());
        namespace.is_some_and(|namespace| namespace.at("metadata").at("labels").str_at(LABEL) == "true")
    }
}

fn first(list: &[Value], wants: impl Fn(&Value) -> bool) -> Option<usize> {
    list.iter().position(wants)
}

/// Where an object asks for the access. An allocation that had it keeps it.
fn asked(attributes: &Attributes<'_>) -> Option<String> {
    let object = attributes.object.as_deref()?;
    let exactly = |request: &Value| request.at("exactly").bool_at("adminAccess");
    let granted = |result: &Value| result.bool_at("adminAccess");
    let results = |object: &Value| object.at("status").at("allocation").at("devices").list_at("results").to_vec();
    let (list, index) = match (attributes.resource.resource.as_str(), attributes.operation) {
        ("resourceclaims", Operation::Create) => {
            ("spec.devices.requests", first(object.at("spec").at("devices").list_at("requests"), exactly))
        }
        ("resourceclaimtemplates", Operation::Create) => {
            ("spec.devices.requests", first(object.at("spec").at("spec").at("devices").list_at("requests"), exactly))
        }
        ("resourceclaims", Operation::Update) if attributes.subresource == "status" => {
            let had = attributes.old_object.is_some_and(|old| results(old).iter().any(granted));
            let index = if had { None } else { first(&results(object), granted) };
            ("status.allocation.devices.results", index)
        }
        _ => return None,
    };
    index.map(|index| format!("{list}[{index}].adminAccess"))
}

#[async_trait]
impl Plugin for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && matches!(subresource, "" | "status")
            && resource.group == "resource.k8s.io"
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(field) = asked(attributes).filter(|_| !self.is_labelled(attributes.namespace)) else {
            return Ok(());
        };
        let mut errors = ErrorList::new();
        let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
        errors.forbidden(&Path::new(&field), detail);
        Err(Status::invalid(attributes.kind, attributes.name, &errors))
    }
}
