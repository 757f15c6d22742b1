//! Nobody hands out rights that he does not have: writes of roles and bindings.
//!
//! Not in Kubernetes's chain, where the storage of these kinds does it; always on.

use super::{Attributes, Operation, Plugin, Sources, items, text};
use crate::api::user::SYSTEM_MASTERS;
use crate::api::{GroupResource, GroupVersionResource, Status};
use crate::apiserver::authz::rbac::{GROUP, Rule, confirm_no_escalation};
use crate::apiserver::authz::{self, Authorizer, Decision, Rbac, ResourceAttributes};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

pub struct RoleEscalation {
    authorizers: Vec<Arc<dyn Authorizer>>,
    rbac: Arc<Rbac>,
    storage: Arc<dyn Storage>,
}

impl RoleEscalation {
    pub fn new(sources: &Sources) -> Self {
        Self { authorizers: sources.authorizers.clone(), rbac: sources.rbac.clone(), storage: sources.storage.clone() }
    }

    async fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let resource = ResourceAttributes {
            group: GROUP,
            version: "v1",
            resource,
            namespace: attributes.namespace,
            name,
            ..ResourceAttributes::default()
        };
        let asked = authz::Attributes { user: attributes.user, verb, resource: Some(resource), path: "" };
        matches!(authz::decide(&self.authorizers, &asked).await, Decision::Allow(_))
    }

    fn confirm(&self, attributes: &Attributes<'_>, rules: &[Rule]) -> Result<(), String> {
        confirm_no_escalation(&self.rbac, attributes.user, attributes.namespace, rules)
    }

    async fn check_role(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        if self.may(attributes, "escalate", &attributes.resource.resource, attributes.name).await {
            return Ok(());
        }
        let rules: Vec<Rule> = serde_json::from_value(object["rules"].clone()).unwrap_or_default();
        self.confirm(attributes, &rules).map_err(|reason| attributes.forbidden(&reason))?;
        let aggregates = !items(&object["aggregationRule"]["clusterRoleSelectors"]).is_empty();
        if aggregates && self.confirm(attributes, &full_authority()).is_err() {
            return Err(attributes.forbidden("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    /// The rules of a role as it is now: who has just made one may bind it.
    /// What is not found is said to be a binding.
    fn rules(&self, kind: &str, plural: &str, attributes: &Attributes<'_>, name: &str) -> Result<Vec<Rule>, Status> {
        let namespace = if kind == "ClusterRole" { "" } else { attributes.namespace };
        let entry = self.storage.get(&Key::new(&GroupResource::new(GROUP, plural), namespace, name));
        let missing = || Status::not_found(&GroupResource::new(GROUP, &attributes.resource.resource), name);
        let entry = entry.ok_or_else(missing)?;
        match entry.body.parse()["rules"].take() {
            Value::Null => Ok(Vec::new()),
            rules => serde_json::from_value(rules)
                .map_err(|error| Status::internal(format!("rules of {plural} {name}: {error}"))),
        }
    }

    async fn check_binding(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let (kind, name) = (text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
        let resource = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation says so.
            _ => return Ok(()),
        };
        if self.may(attributes, "bind", resource, name).await {
            return Ok(());
        }
        let rules = self.rules(kind, resource, attributes, name)?;
        self.confirm(attributes, &rules).map_err(|reason| attributes.forbidden(&reason))
    }
}

fn full_authority() -> [Rule; 2] {
    let all = || -> Box<[Box<str>]> { Box::new(["*".into()]) };
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// Whether nothing changes but what garbage collection works with.
fn only_references(object: &Value, old: &Value) -> bool {
    const FIELDS: &[&str] = &["ownerReferences", "finalizers", "managedFields"];
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !FIELDS.contains(&field.as_str()));
        }
        object
    };
    rest(object) == rest(old)
}

#[async_trait]
impl Plugin for RoleEscalation {
    fn name(&self) -> &'static str {
        "RoleEscalation"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, _subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && resource.group == GROUP
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(object) = attributes.object.as_deref() else { return Ok(()) };
        if attributes.user.groups.iter().any(|group| group == SYSTEM_MASTERS) {
            return Ok(());
        }
        if let Some(old) = attributes.old_object
            && only_references(object, old)
        {
            return Ok(());
        }
        match attributes.resource.resource.as_str() {
            "roles" | "clusterroles" => self.check_role(attributes, object).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(attributes, object).await,
            _ => Ok(()),
        }
    }
}
