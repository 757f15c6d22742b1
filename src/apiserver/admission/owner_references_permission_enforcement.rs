//! OwnerReferencesPermissionEnforcement: who sets owners may delete the object, and who blocks the
//! deletion of an owner may set its finalizers.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::field::go_quote;
use crate::api::value::same;
use crate::api::{Fields, GroupVersionKind, GroupVersionResource, Status};
use crate::apiserver::authz::{self, Authorizer, Decision, ResourceAttributes};
use crate::resources::Registry;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

pub struct OwnerReferencesPermissionEnforcement {
    authorizers: Vec<Arc<dyn Authorizer>>,
    registry: Arc<Registry>,
}

impl OwnerReferencesPermissionEnforcement {
    pub fn new(sources: &Sources) -> Self {
        Self { authorizers: sources.authorizers.clone(), registry: sources.registry.clone() }
    }

    /// Err: the reason why not.
    async fn ask(
        &self,
        attributes: &Attributes<'_>,
        verb: &str,
        resource: ResourceAttributes<'_>,
    ) -> Result<(), String> {
        let asked = authz::Attributes { user: attributes.user, verb, resource: Some(resource), path: "" };
        match authz::decide(&self.authorizers, &asked).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(reason),
        }
    }

    async fn check_owner(&self, attributes: &Attributes<'_>, owner: &Value) -> Result<(), Status> {
        let (api_version, kind) = (owner.str_at("apiVersion"), owner.str_at("kind"));
        let Some(row) = self.registry.rows().by_kind(&GroupVersionKind::from_api_version(api_version, kind)).cloned()
        else {
            return Err(attributes.forbidden(&format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                 {api_version} Kind {kind}: no matches for kind {} in version {}",
                go_quote(kind),
                go_quote(api_version)
            )));
        };
        let finalizers = ResourceAttributes {
            group: &row.group,
            version: &row.version,
            resource: &row.plural,
            subresource: "finalizers",
            // The owner of something is in the same namespace.
            namespace: if row.namespaced { attributes.namespace } else { "" },
            name: owner.str_at("name"),
            ..ResourceAttributes::default()
        };
        self.ask(attributes, "update", finalizers).await.map_err(|reason| {
            attributes.forbidden(&format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: \
                 {reason}, <nil>"
            ))
        })
    }
}

fn owners(object: Option<&Value>) -> &[Value] {
    object.map_or(&[], |object| object.at("metadata").list_at("ownerReferences"))
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        // The status of a pod cannot change its owners.
        matches!(operation, Operation::Create | Operation::Update)
            && !(is_core(resource, "pods") && subresource == "status")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (new, old) = (owners(attributes.object.as_deref()), owners(attributes.old_object));
        if new.len() == old.len() && new.iter().zip(old).all(|(new, old)| same(new, old)) {
            return Ok(());
        }
        // Who creates something need not have made it: the owner is his to choose.
        if attributes.operation != Operation::Create {
            let deletion = ResourceAttributes {
                group: &attributes.resource.group,
                version: &attributes.resource.version,
                resource: &attributes.resource.resource,
                subresource: attributes.subresource,
                namespace: attributes.namespace,
                name: attributes.name,
                ..ResourceAttributes::default()
            };
            self.ask(attributes, "delete", deletion).await.map_err(|reason| {
                attributes.forbidden(&format!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>"))
            })?;
        }
        let was_blocking = |owner: &Value| {
            old.iter().any(|known| known.str_at("uid") == owner.str_at("uid") && known.bool_at("blockOwnerDeletion"))
        };
        let blocking: Vec<&Value> =
            new.iter().filter(|owner| owner.bool_at("blockOwnerDeletion") && !was_blocking(owner)).collect();
        if blocking.is_empty() {
            return Ok(());
        }
        let anything = ResourceAttributes {
            group: "*",
            version: "*",
            resource: "*",
            subresource: "finalizers",
            name: "*",
            ..ResourceAttributes::default()
        };
        if self.ask(attributes, "update", anything).await.is_ok() {
            return Ok(());
        }
        for owner in blocking {
            self.check_owner(attributes, owner).await?;
        }
        Ok(())
    }
}
