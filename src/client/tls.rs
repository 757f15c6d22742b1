//! An agent's client: HTTP/2 over mutual TLS, whose certificate can be renewed under way.
//!
//! All requests and watches share one connection; upgrades go over HTTP/1.1 connections of their
//! own. After [`ClientCertificate::replace`] (or `reconnect`) the next request makes a new connection with the new
//! certificate, and running watches end with the old one.

use crate::net::resolver::HostResolver;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tower::{BoxError, Service};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that says nothing for so long is asked; as Go's client does.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// A client certificate and its key, shared by all connections and replaceable.
#[derive(Debug)]
pub struct ClientCertificate {
    current: ArcSwap<CertifiedKey>,
    generation: AtomicU64,
}

impl ClientCertificate {
    /// PEM: a chain, leaf first, and its key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        Ok(Self { current: ArcSwap::from_pointee(certified(chain, key)?), generation: AtomicU64::new(0) })
    }

    pub fn from_files(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        Self::from_pem(&read(chain)?, &read(key)?).with_context(|| format!("client certificate {}", chain.display()))
    }

    /// The way to the server is another now: the next request makes a new connection.
    pub fn reconnect(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Shows the current certificate at each handshake.
    pub fn resolver(self: Arc<Self>) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Resolver(self))
    }

    /// Use these from now on.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> anyhow::Result<()> {
        self.current.store(Arc::new(certified(chain, key)?));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn certified(chain: &[u8], key: &[u8]) -> anyhow::Result<CertifiedKey> {
    let chain: Vec<CertificateDer> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().context("parse the certificate chain")?;
    anyhow::ensure!(!chain.is_empty(), "no certificate in the client certificate file");
    let key = PrivateKeyDer::from_pem_slice(key).context("parse the private key")?;
    let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .context("the key does not fit the certificate")?;
    Ok(certified)
}

/// Hands the current certificate to each handshake.
#[derive(Debug)]
struct Resolver(Arc<ClientCertificate>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Where the server is and how both sides prove themselves.
#[derive(Clone)]
pub struct TlsOptions {
    /// `https://host:6443`.
    pub server: Uri,
    /// The cluster's certificate authorities, PEM.
    pub ca: Vec<u8>,
    pub certificate: Arc<ClientCertificate>,
}

/// To be called inside a tokio runtime.
pub fn over_tls(options: TlsOptions) -> anyhow::Result<kube::Client> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&options.ca) {
        roots.add(certificate.context("parse the server's CA")?).context("the server's CA")?;
    }
    anyhow::ensure!(!roots.is_empty(), "the server's CA holds no certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Resolver(options.certificate.clone())));
    let transport =
        Transport { config, server: options.server, certificate: options.certificate, pools: Mutex::default() };
    Ok(kube::Client::new(OverTls(Arc::new(transport)), "default"))
}

/// A client as a kubeconfig file says it: its current context.
pub async fn from_kubeconfig(path: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = super::kubeconfig::read(path)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .with_context(|| format!("kubeconfig {}", path.display()))?;
    from_config(config).with_context(|| format!("client of {}", path.display()))
}

/// A client of a kubeconfig's cluster and user, as any of Kubernetes's clients reads it. It differs
/// from the crate's own in who resolves names. To be called inside a tokio runtime.
pub fn from_config(config: kube::Config) -> anyhow::Result<kube::Client> {
    use kube::client::ConfigExt;
    let mut http = HttpConnector::new_with_resolver(HostResolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(config.connect_timeout.or(Some(CONNECT_TIMEOUT)));
    let connector = config.rustls_https_connector_with_connector(http).context("TLS of the kubeconfig")?;
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("credentials of the kubeconfig")?)
        .layer(config.extra_headers_layer().context("impersonation")?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build(connector));
    Ok(kube::Client::new(service, config.default_namespace))
}

type Pool = HttpClient<HttpsConnector<HttpConnector<HostResolver>>, Body>;

struct Transport {
    config: rustls::ClientConfig,
    server: Uri,
    certificate: Arc<ClientCertificate>,
    /// Of the certificate's generation.
    pools: Mutex<Option<(u64, Pools)>>,
}

#[derive(Clone)]
struct Pools {
    requests: Pool,
    upgrades: Pool,
}

impl Transport {
    fn pools(&self) -> Pools {
        let generation = self.certificate.generation.load(Ordering::Acquire);
        let mut pools = self.pools.lock();
        match &*pools {
            Some((of, pools)) if *of == generation => pools.clone(),
            _ => {
                let fresh = Pools { requests: self.pool(true), upgrades: self.pool(false) };
                *pools = Some((generation, fresh.clone()));
                fresh
            }
        }
    }

    fn pool(&self, http2: bool) -> Pool {
        let mut http = HttpConnector::new_with_resolver(HostResolver);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new().with_tls_config(self.config.clone()).https_only();
        let connector = if http2 {
            connector.enable_http2().wrap_connector(http)
        } else {
            connector.enable_http1().wrap_connector(http)
        };
        HttpClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(http2)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector)
    }
}

#[derive(Clone)]
struct OverTls(Arc<Transport>);

impl Service<Request<Body>> for OverTls {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let transport = self.0.clone();
        Box::pin(async move {
            let mut uri = request.uri().clone().into_parts();
            uri.scheme = transport.server.scheme().cloned();
            uri.authority = transport.server.authority().cloned();
            *request.uri_mut() = Uri::from_parts(uri)?;
            let pools = transport.pools();
            let pool = if request.headers().contains_key(header::UPGRADE) { pools.upgrades } else { pools.requests };
            Ok(pool.request(request).await?)
        })
    }
}
