//! What the handlers share: the parts that [`Config`] was composed from.

use super::admission;
use super::aggregation::{self, Aggregator};
use super::audit::Audit;
use super::authn::Authenticator;
use super::authz::Authorizer;
use super::definitions::Definitions;
use super::flow_control::{self, FlowControl};
use super::metrics::{self, Metrics};
use super::parsed::Parsed;
use super::renderings::Renderings;
use super::request::RequestInfo;
use super::routes::health::{HealthCheck, Indicators};
use super::{discovery, openapi, routes, services, subresources, traces, webhook};
use crate::api::Status;
use crate::resources::{Registry, Row};
use crate::storage::{self, Entry, Key, Revision, Storage};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether something is well: the error says what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What an API server is composed of.
pub struct Config {
    pub storage: Arc<dyn Storage>,
    pub registry: Arc<Registry>,
    /// Asked in order; anonymous access is the last of them.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// Asked in order; without an opinion the answer is no.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub admission: admission::Chain,
    /// Beyond the handlers of [`subresources::SUBRESOURCES`]: those that need more than the store.
    pub handlers: Vec<(&'static str, Arc<dyn subresources::Handler>)>,
    /// Paths beside the API: `/openid/v1/jwks`.
    pub routes: Vec<(&'static str, Arc<dyn routes::Route>)>,
    pub services: services::Ranges,
    /// How webhooks are called.
    pub webhooks: Arc<webhook::Client>,
    /// How extension servers know this one.
    pub aggregation: aggregation::Options,
    /// How many requests run at once.
    pub flow_control: flow_control::Options,
    pub about: About,
    /// None: nothing is recorded.
    pub audit: Option<Audit>,
}

/// What the server knows of its process and of those around it.
#[derive(Default)]
pub struct About {
    /// Asked by `/readyz`, and most of them by `/livez` and `/healthz`, in order. The store's is `etcd`.
    pub checks: Vec<HealthCheck>,
    /// The other components, as `componentstatuses` has them.
    pub components: Vec<(&'static str, Check)>,
    /// Where clients reach this server.
    pub address: Option<Arc<dyn Fn() -> Option<SocketAddr> + Send + Sync>>,
    /// The flags that it runs with, as `/flagz` shows them: nothing secret.
    pub flags: Vec<(String, String)>,
}

/// See [`Config`].
pub struct State {
    pub storage: Arc<dyn Storage>,
    pub registry: Arc<Registry>,
    pub(super) authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub(super) admission: admission::Chain,
    pub(super) handlers: HashMap<&'static str, Arc<dyn subresources::Handler>>,
    pub(super) routes: HashMap<&'static str, Arc<dyn routes::Route>>,
    pub services: services::Allocator,
    pub webhooks: Arc<webhook::Client>,
    pub definitions: Definitions,
    pub(super) aggregator: Arc<Aggregator>,
    pub(super) flow_control: Arc<FlowControl>,
    pub(super) about: About,
    pub(super) indicators: Indicators,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) renderings: Renderings,
    pub(super) parsed: Parsed,
    pub(super) metrics: Metrics,
    /// Set once, if at all.
    pub(super) tracer: OnceLock<Arc<traces::Tracer>>,
    pub(super) discovery: discovery::Cache,
    pub(super) openapi: openapi::Cache,
    pub shutdown: CancellationToken,
    /// Ticks at most once a minute, and only when something was written: bookmarks are due.
    pub(super) bookmarks: watch::Sender<Revision>,
}

impl State {
    /// Whether there is a resource, and the part of it, that a request asks for.
    pub fn serves(&self, info: &RequestInfo) -> bool {
        self.registry.row(&info.group, &info.version, &info.resource).is_some_and(|row| serves(&row, info))
    }

    pub(super) fn new(config: Config, definitions: Definitions) -> Self {
        let mut handlers: HashMap<&'static str, Arc<dyn subresources::Handler>> =
            subresources::SUBRESOURCES.iter().map(|(name, handler)| (*name, handler())).collect();
        handlers.extend(config.handlers);
        let flow_control = FlowControl::new(config.flow_control, &config.storage);
        let metrics = Metrics::new(&flow_control, &config.admission, config.audit.as_ref());
        let measured = metrics::Measured { storage: config.storage, writes: metrics.writes.clone() };
        Self {
            services: services::Allocator::new(config.services),
            storage: Arc::new(measured),
            registry: config.registry,
            authenticators: config.authenticators,
            authorizers: config.authorizers,
            handlers,
            routes: config.routes.into_iter().collect(),
            webhooks: config.webhooks,
            definitions,
            aggregator: Aggregator::new(config.aggregation),
            about: config.about,
            indicators: Indicators::default(),
            audit: config.audit.map(Arc::new),
            renderings: Renderings::default(),
            parsed: Parsed::default(),
            metrics,
            tracer: OnceLock::new(),
            admission: config.admission,
            flow_control,
            discovery: discovery::Cache::default(),
            openapi: openapi::Cache::default(),
            shutdown: CancellationToken::new(),
            bookmarks: watch::Sender::new(Revision(0)),
        }
    }

    /// The key of an object of a row.
    pub fn key(row: &Row, namespace: &str, name: &str) -> Key {
        Key::new(&row.stored, if row.namespaced { namespace } else { "" }, name)
    }

    /// The mutating half of the admission chain.
    pub async fn admit(&self, attributes: &mut admission::Attributes<'_>) -> Result<(), Status> {
        self.admission.admit(attributes).await
    }

    /// The validating half.
    pub async fn validate(&self, attributes: &mut admission::Attributes<'_>) -> Result<(), Status> {
        self.admission.validate(attributes).await
    }

    /// Whether any plugin cares: where none does, nothing is prepared for it.
    pub fn has_admission(&self, operation: admission::Operation, row: &Row, subresource: &str) -> bool {
        self.admission.handles(operation, &row.gvr, subresource)
    }
}

/// Whether a resource has the part of it that a request asks for.
pub fn serves(row: &Row, info: &RequestInfo) -> bool {
    info.subresource.is_empty() || row.subresource(&info.subresource).is_some()
}

/// What a failed access to the store is to the client. Conflicts and absences are the callers' to
/// tell, since they know the object.
pub fn storage_status(error: storage::Error) -> Status {
    match error {
        storage::Error::Full(reason) => Status::insufficient_storage(format!("the disk is full: {reason}")),
        storage::Error::ReadOnly(reason) => Status::service_unavailable(format!("the store takes no writes: {reason}")),
        storage::Error::Unknown(reason) => Status::timeout(format!("the outcome of the write is unknown: {reason}")),
        storage::Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        storage::Error::Future { requested, current } => too_large_version(requested.0, current.0),
        error @ (storage::Error::NotFound | storage::Error::Exists | storage::Error::Conflict { .. }) => {
            Status::internal(error.to_string())
        }
    }
}

/// The 504 of a resourceVersion that is not reached yet.
pub fn too_large_version(requested: u64, current: u64) -> Status {
    let mut status = Status::timeout(format!("Timeout: Too large resource version: {requested}, current: {current}"));
    let details = status.details.get_or_insert_default();
    details.retry_after_seconds = 1;
    details.causes.push(crate::api::status::StatusCause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    });
    status
}

/// The 500 of an object that cannot be decrypted.
pub fn check_readable(row: &Row, entry: &Entry) -> Result<(), Status> {
    let Some(reason) = entry.body.unreadable() else { return Ok(()) };
    let path = registry_path(row, entry.key.namespace(), entry.key.name());
    Err(Status::internal(format!("unable to transform key {}: {reason}", crate::api::field::go_quote(&path))))
}

/// Where Kubernetes keeps the object in etcd: its conflict texts name it.
pub fn registry_path(row: &Row, namespace: &str, name: &str) -> String {
    let resource = match (&*row.stored.group, &*row.stored.resource) {
        ("", "nodes") => "minions",
        ("", "replicationcontrollers") => "controllers",
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("networking.k8s.io", "ingresses") => "ingress",
        (_, resource) => resource,
    };
    let mut path = "/registry/".to_owned();
    if row.custom || matches!(&*row.group, "apiextensions.k8s.io" | "apiregistration.k8s.io") {
        path.push_str(&row.group);
        path.push('/');
    }
    path.push_str(resource);
    if row.namespaced {
        path.push('/');
        path.push_str(namespace);
    }
    path.push('/');
    path.push_str(name);
    path
}
