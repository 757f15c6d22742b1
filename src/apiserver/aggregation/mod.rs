//! The aggregation layer: versions of API groups that another server serves, named by APIServices.
//!
//! [`Aggregator::find`] tells whether a path belongs to one, [`proxy::serve`] passes the request on
//! with the user in the headers of a front proxy. [`keeper`] looks after the objects: whether each
//! server is there, what it serves, local APIServices of custom resources, and the ConfigMap that
//! extension servers know this server by.

mod availability;
mod discovery;
mod keeper;
mod proxy;

use availability::Swagger;
pub use discovery::{add_documents, add_groups, foreign};
pub use keeper::start;
pub use proxy::serve;

use super::subresources::connect::service_endpoint;
use super::webhook;
use crate::api::Fields;
use crate::client::dialer::Connection;
use crate::net::tls;
use crate::resources::registry::compare_versions;
use crate::storage::Storage;
use arc_swap::ArcSwap;
use base64::Engine;
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// How this server shows itself to extension servers.
#[derive(Clone, Default)]
pub struct Options {
    /// Its certificate as a front proxy. None: it has none to show.
    pub front_proxy: Option<Arc<dyn ResolvesClientCert>>,
    /// The data of `kube-system/extension-apiserver-authentication`; empty: it is not kept.
    pub authentication: BTreeMap<String, String>,
}

/// A version of a group that a Service serves.
pub struct Remote {
    /// `v1.metrics.example.com`
    pub name: String,
    pub group: String,
    pub version: String,
    group_priority: i64,
    version_priority: i64,
    spec: Value,
    target: Target,
    available: bool,
    /// Its APIResourceList, as it was last seen.
    resources: Option<Value>,
    /// Of its document in `/openapi/v3`: what the link to it says behind `?`.
    openapi: Option<String>,
    /// Its part of `/openapi/v2`.
    swagger: Option<Swagger>,
}

/// Where the extension server is, and whom it is trusted by.
#[derive(Clone)]
struct Target {
    namespace: String,
    service: String,
    port: u16,
    tls: Result<Arc<rustls::ClientConfig>, String>,
}

impl Target {
    /// What its certificate must say.
    fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// All of them in the order of discovery.
#[derive(Default)]
pub struct Remotes {
    pub all: Vec<Arc<Remote>>,
    /// Differs between any two states.
    pub generation: u64,
}

/// What is stored, of what the keeper needs.
#[derive(Default)]
struct Sources {
    services: BTreeMap<String, Value>,
    definitions: BTreeMap<String, Value>,
}

pub struct Aggregator {
    options: Options,
    remotes: ArcSwap<Remotes>,
    sources: Mutex<Sources>,
    changed: Notify,
}

impl Aggregator {
    pub fn new(options: Options) -> Arc<Self> {
        let (remotes, sources) = (ArcSwap::default(), Mutex::default());
        Arc::new(Self { options, remotes, sources, changed: Notify::new() })
    }

    pub fn remotes(&self) -> Arc<Remotes> {
        self.remotes.load_full()
    }

    /// Who serves a path: `/apis/<group>/<version>…` or its document below `/openapi/v3`.
    pub fn find(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.all.is_empty() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?;
        let mut parts = path.split('/');
        let (group, version) = (parts.next()?, parts.next()?);
        remotes.all.iter().find(|remote| remote.group == group && remote.version == version).cloned()
    }

    /// Of an APIService that names a Service.
    fn target(&self, spec: &Value) -> Target {
        let service = spec.at("service");
        let bundle = base64::engine::general_purpose::STANDARD.decode(spec.str_at("caBundle")).unwrap_or_default();
        let tls = tls::extension_client(
            &String::from_utf8_lossy(&bundle),
            spec.bool_at("insecureSkipTLSVerify"),
            self.options.front_proxy.clone(),
        );
        Target {
            namespace: service.str_at("namespace").to_owned(),
            service: service.str_at("name").to_owned(),
            port: service.optional_int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            tls: tls.map_err(|error| format!("unable to load root certificates: {error}")),
        }
    }

    fn publish(&self, mut all: Vec<Arc<Remote>>) {
        all.sort_by(|a, b| {
            (-a.group_priority, &a.group, -a.version_priority)
                .cmp(&(-b.group_priority, &b.group, -b.version_priority))
                .then_with(|| compare_versions(&a.version, &b.version))
        });
        let generation = self.remotes.load().generation + 1;
        self.remotes.store(Arc::new(Remotes { all, generation }));
    }
}

/// A TLS connection to an endpoint of the Service.
async fn connect(storage: &dyn Storage, webhooks: &webhook::Client, target: &Target) -> Result<Connection, String> {
    let tls = target.tls.clone()?;
    let destination = service_endpoint(storage, &target.namespace, &target.service, &target.port.to_string())
        .map_err(|status| status.message)?;
    let stream = webhooks.dial(&destination).await?;
    let name = ServerName::try_from(target.host()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| webhook::certificate(&error))?;
    Ok(Box::new(stream))
}
