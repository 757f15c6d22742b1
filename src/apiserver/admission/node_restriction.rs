//! NodeRestriction: a kubelet writes its own Node, the pods bound to it, and nothing that would
//! draw other work or secrets to it. Source: `plugin/pkg/admission/noderestriction`.

pub mod labels;

use super::service_account::{CONFIG_MAPS, MIRROR, SECRETS, is_mirror, references};
use super::{Attributes, Operation, Plugin, Sources, certificate_subject_restriction, items, text};
use crate::api::field::go_quote;
use crate::api::{GroupResource, GroupVersionResource, Status};
use crate::apiserver::authz::{self, Authorizer, Decision, ResourceAttributes, node_identity};
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const LEASE_NAMESPACE: &str = "kube-node-lease";

pub struct NodeRestriction {
    storage: Arc<dyn Storage>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    /// Whole, for the few that nodes ask about.
    objects: Projection<Value>,
}

type Refusal = Result<(), String>;

impl NodeRestriction {
    pub fn new(sources: &Sources) -> Self {
        let (storage, authorizers) = (sources.storage.clone(), sources.authorizers.clone());
        Self { storage, authorizers, objects: Projection::new(parse_json) }
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        self.find(GroupResource::new("", resource), namespace, name)
    }

    fn find(&self, resource: GroupResource, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        self.objects
            .get(&*self.storage, &Key::new(&resource, namespace, name))
            .ok_or_else(|| Status::not_found(&resource, name))
    }

    fn admit_pod(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
        match attributes.operation {
            Operation::Create => {
                let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
                mirror_pod(node, pod).map_err(|reason| attributes.forbidden(&reason))?;
                let owner = &pod["metadata"]["ownerReferences"][0];
                let found = self.get("nodes", "", node)?;
                let (given, own) = (text(owner, "/uid"), text(&found, "/metadata/uid"));
                if given != own {
                    let reason = format!("node {node} UID mismatch: expected {given} got {own}");
                    return Err(attributes.forbidden(&reason));
                }
                no_references(node, pod).map_err(|reason| attributes.forbidden(&reason))
            }
            Operation::Delete => {
                let pod = self.get("pods", attributes.namespace, attributes.name)?;
                if text(&pod, "/spec/nodeName") == node {
                    return Ok(());
                }
                let node = go_quote(node);
                Err(attributes.forbidden(&format!("node {node} can only delete pods with spec.nodeName set to itself")))
            }
            operation => Err(attributes.forbidden(&format!(
                "unexpected operation {}, node {} can only create and delete mirror pods",
                go_quote(name_of(operation)),
                go_quote(node)
            ))),
        }
    }

    fn admit_eviction(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
        let name = match (attributes.name, attributes.object.as_deref()) {
            ("", Some(eviction)) => text(eviction, "/metadata/name"),
            (name, _) => name,
        };
        if name.is_empty() {
            return Err(attributes.forbidden("could not determine pod from request data"));
        }
        let pod = self.get("pods", attributes.namespace, name)?;
        if text(&pod, "/spec/nodeName") == node {
            return Ok(());
        }
        Err(attributes.forbidden(&format!("node {node} can only evict pods with spec.nodeName set to itself")))
    }

    async fn admit_token(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(request) = attributes.object.as_deref() else { return Ok(()) };
        let bound = &request["spec"]["boundObjectRef"];
        let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
        if text(bound, "/apiVersion") != "v1" || text(bound, "/kind") != "Pod" || name.is_empty() {
            return Err(attributes.forbidden("node requested token not bound to a pod"));
        }
        if uid.is_empty() {
            return Err(attributes.forbidden("node requested token with a pod binding without a uid"));
        }
        let pod = self.get("pods", attributes.namespace, name)?;
        if text(&pod, "/metadata/uid") != uid {
            return Err(attributes.forbidden(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            )));
        }
        if text(&pod, "/spec/nodeName") != node {
            return Err(attributes.forbidden("node requested token bound to a pod scheduled on a different node"));
        }
        let audience = match items(&request["spec"]["audiences"]) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err(attributes.forbidden("node may only request 0 or 1 audiences")),
        };
        if self.names_audience(&pod, audience) {
            return Ok(());
        }
        let resource = ResourceAttributes {
            version: "v1",
            resource: audience,
            namespace: attributes.namespace,
            name: attributes.name,
            ..ResourceAttributes::default()
        };
        let verb = "request-serviceaccounts-token-audience";
        let asked = authz::Attributes { user: attributes.user, verb, resource: Some(resource), path: "" };
        if let Decision::Allow(_) = authz::decide(&self.authorizers, &asked).await {
            return Ok(());
        }
        Err(attributes.forbidden(&format!(
            "audience {} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            go_quote(audience),
            attributes.user.name
        )))
    }

    /// Whether a volume of the pod wants tokens for the audience: itself, or by its CSI driver.
    fn names_audience(&self, pod: &Value, audience: &str) -> bool {
        let namespace = text(pod, "/metadata/namespace");
        let wants = |requests: &[Value]| requests.iter().any(|request| text(request, "/audience") == audience);
        items(&pod["spec"]["volumes"]).iter().any(|volume| {
            let sources = items(&volume["projected"]["sources"]).iter();
            let mut tokens = sources.filter_map(|source| source.get("serviceAccountToken"));
            if tokens.any(|token| text(token, "/audience") == audience) {
                return true;
            }
            let driver = self.driver(pod, volume, namespace);
            let found = driver
                .and_then(|driver| self.find(GroupResource::new("storage.k8s.io", "csidrivers"), "", &driver).ok());
            found.is_some_and(|driver| wants(items(&driver["spec"]["tokenRequests"])))
        })
    }

    /// The CSI driver of a volume.
    fn driver(&self, pod: &Value, volume: &Value, namespace: &str) -> Option<String> {
        if let Some(inline) = volume.get("csi") {
            return Some(text(inline, "/driver").to_owned());
        }
        let claim = match (volume.get("ephemeral"), volume.get("persistentVolumeClaim")) {
            (Some(_), _) => format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")),
            (None, Some(claim)) => text(claim, "/claimName").to_owned(),
            (None, None) => return None,
        };
        let claim = self.get("persistentvolumeclaims", namespace, &claim).ok()?;
        let volume = self.get("persistentvolumes", "", text(&claim, "/spec/volumeName")).ok()?;
        Some(volume["spec"].get("csi")?["driver"].as_str()?.to_owned())
    }
}

fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The image in the API of a pod that the node runs by itself.
fn mirror_pod(node: &str, pod: &Value) -> Refusal {
    let quoted = go_quote(node);
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {} annotation, node {quoted} can only create mirror pods",
            go_quote(MIRROR)
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!("node {quoted} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match items(&pod["metadata"]["ownerReferences"]) {
        [] => return Err(format!("node {quoted} can only create pods with an owner reference set to itself")),
        [owner] => owner,
        _ => return Err(format!("node {quoted} can only create pods with a single owner reference set to itself")),
    };
    if text(owner, "/apiVersion") != "v1" || text(owner, "/kind") != "Node" || text(owner, "/name") != node {
        return Err(format!("node {quoted} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Err(format!("node {quoted} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {quoted} must not set blockOwnerDeletion on an owner reference"));
    }
    Ok(())
}

fn no_references(node: &str, pod: &Value) -> Refusal {
    let spec = &pod["spec"];
    let volumes = || items(&spec["volumes"]).iter();
    let what = if !text(spec, "/serviceAccountName").is_empty() {
        "a service account"
    } else if references(spec, SECRETS) {
        "secrets"
    } else if references(spec, CONFIG_MAPS) {
        "configmaps"
    } else if volumes()
        .flat_map(|volume| items(&volume["projected"]["sources"]))
        .any(|source| source.get("clusterTrustBundle").is_some())
    {
        "clustertrustbundles"
    } else if volumes().any(|volume| volume.get("persistentVolumeClaim").is_some()) {
        "persistentvolumeclaims"
    } else {
        return Ok(());
    };
    Err(format!("node {} can not create pods that reference {what}", go_quote(node)))
}

fn admit_pod_status(node: &str, attributes: &Attributes<'_>) -> Refusal {
    if attributes.operation != Operation::Update {
        return Err(format!("unexpected operation {}", go_quote(name_of(attributes.operation))));
    }
    let (Some(pod), Some(old)) = (attributes.object.as_deref(), attributes.old_object) else { return Ok(()) };
    let node_name = text(old, "/spec/nodeName");
    let node_quoted = go_quote(node);
    if node_name != node {
        return Err(format!("node {node_quoted} can only update pod status for pods with spec.nodeName set to itself"));
    }
    let labels = |pod: &Value| pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if labels(pod) != labels(old) {
        return Err(format!("node {node_quoted} cannot update labels through pod status"));
    }
    let claims = |pod: &Value| items(&pod["status"]["resourceClaimStatuses"]).to_vec();
    if claims(pod) != claims(old) {
        return Err(format!("node {node_quoted} cannot update resource claim statues"));
    }
    Ok(())
}

fn admit_claim_status(node: &str, attributes: &Attributes<'_>) -> Refusal {
    if attributes.subresource != "status" {
        return Err("may only update PVC status".to_owned());
    }
    let (Some(claim), Some(old)) = (attributes.object.as_deref(), attributes.old_object) else { return Ok(()) };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            claim["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            claim["status"].as_object_mut().map(|status| status.remove(field));
        }
        claim
    };
    if rest(claim) == rest(old) {
        return Ok(());
    }
    let node = go_quote(node);
    Err(format!("node {node} is not allowed to update fields other than status.capacity and status.conditions"))
}

fn admit_node(node: &str, attributes: &Attributes<'_>) -> Refusal {
    let object = attributes.object.as_deref();
    let name = match (attributes.name, object) {
        ("", Some(object)) => text(object, "/metadata/name"),
        (name, _) => name,
    };
    let quoted = go_quote(node);
    if name != node {
        return Err(format!("node {quoted} is not allowed to modify node {}", go_quote(name)));
    }
    let Some(object) = object else { return Ok(()) };
    let source = &object["spec"]["configSource"];
    match attributes.operation {
        Operation::Create => {
            if !source.is_null() {
                return Err(format!("node {quoted} is not allowed to create pods with a non-nil configSource"));
            }
            let forbidden = labels::forbidden(object, &Value::Null);
            if !forbidden.is_empty() {
                let list = forbidden.join(", ");
                return Err(format!("node {quoted} is not allowed to set the following labels: {list}"));
            }
        }
        Operation::Update => {
            let Some(old) = attributes.old_object else { return Ok(()) };
            if !source.is_null() && *source != old["spec"]["configSource"] {
                return Err(format!(
                    "node {quoted} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if items(&object["spec"]["taints"]) != items(&old["spec"]["taints"]) {
                return Err(format!("node {quoted} is not allowed to modify taints"));
            }
            let forbidden = labels::forbidden(object, old);
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
            let owners = |node: &Value| items(&node["metadata"]["ownerReferences"]).to_vec();
            if owners(object) != owners(old) {
                return Err(format!("node {quoted} is not allowed to modify ownerReferences"));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// The authorizer of nodes does not see an object that is made, nor each of a collection that is deleted.
fn admit_slice(node: &str, attributes: &Attributes<'_>) -> Refusal {
    let (what, slice) = match attributes.operation {
        Operation::Create => ("create", attributes.object.as_deref()),
        Operation::Delete => ("delete", attributes.old_object),
        Operation::Update | Operation::Connect => return Ok(()),
    };
    match slice {
        Some(slice) if text(slice, "/spec/nodeName") != node => {
            Err(format!("can only {what} ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

/// A certificate for a kubelet bears the name of the node that asks.
fn admit_signing_request(node: &str, attributes: &Attributes<'_>) -> Refusal {
    let Some(request) = attributes.object.as_deref().filter(|_| attributes.operation == Operation::Create) else {
        return Ok(());
    };
    if !matches!(text(request, "/spec/signerName"), KUBELET_SERVING | KUBELET_CLIENT) {
        return Ok(());
    }
    let name = certificate_subject_restriction::common_name(text(request, "/spec/request"))
        .map_err(|error| format!("unable to parse csr: {error}"))?;
    if name == format!("system:node:{node}") {
        Ok(())
    } else {
        Err(format!("can only create a node CSR with CN=system:node:{node}"))
    }
}

/// Leases and CSINodes carry the name of their node.
fn own_name(node: &str, what: &str, attributes: &Attributes<'_>) -> Refusal {
    let name = match attributes.object.as_deref() {
        Some(object) if attributes.operation == Operation::Create => text(object, "/metadata/name"),
        _ => attributes.name,
    };
    if name == node { Ok(()) } else { Err(format!("can only access {what} with the same name as the requesting node")) }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, _subresource: &str) -> bool {
        let ours = matches!(
            (resource.group.as_str(), resource.resource.as_str()),
            ("", "pods" | "nodes" | "persistentvolumeclaims" | "serviceaccounts")
                | ("coordination.k8s.io", "leases")
                | ("storage.k8s.io", "csinodes")
                | ("resource.k8s.io", "resourceslices")
                | ("certificates.k8s.io", "certificatesigningrequests")
        );
        ours && operation != Operation::Connect
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_identity(attributes.user) else { return Ok(()) };
        if node.is_empty() {
            let user = go_quote(&attributes.user.name);
            return Err(attributes.forbidden(&format!("could not determine node from user {user}")));
        }
        let refusal = match (attributes.resource.resource.as_str(), attributes.subresource) {
            ("pods", "") => return self.admit_pod(node, attributes),
            ("pods", "eviction") => return self.admit_eviction(node, attributes),
            ("pods", "status") => admit_pod_status(node, attributes),
            ("pods", other) => {
                Err(format!("unexpected pod subresource {}, only 'status' and 'eviction' are allowed", go_quote(other)))
            }
            ("nodes", _) => admit_node(node, attributes),
            ("persistentvolumeclaims", _) => admit_claim_status(node, attributes),
            ("serviceaccounts", "token") if attributes.operation == Operation::Create => {
                return self.admit_token(node, attributes).await;
            }
            ("serviceaccounts", _) => Ok(()),
            ("leases", _) if attributes.namespace != LEASE_NAMESPACE => {
                Err(format!("can only access leases in the {} system namespace", go_quote(LEASE_NAMESPACE)))
            }
            ("leases", _) => own_name(node, "node lease", attributes),
            ("resourceslices", _) => admit_slice(node, attributes),
            ("certificatesigningrequests", _) => admit_signing_request(node, attributes),
            _ => own_name(node, "CSINode", attributes),
        };
        refusal.map_err(|reason| attributes.forbidden(&reason))
    }
}
