//! The RESOURCES table: one file per kind, one row per group/version/resource.
//!
//! A row drives routing, discovery, OpenAPI, Tables, CLI names, RBAC, garbage collection and
//! quota. What a kind does on its own is in its [`Strategy`]; everything else is the same code for
//! all. To add a kind: one file with a `resource()` function, one line in [`RESOURCES`].

use crate::api::names::{self, Messages};
use crate::api::{ErrorList, GroupResource, GroupVersionKind, GroupVersionResource, UserInfo};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

pub mod pipeline;
pub mod registry;

pub use registry::{Registry, Row, Rows};

type Str = Cow<'static, str>;

pub mod admission_registration;
pub mod api_extensions;
pub mod api_registration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod cells;
pub mod certificates;
pub mod columns;
pub mod conditions;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flow_control;
pub mod labels;
pub mod metrics;
pub mod networking;
pub mod node;
pub mod policy;
pub mod quota;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;

/// The built-in rows, in the order of discovery.
pub const RESOURCES: &[fn() -> Resource] = &[
    core::binding::resource,
    core::component_status::resource,
    core::config_map::resource,
    core::endpoints::resource,
    core::event::resource,
    core::limit_range::resource,
    core::namespace::resource,
    core::node::resource,
    core::persistent_volume_claim::resource,
    core::persistent_volume::resource,
    core::pod::resource,
    core::pod_template::resource,
    core::replication_controller::resource,
    core::resource_quota::resource,
    core::secret::resource,
    core::service_account::resource,
    core::service::resource,
    api_registration::api_service::resource,
    apps::controller_revision::resource,
    apps::daemon_set::resource,
    apps::deployment::resource,
    apps::replica_set::resource,
    apps::stateful_set::resource,
    events::event::resource,
    authentication::self_subject_review::resource,
    authentication::token_review::resource,
    authorization::local_subject_access_review::resource,
    authorization::self_subject_access_review::resource,
    authorization::self_subject_rules_review::resource,
    authorization::subject_access_review::resource,
    autoscaling::horizontal_pod_autoscaler::resource,
    autoscaling::horizontal_pod_autoscaler_v1::resource,
    batch::cron_job::resource,
    batch::job::resource,
    certificates::certificate_signing_request::resource,
    networking::ingress_class::resource,
    networking::ingress::resource,
    networking::ip_address::resource,
    networking::network_policy::resource,
    networking::service_cidr::resource,
    policy::pod_disruption_budget::resource,
    rbac::cluster_role_binding::resource,
    rbac::cluster_role::resource,
    rbac::role_binding::resource,
    rbac::role::resource,
    storage::csi_driver::resource,
    storage::csi_node::resource,
    storage::csi_storage_capacity::resource,
    storage::storage_class::resource,
    storage::volume_attachment::resource,
    storage::volume_attributes_class::resource,
    admission_registration::mutating_admission_policy::resource,
    admission_registration::mutating_admission_policy_binding::resource,
    admission_registration::mutating_webhook_configuration::resource,
    admission_registration::validating_admission_policy::resource,
    admission_registration::validating_admission_policy_binding::resource,
    admission_registration::validating_webhook_configuration::resource,
    api_extensions::custom_resource_definition::resource,
    scheduling::priority_class::resource,
    coordination::lease::resource,
    node::runtime_class::resource,
    discovery::endpoint_slice::resource,
    resource::device_class::resource,
    resource::resource_claim::resource,
    resource::resource_claim_template::resource,
    resource::resource_slice::resource,
    flow_control::flow_schema::resource,
    flow_control::priority_level_configuration::resource,
];

