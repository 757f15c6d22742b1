//! The served rows at run time: the built-in table plus what CustomResourceDefinitions add.
//!
//! A reader takes a [`Rows`] (one atomic load) and sees one consistent state; [`Registry::register`]
//! and [`Registry::unregister`] publish a new one. Lookups borrow their keys: no allocation.

use super::{RESOURCES, Resource, columns};
use crate::api::{GroupResource, GroupVersionKind, GroupVersionResource};
use crate::schema::{Schema, builtin_schema};
use arc_swap::ArcSwap;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio_util::sync::CancellationToken;

/// A row of the table with the coordinates that requests need of it.
pub struct Row {
    pub resource: Resource,
    pub gvk: GroupVersionKind,
    pub gvr: GroupVersionResource,
    pub group_resource: GroupResource,
    /// `apps/v1`
    pub api_version: String,
    /// Whose objects these are in the store: of its own group and plural, or of the resource that
    /// it shares them with.
    pub stored: GroupResource,
    /// From a CustomResourceDefinition.
    pub custom: bool,
    /// No two rows of a process have the same: what was made by one is not taken for another's.
    pub number: u64,
    /// None: the kind is not in the type table (kinds of tests).
    pub schema: Option<Schema>,
    /// Cancelled when the row is no longer the one that is served.
    pub withdrawn: CancellationToken,
    /// Of the kind that is stored: differs from the row's own where it shares another's store.
    stored_hash: u64,
}

impl std::ops::Deref for Row {
    type Target = Resource;
    fn deref(&self) -> &Resource {
        &self.resource
    }
}

impl Row {
    fn new_built_in(mut resource: Resource) -> Self {
        for column in resource.columns.iter_mut().filter(|column| column.description.is_empty()) {
            column.description = columns::description(&resource.plural, &column.name);
        }
        let schema = builtin_schema(&resource.gvk());
        Self::new(resource, schema, false)
    }

    fn new(resource: Resource, schema: Option<Schema>, custom: bool) -> Self {
        static ROWS: AtomicU64 = AtomicU64::new(0);
        let group_resource = resource.group_resource();
        let stored = resource.stored_as.as_ref().map_or_else(|| group_resource.clone(), |gvr| gvr.group_resource());
        let gvk = resource.gvk();
        let hash = |schema: &Option<Schema>| schema.as_ref().map_or(0, |schema| schema.hash);
        let stored_hash = match &resource.stored_as {
            None if resource.stored_version.is_some() => hash(&resource.stored_version),
            Some(gvr) => hash(&builtin_schema(&GroupVersionKind::new(&gvr.group, &gvr.version, &resource.kind))),
            None => hash(&schema),
        };
        Self {
            api_version: gvk.api_version(),
            gvr: resource.gvr(),
            gvk,
            group_resource,
            stored,
            custom,
            number: ROWS.fetch_add(1, Relaxed),
            schema,
            withdrawn: CancellationToken::new(),
            stored_hash,
            resource,
        }
    }

    /// Of the row's own kind: a stored body with this hash is the reply.
    pub fn schema_hash(&self) -> u64 {
        self.schema.as_ref().map_or(0, |schema| schema.hash)
    }

    /// Of the bodies that writes through this row store.
    pub fn stored_hash(&self) -> u64 {
        self.stored_hash
    }
}

/// The resources of one version of a group, in the order of their registration.
pub struct Version {
    pub name: String,
    pub rows: Vec<Arc<Row>>,
    by_plural: HashMap<String, Arc<Row>>,
}

impl Version {
    pub fn row(&self, plural: &str) -> Option<&Arc<Row>> {
        self.by_plural.get(plural)
    }
}

/// A group and its versions, the preferred one first.
pub struct Group {
    /// Empty: the core group.
    pub name: String,
    pub versions: Vec<Version>,
}

impl Group {
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }
}

/// One state of the registry.
pub struct Rows {
    /// In the order of discovery, the core group first.
    pub groups: Vec<Group>,
    by_group: HashMap<String, usize>,
    by_kind: HashMap<GroupVersionKind, Arc<Row>>,
    /// Differs between any two states of one registry.
    pub generation: u64,
}

impl Rows {
    fn build(rows: impl Iterator<Item = Arc<Row>>, generation: u64) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut by_kind = HashMap::new();
        for row in rows {
            by_kind.entry(row.gvk.clone()).or_insert_with(|| row.clone());
            let group = match groups.iter().position(|group| group.name == row.group) {
                Some(at) => &mut groups[at],
                None => {
                    groups.push(Group { name: row.group.to_string(), versions: Vec::new() });
                    groups.last_mut().expect("just pushed")
                }
            };
            let version = match group.versions.iter().position(|version| version.name == row.version) {
                Some(at) => &mut group.versions[at],
                None => {
                    group.versions.push(Version {
                        name: row.version.to_string(),
                        rows: Vec::new(),
                        by_plural: HashMap::new(),
                    });
                    group.versions.last_mut().expect("just pushed")
                }
            };
            version.by_plural.insert(row.plural.to_string(), row.clone());
            version.rows.push(row);
        }
        for group in &mut groups {
            group.versions.sort_by(|a, b| compare_versions(&a.name, &b.name));
        }
        groups.sort_by(|a, b| group_order(&a.name).cmp(&group_order(&b.name)).then_with(|| a.name.cmp(&b.name)));
        let by_group = groups.iter().enumerate().map(|(at, group)| (group.name.clone(), at)).collect();
        Self { groups, by_group, by_kind, generation }
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.by_group.get(name).map(|&at| &self.groups[at])
    }

    pub fn row(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.group(group)?.version(version)?.row(plural)
    }

    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<&Arc<Row>> {
        self.by_kind.get(kind)
    }

    /// In the preferred version of its group that serves it.
    pub fn preferred(&self, resource: &GroupResource) -> Option<&Arc<Row>> {
        self.group(&resource.group)?.versions.iter().find_map(|version| version.row(&resource.resource))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.rows)
    }
}

