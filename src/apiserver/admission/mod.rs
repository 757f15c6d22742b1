//! The admission chain: plugins that change or refuse a write before it is stored.
//!
//! Mutating plugins run after defaulting and before validation, validating ones after it. A plugin
//! is one file and one row of [`PLUGINS`]; a [`Chain`] is of those that are switched on.

mod always_pull_images;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject_restriction;
mod chain;
mod configuration;
mod configurations;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod deny_service_external_ips;
mod device_admin_access;
mod expressions;
mod extended_resource_toleration;
mod limit_ranger;
mod matching;
mod metrics;
mod namespace_lifecycle;
pub mod node_restriction;
mod owner_references_permission_enforcement;
mod persistent_volume_claim_resize;
mod pod_resize_validator;
mod pod_security;
mod pod_topology_labels;
mod policy;
mod priority;
mod reinvocation;
mod resource_quota;
mod role_escalation;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod webhook;

use crate::api::{GroupResource, GroupVersionKind, GroupVersionResource, Status, UserInfo};
use crate::apiserver::authz::{Authorizer, Rbac};
use crate::apiserver::webhook::Client;
use crate::resources::Registry;
use crate::storage::Storage;
pub use chain::Chain;
pub use configuration::Configuration;
pub use metrics::Metrics;
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
    /// What administrators set of single plugins.
    pub configuration: Configuration,
    pub metrics: Arc<Metrics>,
}

impl Sources {
    fn world(&self) -> Arc<matching::World> {
        Arc::new(matching::World::new(self.storage.clone(), self.registry.clone()))
    }

    fn caller(&self) -> webhook::Caller {
        webhook::Caller {
            world: self.world(),
            client: self.webhooks.clone(),
            authorizers: self.authorizers.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// A row of the chain.
pub struct Row {
    /// For `--enable-admission-plugins` and `--disable-admission-plugins`.
    name: &'static str,
    /// Whether it runs without being asked for.
    on: bool,
    steps: Steps,
    make: fn(&Sources) -> Arc<dyn Plugin>,
}

/// Which steps a plugin has.
#[derive(Clone, Copy)]
enum Steps {
    Admits,
    Validates,
    Both,
}

const fn on(name: &'static str, steps: Steps, make: fn(&Sources) -> Arc<dyn Plugin>) -> Row {
    Row { name, on: true, steps, make }
}

const fn off(name: &'static str, steps: Steps, make: fn(&Sources) -> Arc<dyn Plugin>) -> Row {
    Row { name, on: false, steps, make }
}

/// The chain in Kubernetes's order.
pub const PLUGINS: &[Row] = &[
    on("NamespaceLifecycle", Steps::Admits, |sources| Arc::new(namespace_lifecycle::NamespaceLifecycle::new(sources))),
    on("LimitRanger", Steps::Both, |sources| Arc::new(limit_ranger::LimitRanger::new(sources))),
    on("ServiceAccount", Steps::Both, |sources| Arc::new(service_account::ServiceAccount::new(sources))),
    on("NodeRestriction", Steps::Admits, |sources| Arc::new(node_restriction::NodeRestriction::new(sources))),
    on("TaintNodesByCondition", Steps::Admits, |_| Arc::new(taint_nodes_by_condition::TaintNodesByCondition)),
    off("AlwaysPullImages", Steps::Both, |_| Arc::new(always_pull_images::AlwaysPullImages)),
    on("PodSecurity", Steps::Validates, |sources| Arc::new(pod_security::PodSecurity::new(sources))),
    on("Priority", Steps::Both, |sources| Arc::new(priority::Priority::new(sources))),
    on("DefaultTolerationSeconds", Steps::Admits, |_| Arc::new(default_toleration_seconds::DefaultTolerationSeconds)),
    off("ExtendedResourceToleration", Steps::Admits, |_| {
        Arc::new(extended_resource_toleration::ExtendedResourceToleration)
    }),
    on("DefaultStorageClass", Steps::Admits, |sources| {
        Arc::new(default_storage_class::DefaultStorageClass::new(sources))
    }),
    on("StorageObjectInUseProtection", Steps::Admits, |_| {
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection)
    }),
    off("OwnerReferencesPermissionEnforcement", Steps::Validates, |sources| {
        Arc::new(owner_references_permission_enforcement::OwnerReferencesPermissionEnforcement::new(sources))
    }),
    on("PersistentVolumeClaimResize", Steps::Validates, |sources| {
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize::new(sources))
    }),
    on("RuntimeClass", Steps::Both, |sources| Arc::new(runtime_class::RuntimeClass::new(sources))),
    on("CertificateApproval", Steps::Validates, |sources| {
        Arc::new(certificate_approval::CertificateApproval::new(sources))
    }),
    on("CertificateSigning", Steps::Validates, |sources| {
        Arc::new(certificate_signing::CertificateSigning::new(sources))
    }),
    on("CertificateSubjectRestriction", Steps::Validates, |_| {
        Arc::new(certificate_subject_restriction::CertificateSubjectRestriction)
    }),
    on("DefaultIngressClass", Steps::Admits, |sources| {
        Arc::new(default_ingress_class::DefaultIngressClass::new(sources))
    }),
    off("DenyServiceExternalIPs", Steps::Validates, |_| Arc::new(deny_service_external_ips::DenyServiceExternalIps)),
    on("PodTopologyLabels", Steps::Admits, |sources| Arc::new(pod_topology_labels::PodTopologyLabels::new(sources))),
    on("PodResizeValidator", Steps::Validates, |sources| {
        Arc::new(pod_resize_validator::PodResizeValidator::new(sources))
    }),
    on("MutatingAdmissionPolicy", Steps::Admits, |sources| Arc::new(policy::MutatingPolicies::new(sources))),
    on("MutatingAdmissionWebhook", Steps::Admits, |sources| Arc::new(webhook::MutatingWebhooks::new(sources))),
    on("ValidatingAdmissionPolicy", Steps::Validates, |sources| Arc::new(policy::ValidatingPolicies::new(sources))),
    on("ValidatingAdmissionWebhook", Steps::Validates, |sources| Arc::new(webhook::ValidatingWebhooks::new(sources))),
    on("ResourceQuota", Steps::Validates, |sources| Arc::new(resource_quota::ResourceQuota::new(sources))),
];

/// Rows of Kubernetes's chain for what is behind a feature gate that is closed: on or off, they do
/// nothing there either.
const GATED: &[&str] = &[
    "ClusterTrustBundleAttest",
    "JobValidation",
    "NodeDeclaredFeatureValidator",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];

/// Rows of Kubernetes's chain that are off unless they are asked for, and that this server does not
/// have: switching them off is no error.
const ABSENT: &[&str] = &[
    "AlwaysAdmit",
    "AlwaysDeny",
    "EventRateLimit",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "PodNodeSelector",
    "PodTolerationRestriction",
];

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

/// A create or an update of the objects themselves.
fn is_write(operation: Operation, resource: &GroupVersionResource, subresource: &str, plural: &str) -> bool {
    matches!(operation, Operation::Create | Operation::Update) && subresource.is_empty() && is_core(resource, plural)
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
