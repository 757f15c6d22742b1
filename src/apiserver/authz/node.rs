//! The Node authorizer: a kubelet reads what its own pods need, and nothing else.
//!
//! An index of pods by node tells which secrets, configmaps, claims and service accounts a node
//! may ask for; it follows the store. Leases, CSINodes and the Node itself are known by name.
//! Source: "Using Node Authorization", and `plugin/pkg/auth/authorizer/node`.

mod graph;

use super::rbac::Rule;
use super::{Attributes, Authorizer, Decision, ResourceAttributes};
use crate::api::field::go_quote;
use crate::api::user::SYSTEM_NODES;
use crate::api::{GroupResource, UserInfo};
use crate::apiserver::bootstrap;
use crate::apiserver::follow::{Following, Projection, follow, parse_json};
use crate::storage::{Key, Prefix, Storage};
use async_trait::async_trait;
use graph::{Graph, Kind};
use parking_lot::RwLock;
use serde::Deserialize;
use std::sync::Arc;

/// The node that a user is. `Some("")`: of the group, but without a name that tells which.
pub fn node_identity(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.groups.iter().any(|group| group == SYSTEM_NODES).then_some(name)
}

pub struct NodeAuthorizer {
    storage: Arc<dyn Storage>,
    graph: Arc<RwLock<Graph>>,
    volumes: Projection<PersistentVolume>,
    on_node: Projection<OnNode>,
    /// What every node may do.
    rules: Vec<Rule>,
    _following: Following,
}

#[derive(Deserialize)]
struct PersistentVolume {
    #[serde(default)]
    spec: PersistentVolumeSpec,
}

#[derive(Default, Deserialize)]
struct PersistentVolumeSpec {
    #[serde(default, rename = "claimRef")]
    claim: ClaimRef,
}