/// The published state.
pub struct Registry {
    rows: ArcSwap<Rows>,
    /// Writers one at a time.
    write: parking_lot::Mutex<()>,
}

impl Registry {
    /// The rows of [`RESOURCES`].
    pub fn built_in() -> Self {
        Self::of(RESOURCES.iter().map(|row| row()))
    }

    /// With those that a composition adds.
    pub fn built_in_and(others: &[fn() -> Resource]) -> Self {
        Self::of(RESOURCES.iter().chain(others).map(|row| row()))
    }

    /// Of the given rows: for tests and tools.
    pub fn of(resources: impl Iterator<Item = Resource>) -> Self {
        let rows = Rows::build(resources.map(|resource| Arc::new(Row::new_built_in(resource))), 1);
        Self { rows: ArcSwap::from_pointee(rows), write: parking_lot::Mutex::default() }
    }

    pub fn rows(&self) -> Arc<Rows> {
        self.rows.load_full()
    }

    pub fn row(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Row>> {
        self.rows.load().row(group, version, plural).cloned()
    }

    /// Serve the versions of one custom resource; replaces those it had.
    pub fn register(&self, resource: &GroupResource, versions: Vec<(Resource, Schema)>) {
        let row = |(resource, schema)| Arc::new(Row::new(resource, Some(schema), true));
        self.replace(resource, versions.into_iter().map(row).collect());
    }

    /// Stop serving a custom resource.
    pub fn unregister(&self, resource: &GroupResource) {
        self.replace(resource, Vec::new());
    }

    /// What a row tells of itself has changed: what was made of the rows is made anew.
    pub fn touch(&self) {
        let _one_writer = self.write.lock();
        let current = self.rows.load();
        let rows = Rows::build(current.iter().cloned().collect::<Vec<_>>().into_iter(), current.generation + 1);
        self.rows.store(Arc::new(rows));
    }

    fn replace(&self, resource: &GroupResource, versions: Vec<Arc<Row>>) {
        let _one_writer = self.write.lock();
        let current = self.rows.load();
        let kept = current.iter().filter(|row| !(row.custom && row.group_resource == *resource)).cloned();
        let rows = Rows::build(kept.chain(versions).collect::<Vec<_>>().into_iter(), current.generation + 1);
        self.rows.store(Arc::new(rows));
        current
            .iter()
            .filter(|row| row.custom && row.group_resource == *resource)
            .for_each(|row| row.withdrawn.cancel());
    }
}

/// The built-in groups as discovery lists them; others come after, by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

fn group_order(name: &str) -> usize {
    GROUP_ORDER.iter().position(|group| *group == name).unwrap_or(GROUP_ORDER.len())
}

/// Kubernetes's order of versions, the most preferred first: `v10, v2, v1, v11beta2, v1beta1,
/// v1alpha1, foo`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (version_rank(a), version_rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor); larger is preferred. None: not of the form `v<major>[alpha|beta<minor>]`.
fn version_rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let rest = &rest[digits..];
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match rest.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, rest.strip_prefix("alpha")?),
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_then_number() {
        let mut versions = vec!["foo", "v1alpha1", "v1", "v1beta1", "v2", "v11beta2", "v10", "bar", "v1beta2"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v1beta2", "v1beta1", "v1alpha1", "bar", "foo"]);
    }

    #[test]
    fn custom_resources_come_and_go() {
        let registry = Registry::of([Resource::new("", "v1", "ConfigMap", "configmaps")].into_iter());
        let widgets = GroupResource::new("example.com", "widgets");
        let before = registry.rows();
        let schema = builtin_schema(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("built in");
        registry.register(
            &widgets,
            ["v1beta1", "v1"]
                .map(|version| (Resource::new("example.com", version, "Widget", "widgets"), schema.clone()))
                .into(),
        );
        let rows = registry.rows();
        assert_ne!(before.generation, rows.generation);
        assert_eq!(rows.preferred(&widgets).expect("registered").api_version, "example.com/v1");
        assert!(rows.row("example.com", "v1beta1", "widgets").is_some_and(|row| row.custom));
        assert!(before.row("example.com", "v1", "widgets").is_none(), "a reader's state does not change");
        registry.unregister(&widgets);
        assert!(registry.row("example.com", "v1", "widgets").is_none());
        assert!(registry.row("", "v1", "configmaps").is_some());
    }
}