/// One served resource in one version.
#[derive(Clone)]
pub struct Resource {
    pub group: Str,
    pub version: Str,
    pub kind: Str,
    pub list_kind: Str,
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
    /// Has a `status` subresource: writes to the main resource keep status.
    pub status: bool,
    /// metadata.generation starts at 1 and counts changes outside metadata and status. A strategy
    /// whose rule is another one (a Deployment counts its annotations too) raises it itself in
    /// `prepare_update`; it counts once.
    pub generation: bool,
    pub columns: Vec<Column>,
    /// The version that its objects are stored in, of a resource with several; None: its own.
    pub stored_version: Option<crate::schema::Schema>,
    /// Who turns objects of one version into another. None: they differ by `apiVersion` alone.
    pub conversion: Option<Arc<dyn Conversion>>,
    /// The text of the `Warning:` header that every reply of this version carries.
    pub deprecated: Option<Str>,
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

/// Turns objects of one version of a custom resource into another.
#[async_trait::async_trait]
pub trait Conversion: Send + Sync + 'static {
    /// As many as were given, in their order, each of `api_version`. The error is for the client.
    async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, String>;
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

    /// Rules that are looked at last, with what is wrong already: those of a definition, in CEL.
    fn rules(&self, _object: &Value, _old: Option<&Value>, _errors: &mut ErrorList) {}

    /// The messages of what is wrong with a name; `prefix`: it is a generateName.
    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        named(names::dns_subdomain, name, prefix)
    }

    /// As [`Strategy::validate_name`], of a kind whose name is made of its fields.
    fn validate_name_of(&self, _object: &Value, name: &str, prefix: bool) -> Messages {
        self.validate_name(name, prefix)
    }

    /// The kind looks at its metadata itself, as most do. False: nothing but what is asked of all metadata
    /// is asked of it, once all else is right.
    fn validates_metadata(&self) -> bool {
        true
    }

    /// On an update the kind looks itself at how its metadata changed: the causes have it once more.
    fn checks_metadata_change(&self) -> bool {
        self.validates_metadata()
    }

    /// How often the kind looks at all of the metadata again on an update: the causes have each.
    fn metadata_checks_on_update(&self) -> usize {
        0
    }

    /// Texts of `Warning:` headers.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// From the row's version to the one that its objects are stored in ([`Resource::stored_as`]),
    /// apiVersion and kind included; after `default`, before `prepare_create`.
    fn to_stored(&self, _object: &mut Value) {}

    /// The way back.
    fn from_stored(&self, _object: &mut Value) {}

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

    /// The strategy of a subresource of the parent's kind that is written: `status`, `finalize` …
    fn subresource(&self, name: &str) -> Option<&dyn Strategy> {
        if name == "status" { self.status() } else { None }
    }

    /// The fields that its endpoint does not write, so that nobody owns them through it. None: `status`
    /// through the main resource, `spec` through the status subresource.
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Field selectors beyond metadata.name and metadata.namespace: path and how to read it.
    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[]
    }

    /// The names by which this version selects on them: here, and in the list above. Empty: by the same.
    fn renamed_fields(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// As [`Strategy::selectable_fields`], of a kind whose fields are known at run time only.
    fn selectable(&self) -> &[Selectable] {
        &[]
    }

    /// Who answers instead of the store, where that is not named after the plural.
    fn handler(&self) -> Option<&'static str> {
        None
    }

    /// The cells of a Table row, one per column of the row's `columns`. None: Name and Created At.
    fn cells(&self, _object: &Value, _now: &cells::Clock) -> Option<Vec<Value>> {
        None
    }

    /// The seconds that a deletion waits, given what the client asked for. None: the kind knows no
    /// graceful deletion.
    fn grace_period_seconds(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Why nothing new is made of the kind for now. None: it is.
    fn refuses_create(&self) -> Option<&'static str> {
        None
    }

    /// Annotations that stand for fields of older versions: metadata that is shown without its object
    /// has none of them.
    fn field_annotations(&self) -> &'static [&'static str] {
        &[]
    }

    /// DELETE answers with the object instead of a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Dependents stay unless the client says otherwise (ReplicationController and Job in v1).
    fn orphans_dependents(&self) -> bool {
        false
    }

    /// The warning of a deletion that does not say what is to become of the dependents.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }

    /// A kind with finalizers of its own (`spec.finalizers` of a Namespace): marks the object as
    /// being deleted. True: it stays until an update takes the last of them.
    fn holds_deletion(&self, _object: &mut Value, _now: jiff::Timestamp) -> bool {
        false
    }
}

