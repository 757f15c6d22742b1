//! An object on its way through the layers: what it is called, and what it was called before.

use crate::api::{Fields, FieldsMut, gvk};
use serde_json::Value;

/// A name and a namespace that an object had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug)]
pub struct Resource {
    pub object: Value,
    /// As the file has it, and after each change; the last is not yet here.
    pub before: Vec<Identity>,
    /// The kustomizations that it came through, the outermost last.
    pub layers: Vec<usize>,
    pub needs_hash: bool,
}

impl Resource {
    pub fn new(object: Value) -> Self {
        Self { object, before: Vec::new(), layers: Vec::new(), needs_hash: false }
    }

    pub fn kind(&self) -> &str {
        self.object.str_at("kind")
    }

    pub fn group(&self) -> &str {
        gvk::split_api_version(self.object.str_at("apiVersion")).0
    }

    pub fn version(&self) -> &str {
        gvk::split_api_version(self.object.str_at("apiVersion")).1
    }

    pub fn name(&self) -> &str {
        self.object.at("metadata").str_at("name")
    }

    pub fn namespace(&self) -> &str {
        self.object.at("metadata").str_at("namespace")
    }

    pub fn identity(&self) -> Identity {
        Identity { name: self.name().to_owned(), namespace: self.namespace().to_owned() }
    }

    /// What it is called, and was.
    pub fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        self.before.iter().cloned().chain(std::iter::once(self.identity()))
    }

    pub fn rename(&mut self, name: &str) {
        if name != self.name() {
            self.before.push(self.identity());
            self.object.object_mut("metadata").set("name", name);
        }
    }

    pub fn move_to(&mut self, namespace: &str) {
        if namespace != self.namespace() {
            self.before.push(self.identity());
            self.object.object_mut("metadata").set("namespace", namespace);
        }
    }

    /// Cluster-scoped kinds, as far as Kubernetes has them; what it does not know has a namespace.
    pub fn is_namespaced(&self) -> bool {
        let (group, kind) = (self.group(), self.kind());
        !crate::resources::RESOURCES
            .iter()
            .map(|row| row())
            .any(|row| row.group == group && row.kind == kind && !row.namespaced)
    }

    /// As kustomize writes it: `Deployment.v1.apps/web.default`.
    pub fn id(&self) -> String {
        let (group, version, namespace) = (self.group(), self.version(), self.namespace());
        let group = if group.is_empty() { "[noGrp]" } else { group };
        let namespace = if namespace.is_empty() { "[noNs]" } else { namespace };
        format!("{}.{version}.{group}/{}.{namespace}", self.kind(), self.name())
    }

    /// The same kind, name and namespace.
    pub fn is_same(&self, other: &Self) -> bool {
        self.kind() == other.kind()
            && self.group() == other.group()
            && self.name() == other.name()
            && space(self.namespace()) == space(other.namespace())
    }
}

/// Nothing said is the default one.
pub fn space(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}