#[derive(Default, Deserialize)]
struct ClaimRef {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// VolumeAttachment and ResourceSlice.
#[derive(Deserialize)]
struct OnNode {
    #[serde(default)]
    spec: OnNodeSpec,
}

#[derive(Default, Deserialize)]
struct OnNodeSpec {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

fn allow() -> Decision {
    Decision::Allow(String::new())
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

impl NodeAuthorizer {
    /// Must be called on a tokio runtime.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        let graph: Arc<RwLock<Graph>> = Arc::default();
        let following = {
            let graph = graph.clone();
            let prefix = Prefix::resource(&GroupResource::new("", "pods"));
            follow(storage.clone(), prefix, move |update| graph.write().apply(update))
        };
        Self {
            storage,
            graph,
            volumes: Projection::new(parse_json),
            on_node: Projection::new(parse_json),
            rules: bootstrap::cluster_role_rules("system:node"),
            _following: following,
        }
    }

    fn related(&self, node: &str, kind: Kind, resource: &ResourceAttributes<'_>) -> Decision {
        if resource.name.is_empty() {
            return no("No Object name found");
        }
        let (namespace, name) = (resource.namespace, resource.name);
        let key = |group: &str, plural: &str| Key::new(&GroupResource::new(group, plural), "", name);
        let on_node =
            |key: Key| self.on_node.get(&*self.storage, &key).is_some_and(|object| object.spec.node_name == node);
        let related = match kind {
            Kind::PersistentVolume => {
                let volume = self.volumes.get(&*self.storage, &key("", "persistentvolumes"));
                volume.is_some_and(|volume| {
                    let claim = &volume.spec.claim;
                    self.graph.read().has(node, Kind::Claim, &claim.namespace, &claim.name)
                })
            }
            Kind::VolumeAttachment => on_node(key("storage.k8s.io", "volumeattachments")),
            Kind::ResourceSlice => on_node(key("resource.k8s.io", "resourceslices")),
            kind => self.graph.read().has(node, kind, namespace, name),
        };
        if related { allow() } else { no(format!("no relationship found between node '{node}' and this object")) }
    }

    fn read_namespaced(&self, node: &str, verb: &str, kind: Kind, resource: &ResourceAttributes<'_>) -> Decision {
        if !matches!(verb, "get" | "list" | "watch") {
            no("can only read resources of this type")
        } else if !resource.subresource.is_empty() {
            no("cannot read subresource")
        } else if resource.namespace.is_empty() {
            no("can only read namespaced object of this type")
        } else {
            self.related(node, kind, resource)
        }
    }

    fn get(&self, node: &str, verb: &str, kind: Kind, resource: &ResourceAttributes<'_>) -> Decision {
        if verb != "get" {
            no("can only get individual resources of this type")
        } else if !resource.subresource.is_empty() {
            no("cannot get subresource")
        } else {
            self.related(node, kind, resource)
        }
    }

    fn claim(&self, node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
        match (resource.subresource, verb) {
            ("status", "update" | "patch") => self.related(node, Kind::Claim, resource),
            ("status", _) => no("can only get/update/patch this type"),
            _ => self.get(node, verb, Kind::Claim, resource),
        }
    }

    fn service_account(&self, node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
        if verb == "get" && resource.subresource.is_empty() {
            self.read_namespaced(node, verb, Kind::ServiceAccount, resource)
        } else if verb != "create" || resource.name.is_empty() {
            no("can only create tokens for individual service accounts")
        } else if resource.subresource != "token" {
            no("can only create token subresource of serviceaccount")
        } else {
            self.related(node, Kind::ServiceAccount, resource)
        }
    }

    fn resource_slice(&self, node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
        if !resource.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match verb {
            // NodeRestriction looks at the object.
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::ResourceSlice, resource),
            "watch" | "list" | "deletecollection" => {
                if selects(resource.field_selector, "spec.nodeName", node) {
                    allow()
                } else {
                    no("can only list/watch/deletecollection resourceslices with nodeName field selector")
                }
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
        match (resource.subresource, verb) {
            ("", "get") => self.get(node, verb, Kind::Pod, resource),
            ("", "list" | "watch") => {
                if selects(resource.field_selector, "spec.nodeName", node) {
                    allow()
                } else if !resource.name.is_empty() {
                    self.related(node, Kind::Pod, resource)
                } else {
                    no("can only list/watch pods with spec.nodeName field selector")
                }
            }
            // Mirror pods, the status of its own pods, evictions: NodeRestriction looks at the object.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => no(""),
        }
    }
}

fn node(node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
    match (resource.subresource, verb) {
        // NodeRestriction looks at the object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") => match resource.name {
            name if name == node => allow(),
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => no(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

fn lease(node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        no("can only get, create, update, patch, or delete a node lease")
    } else if resource.namespace != "kube-node-lease" {
        no(format!("can only access leases in the {} system namespace", go_quote("kube-node-lease")))
    } else if verb != "create" && resource.name != node {
        no("can only access node lease with the same name as the requesting node")
    } else {
        allow()
    }
}

fn csi_node(node: &str, verb: &str, resource: &ResourceAttributes<'_>) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        no("can only get, create, update, patch, or delete a CSINode")
    } else if !resource.subresource.is_empty() {
        no("cannot authorize CSINode subresources")
    } else if verb != "create" && resource.name != node {
        no("can only access CSINode with the same name as the requesting node")
    } else {
        allow()
    }
}

/// Whether a field selector asks for exactly this value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        let (name, wanted) = match term.split_once("==") {
            Some(pair) => pair,
            None => term.split_once('=').unwrap_or((term, "")),
        };
        name == field && wanted == value
    })
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(name) = node_identity(attributes.user) else { return no("") };
        if name.is_empty() {
            return no(format!("unknown node for user {}", go_quote(&attributes.user.name)));
        }
        let verb = attributes.verb;
        if let Some(resource) = &attributes.resource {
            match (resource.group, resource.resource) {
                ("", "secrets") => return self.read_namespaced(name, verb, Kind::Secret, resource),
                ("", "configmaps") => return self.read_namespaced(name, verb, Kind::ConfigMap, resource),
                ("", "persistentvolumeclaims") => return self.claim(name, verb, resource),
                ("", "persistentvolumes") => return self.get(name, verb, Kind::PersistentVolume, resource),
                ("resource.k8s.io", "resourceclaims") => return self.get(name, verb, Kind::ResourceClaim, resource),
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(name, verb, Kind::VolumeAttachment, resource);
                }
                ("", "serviceaccounts") => return self.service_account(name, verb, resource),
                ("coordination.k8s.io", "leases") => return lease(name, verb, resource),
                ("storage.k8s.io", "csinodes") => return csi_node(name, verb, resource),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(name, verb, resource),
                ("", "nodes") => return node(name, verb, resource),
                ("", "pods") => return self.pod(name, verb, resource),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(attributes)) { allow() } else { no("") }
    }
}

#[cfg(test)]
mod tests;