/// A field that can be selected on, of a custom resource.
pub struct Selectable {
    /// `spec.color`
    pub path: String,
    pub read: crate::api::jsonpath::Expression,
}

impl Selectable {
    pub fn value(&self, object: &Value) -> String {
        self.read.select(object).first().map(crate::api::jsonpath::to_text).unwrap_or_default()
    }
}

/// Checks a name, or a generateName with the dash at its end masked.
pub fn named(check: fn(&str) -> Messages, name: &str, prefix: bool) -> Messages {
    if prefix { check(&names::mask_trailing_dash(name)) } else { check(name) }
}

/// The strategy of a kind without behaviour.
pub struct Plain;

impl Strategy for Plain {}

impl Column {
    /// The first column of every kind.
    pub fn name() -> Self {
        Self { format: "name".into(), ..Self::new("Name", "string") }
    }

    /// The columns of a kind that has none of its own.
    pub fn of_any_kind() -> [Self; 2] {
        [Self::name(), Self::new("Created At", "date")].map(Self::described)
    }

    fn described(self) -> Self {
        let description = columns::description("*", &self.name);
        Self { description, ..self }
    }

    pub fn string(name: &'static str) -> Self {
        Self::new(name, "string")
    }

    pub fn integer(name: &'static str) -> Self {
        Self::new(name, "integer")
    }

    pub fn boolean(name: &'static str) -> Self {
        Self::new(name, "boolean")
    }

    /// Shown with `-o wide` only.
    pub fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    fn new(name: &'static str, kind: &'static str) -> Self {
        Self { name: name.into(), kind: kind.into(), format: "".into(), description: "".into(), priority: 0 }
    }

    /// `Name`, then columns of strings; a leading `+` makes one wide.
    pub fn strings(names: &[&'static str]) -> Vec<Self> {
        let rest = names.iter().map(|name| match name.strip_prefix('+') {
            Some(name) => Self::string(name).wide(),
            None => Self::string(name),
        });
        std::iter::once(Self::name()).chain(rest).collect()
    }
}

const READ_WRITE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

impl Subresource {
    /// `status`, with the strategy's [`Strategy::status`].
    pub fn status() -> Self {
        Self { name: "status".into(), kind: None, verbs: READ_WRITE, handler: SubresourceHandler::Status }
    }

    /// `scale`: spec.replicas, status.replicas, and the selector as the kind has it.
    pub fn scale(selector: &'static str) -> Self {
        Self {
            name: "scale".into(),
            kind: Some(GroupVersionKind::new("autoscaling", "v1", "Scale")),
            verbs: READ_WRITE,
            handler: SubresourceHandler::Scale {
                spec_replicas: ".spec.replicas".into(),
                status_replicas: ".status.replicas".into(),
                selector: Some(selector.into()),
            },
        }
    }

    /// Answered by a function of the API server; of the parent's kind.
    pub fn custom(name: &'static str, verbs: &'static [Verb]) -> Self {
        Self { name: name.into(), kind: None, verbs, handler: SubresourceHandler::Custom }
    }

    /// As [`Subresource::custom`], of another kind.
    pub fn custom_of(name: &'static str, api_version: &str, kind: &str, verbs: &'static [Verb]) -> Self {
        Self { kind: Some(GroupVersionKind::from_api_version(api_version, kind)), ..Self::custom(name, verbs) }
    }

    /// `proxy`: any method, to what stands behind the object.
    pub fn proxy(kind: &str) -> Self {
        const VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update];
        Self::custom_of("proxy", "v1", kind, VERBS)
    }
}

impl Resource {
    /// A row with all verbs, no subresources and no behaviour: the rest by struct update.
    pub fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_ascii_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: ALL_VERBS,
            subresources: Vec::new(),
            stored_as: None,
            status: false,
            generation: false,
            columns: Vec::new(),
            stored_version: None,
            conversion: None,
            deprecated: None,
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
