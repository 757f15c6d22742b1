//! Keys: `<group>/<resource>/<namespace>/<name>`, ordered as Kubernetes lists objects.

use crate::api::GroupResource;
use std::fmt;
use std::sync::Arc;

/// The key of one object. The core group is `core`; cluster-scoped objects have no namespace part:
/// `core/nodes/n1`, `apps/deployments/default/web`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// All keys of a resource, or of one namespace of it, or one key. Ends in `/` unless it is one key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

fn head(resource: &GroupResource) -> String {
    let group = if resource.group.is_empty() { "core" } else { &resource.group };
    format!("{group}/{}/", resource.resource)
}

impl Key {
    /// `namespace` is empty for a cluster-scoped object.
    pub fn new(resource: &GroupResource, namespace: &str, name: &str) -> Self {
        let mut key = head(resource);
        if !namespace.is_empty() {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        Self(key.into())
    }

    /// From [`Key::as_str`], as the database holds it.
    pub fn from_stored(key: &str) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// All up to the name: the objects of one resource in one namespace share it.
    pub(super) fn scope(&self) -> &str {
        &self.0[..self.0.rfind('/').map_or(0, |at| at + 1)]
    }

    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whose object it is.
    pub fn resource(&self) -> GroupResource {
        let mut parts = self.0.splitn(3, '/');
        let group = parts.next().unwrap_or_default();
        GroupResource::new(if group == "core" { "" } else { group }, parts.next().unwrap_or_default())
    }

    /// Empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        let mut parts = self.0.splitn(4, '/').skip(2);
        match (parts.next(), parts.next()) {
            (Some(namespace), Some(_)) => namespace,
            _ => "",
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// Every object of a resource.
    pub fn resource(resource: &GroupResource) -> Self {
        Self(head(resource).into())
    }

    /// Those of one namespace.
    pub fn namespace(resource: &GroupResource, namespace: &str) -> Self {
        Self(format!("{}{namespace}/", head(resource)).into())
    }

    /// One object.
    pub fn key(key: &Key) -> Self {
        Self(key.0.clone())
    }

    /// Everything in the store.
    pub fn all() -> Self {
        Self("".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn contains(&self, key: &Key) -> bool {
        match self.is_object() {
            true => key.as_str() == self.as_str(),
            false => key.as_str().starts_with(self.as_str()),
        }
    }

    /// The key, where this is one object.
    pub(super) fn object(&self) -> Option<Key> {
        self.is_object().then(|| Key(self.0.clone()))
    }

    pub(super) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    fn is_object(&self) -> bool {
        !self.0.is_empty() && !self.0.ends_with('/')
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.0)
    }
}
