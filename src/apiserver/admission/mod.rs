//! The admission chain: plugins that change or refuse a write before it is stored.
//!
//! Mutating plugins run after defaulting and before validation, validating ones after it. A plugin
//! is one file and one row of [`PLUGINS`]; [`chain`] picks those that are switched on.

mod certificate_approval;
mod certificate_signing;
mod certificate_subject_restriction;
mod configurations;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod expressions;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
pub mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_security;
mod policy;
mod priority;
mod reinvocation;
mod resource_quota;
mod role_escalation;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod webhook;

use crate::api::{GroupResource, GroupVersionKind, GroupVersionResource, Status, UserInfo};
use crate::apiserver::authz::{Authorizer, Rbac};
use crate::apiserver::webhook::Client;
use crate::resources::Registry;
use crate::storage::Storage;
pub use reinvocation::Reinvocation;

use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

/// What plugins may look at.
#[derive(Clone)]
pub struct Sources {
    pub storage: Arc<dyn Storage>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub rbac: Arc<Rbac>,
    pub registry: Arc<Registry>,
    pub webhooks: Arc<Client>,
}

impl Sources {
    fn world(&self) -> Arc<matching::World> {
        Arc::new(matching::World::new(self.storage.clone(), self.registry.clone()))
    }

    fn caller(&self) -> webhook::Caller {
        webhook::Caller { world: self.world(), client: self.webhooks.clone(), authorizers: self.authorizers.clone() }
    }
}

/// A row of the chain: its name for `--enable-admission-plugins` and `--disable-admission-plugins`,
/// and how it is made.
pub type Row = (&'static str, fn(&Sources) -> Arc<dyn Plugin>);

/// The chain in Kubernetes's order; all are on unless they are switched off.
pub const PLUGINS: &[Row] = &[
    ("NamespaceLifecycle", |sources| Arc::new(namespace_lifecycle::NamespaceLifecycle::new(sources))),
    ("LimitRanger", |sources| Arc::new(limit_ranger::LimitRanger::new(sources))),
    ("ServiceAccount", |sources| Arc::new(service_account::ServiceAccount::new(sources))),
    ("NodeRestriction", |sources| Arc::new(node_restriction::NodeRestriction::new(sources))),
    ("TaintNodesByCondition", |_| Arc::new(taint_nodes_by_condition::TaintNodesByCondition)),
    ("PodSecurity", |sources| Arc::new(pod_security::PodSecurity::new(sources))),
    ("Priority", |sources| Arc::new(priority::Priority::new(sources))),
    ("DefaultTolerationSeconds", |_| Arc::new(default_toleration_seconds::DefaultTolerationSeconds)),
    ("DefaultStorageClass", |sources| Arc::new(default_storage_class::DefaultStorageClass::new(sources))),
    ("StorageObjectInUseProtection", |_| Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection)),
    ("PersistentVolumeClaimResize", |sources| {
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize::new(sources))
    }),
    ("CertificateApproval", |sources| Arc::new(certificate_approval::CertificateApproval::new(sources))),
    ("CertificateSigning", |sources| Arc::new(certificate_signing::CertificateSigning::new(sources))),
    ("CertificateSubjectRestriction", |_| Arc::new(certificate_subject_restriction::CertificateSubjectRestriction)),
    ("DefaultIngressClass", |sources| Arc::new(default_ingress_class::DefaultIngressClass::new(sources))),
    ("MutatingAdmissionPolicy", |sources| Arc::new(policy::MutatingPolicies::new(sources))),
    ("MutatingAdmissionWebhook", |sources| Arc::new(webhook::MutatingWebhooks::new(sources))),
    ("ValidatingAdmissionPolicy", |sources| Arc::new(policy::ValidatingPolicies::new(sources))),
    ("ValidatingAdmissionWebhook", |sources| Arc::new(webhook::ValidatingWebhooks::new(sources))),
    ("ResourceQuota", |sources| Arc::new(resource_quota::ResourceQuota::new(sources))),
];

/// Rows of Kubernetes's chain that this server does not have; switching them off is no error.
const OTHERS: &[&str] = &[
    "AlwaysPullImages",
    "ClusterTrustBundleAttest",
    "DenyServiceExternalIPs",
    "OwnerReferencesPermissionEnforcement",
    "PodTopologyLabels",
    "RuntimeClass",
];

/// The plugins that run. `Err`: a name that is not known, or one that cannot be switched on.
pub fn chain(sources: &Sources, enable: &[String], disable: &[String]) -> Result<Vec<Arc<dyn Plugin>>, String> {
    let known = |name: &String| PLUGINS.iter().any(|(known, _)| known == name);
    let list = || PLUGINS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    for name in enable {
        if disable.contains(name) {
            return Err(format!("admission plugin {name} is both enabled and disabled"));
        }
        if !known(name) {
            return Err(format!("enable-admission-plugins: {name} is not known; there are {}", list()));
        }
    }
    for name in disable {
        if !known(name) && !OTHERS.contains(&name.as_str()) {
            return Err(format!("disable-admission-plugins: {name} is not known; there are {}", list()));
        }
    }
    let rows = PLUGINS.iter().filter(|(name, _)| !disable.iter().any(|off| off == name));
    // Nobody may hand out rights that he does not have, whatever is switched off.
    let mut plugins: Vec<Arc<dyn Plugin>> = vec![Arc::new(role_escalation::RoleEscalation::new(sources))];
    plugins.extend(rows.map(|(_, make)| make(sources)));
    Ok(plugins)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation,
    pub kind: &'a GroupVersionKind,
    pub resource: &'a GroupVersionResource,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// Empty: cluster-scoped.
    pub namespace: &'a str,
    /// Empty until generateName is resolved.
    pub name: &'a str,
    /// None on delete; on connect the options.
    pub object: Option<&'a mut Value>,
    /// On update and delete.
    pub old_object: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, DeleteOptions.
    pub options: &'a Value,
    pub dry_run: bool,
    /// `Warning:` headers for the reply.
    pub warnings: &'a mut Vec<String>,
    /// What has run already, where the chain runs again.
    pub reinvocation: Reinvocation,
}

/// One plugin. Both steps let everything pass unless they say otherwise.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// Whether it cares for such a write; asked first, so that the rest costs nothing.
    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool;

    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Attributes<'_> {
    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// Core group and this plural.
    fn is_core(&self, plural: &str) -> bool {
        is_core(self.resource, plural)
    }

    /// The 403 of a plugin, about the object.
    fn forbidden(&self, reason: &str) -> Status {
        let metadata = self.object.as_ref().map(|object| &object["metadata"]);
        let text = |field: &str| metadata.and_then(|metadata| metadata[field].as_str()).unwrap_or_default();
        // The name may not be generated yet.
        let name = [self.name, text("name"), text("generateName"), "Unknown"]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        Status::forbidden(&self.group_resource(), name, reason)
    }
}

fn is_core(resource: &GroupVersionResource, plural: &str) -> bool {
    resource.group.is_empty() && resource.resource == plural
}

/// The text at a path; empty: none.
fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list; none where there is no list.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The list at a field, made where it is missing.
fn list_mut<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let value = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut()
}

#[cfg(test)]
mod tests;
