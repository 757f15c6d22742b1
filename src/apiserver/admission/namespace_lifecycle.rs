//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going away, and some
//! namespaces stay.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::status::StatusCause;
use crate::api::{GroupResource, GroupVersionResource, Status};
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde::Deserialize;
use std::sync::Arc;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    storage: Arc<dyn Storage>,
    namespaces: Projection<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    status: NamespaceStatus,
}

#[derive(Default, Deserialize)]
struct NamespaceStatus {
    #[serde(default)]
    phase: String,
}

impl NamespaceLifecycle {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone(), namespaces: Projection::new(parse_json) }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, _subresource: &str) -> bool {
        match operation {
            Operation::Create | Operation::Update => {
                !(resource.group == "authorization.k8s.io" && resource.resource == "localsubjectaccessreviews")
            }
            Operation::Delete => is_core(resource, "namespaces"),
            Operation::Connect => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.is_core("namespaces") {
            return if attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
                let reason = "this namespace may not be deleted";
                Err(Status::forbidden(&attributes.group_resource(), attributes.name, reason))
            } else {
                Ok(())
            };
        }
        let name = attributes.namespace;
        if name.is_empty() {
            return Ok(());
        }
        let namespaces = GroupResource::new("", "namespaces");
        let Some(namespace) = self.namespaces.get(&*self.storage, &Key::new(&namespaces, "", name)) else {
            return Err(Status::not_found(&namespaces, name));
        };
        if attributes.operation != Operation::Create || namespace.status.phase != "Terminating" {
            return Ok(());
        }
        let reason = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut status = attributes.forbidden(&reason);
        status.details.get_or_insert_default().causes.push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        Err(status)
    }
}
