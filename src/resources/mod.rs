//! The RESOURCES table: one file per kind, one row per group/version/resource.
//!
//! A row drives routing, discovery, OpenAPI, Tables, CLI names, RBAC, garbage collection and
//! quota. What a kind does on its own is in its [`Strategy`]; everything else is the same code for
//! all. To add a kind: one file with a `resource()` function, one line in [`RESOURCES`].

use crate::api::{ErrorList, GroupResource, GroupVersionKind, GroupVersionResource, UserInfo};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

type Str = Cow<'static, str>;

/// The built-in rows, in the order of discovery.
pub const RESOURCES: &[fn() -> Resource] = &[];

/// One served resource in one version.
#[derive(Clone)]
pub struct Resource {
    pub group: Str,
    pub version: Str,
    pub kind: Str,
    pub plural: Str,
    pub singular: Str,
    pub short_names: Vec<Str>,
    pub categories: Vec<Str>,
    pub namespaced: bool,
    pub verbs: &'static [Verb],
    pub subresources: Vec<Subresource>,
    /// Where its objects are stored, when it shares the store of another resource (events.k8s.io
    /// events are core events).
    pub stored_as: Option<GroupVersionResource>,
    /// The kind in `spec` terms has a spec/status split: writes to the main resource keep status,
    /// and metadata.generation counts changes outside metadata and status.
    pub status: bool,
    pub columns: Vec<Column>,
    pub strategy: Arc<dyn Strategy>,
}

/// What can be asked of a resource, as discovery and RBAC name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

/// All eight, in discovery's order.
pub const ALL_VERBS: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

/// A path below an object: `status`, `scale`, `exec` …
#[derive(Clone)]
pub struct Subresource {
    pub name: Str,
    /// The kind it takes and gives; the parent's where it is the same.
    pub kind: Option<GroupVersionKind>,
    pub verbs: &'static [Verb],
    pub handler: SubresourceHandler,
}

/// Who answers.
#[derive(Clone)]
pub enum SubresourceHandler {
    /// Writes only `status`; the strategy is [`Strategy::status`].
    Status,
    /// `autoscaling/v1.Scale`, through the three JSON paths.
    Scale { spec_replicas: Str, status_replicas: Str, selector: Option<Str> },
    /// A function of the API server, found by `<plural>/<name>` in its SUBRESOURCES table.
    Custom,
}

/// A printer column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Str,
    /// `string`, `integer`, `date`, `boolean`, `number`.
    pub kind: Str,
    /// `name` or empty.
    pub format: Str,
    pub description: Str,
    /// 0: always shown; above: with `-o wide`.
    pub priority: i32,
}

/// Who writes, for what: given to the strategy.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub user: &'a UserInfo,
    pub namespace: &'a str,
    pub dry_run: bool,
    pub now: jiff::Timestamp,
}

/// What a kind does on its own. Objects are JSON values that passed the strict walk: every present
/// field has the type that the type table says. The defaults fit a kind without behaviour.
///
/// Order on create: default, prepare_create, (mutating admission, default), validate, (validating
/// admission), store. On update likewise with the old object.
pub trait Strategy: Send + Sync + 'static {
    /// Set defaults, as `pkg/apis/<group>/<version>/defaults.go` does. Also run on reads of objects
    /// that another version wrote. Idempotent.
    fn default(&self, _object: &mut Value) {}

    /// Clear what a client may not set on create (status, generation = 1).
    fn prepare_create(&self, _object: &mut Value, _context: &Context) {}

    /// Keep of `old` what a client may not change.
    fn prepare_update(&self, _object: &mut Value, _old: &Value, _context: &Context) {}

    /// After prepare: errors in Kubernetes's order. `metadata` is validated by the pipeline, with
    /// [`Strategy::validate_name`].
    fn validate(&self, _object: &Value) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> ErrorList {
        self.validate(object)
    }

    /// The messages of what is wrong with a name; `prefix`: it is a generateName.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::api::names::dns_subdomain(if prefix { name.trim_end_matches('-') } else { name })
    }

    /// Texts of `Warning:` headers.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// PUT to a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// PUT without a resourceVersion overwrites.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// The strategy of the status subresource; None: any status is taken as it is.
    fn status(&self) -> Option<&dyn Strategy> {
        None
    }

    /// Field selectors beyond metadata.name and metadata.namespace: path and how to read it.
    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[]
    }

    /// The cells of a Table row, one per column of the row's `columns`. None: Name and Created At.
    fn cells(&self, _object: &Value, _now: jiff::Timestamp) -> Option<Vec<Value>> {
        None
    }

    /// How long a deletion waits unless the client says otherwise: seconds. None: it is immediate.
    fn default_grace_period_seconds(&self, _object: &Value) -> Option<i64> {
        None
    }
}

/// The strategy of a kind without behaviour.
pub struct Plain;

impl Strategy for Plain {}

impl Resource {
    /// A row with all verbs, no subresources and no behaviour: the rest by struct update.
    pub fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_ascii_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: ALL_VERBS,
            subresources: Vec::new(),
            stored_as: None,
            status: false,
            columns: Vec::new(),
            strategy: Arc::new(Plain),
        }
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&self.group, &self.version, &self.kind)
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(&self.group, &self.version, &self.plural)
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.plural)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}
