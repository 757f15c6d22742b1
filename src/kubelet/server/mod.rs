//! The node's HTTPS server on 10250: logs, exec, attach, port-forward, pods, stats, metrics.
//!
//! Entry: [`Server::run`]. Every request is authenticated and authorized as an access to a
//! subresource of the node, `/healthz` too. Streams are accepted by `net::streaming`.

mod authorization;
mod container_logs;
mod query;
mod remote;

pub use authorization::{Access, Authorizer, Caller, Refusal};

use authorization::access;

use super::config::ServerConfig;
use super::context::Context;
use super::pods::Pods;
use super::worker::Shared;
use super::{metrics, stats};
use crate::api::UserInfo;
use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::routing::{any, get};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use query::Query;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const MAX_CONNECTIONS: usize = 512;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Server {
    context: Arc<Context>,
    pods: Arc<Pods>,
    authorizer: Arc<dyn Authorizer>,
}

/// What the client showed in the TLS handshake.
#[derive(Clone, Default)]
struct PeerCertificates(Vec<CertificateDer<'static>>);

impl Server {
    pub fn new(context: Arc<Context>, pods: Arc<Pods>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { context, pods, authorizer }
    }

    pub async fn run(self, config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
        let listener = TcpListener::bind(config.address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
                "port {0} is in use by another program, and the API server reaches a node there: end it \
                 (ss -ltnp 'sport = :{0}' names it)",
                config.address.port()
            ),
            _ => anyhow::anyhow!(error).context(format!("listen on {}", config.address)),
        })?;
        let router = self.router();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = room.clone().acquire_owned().await?;
            let stream = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, mostly: it passes.
                        tracing::warn!(%error, "accept a connection to the kubelet");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            while connections.try_join_next().is_some() {}
            let tls = config.tls.borrow().clone();
            let router = router.clone();
            connections.spawn(async move {
                if let Err(error) = serve(stream, tls, router).await {
                    tracing::debug!(%error, "a connection to the kubelet");
                }
                drop(permit);
            });
        }
    }

    /// All routes; a request carries its peer's certificates as an extension.
    fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/healthz/{check}", get(healthz))
            .route("/pods", get(pods))
            .route("/pods/", get(pods))
            .route("/runningpods/", get(running_pods))
            .route("/runningpods", get(running_pods))
            .route("/configz", get(configz))
            .route("/stats/summary", get(summary))
            .route("/metrics", get(kubelet_metrics))
            .route("/metrics/resource", get(resource_metrics))
            .route("/metrics/cadvisor", get(cadvisor_metrics))
            .route("/metrics/probes", get(|| async { text(StatusCode::OK, String::new()) }))
            .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs::serve))
            .route("/exec/{namespace}/{pod}/{container}", any(remote::exec))
            .route("/exec/{namespace}/{pod}/{uid}/{container}", any(remote::exec_of_uid))
            .route("/run/{namespace}/{pod}/{container}", any(remote::run))
            .route("/attach/{namespace}/{pod}/{container}", any(remote::attach))
            .route("/attach/{namespace}/{pod}/{uid}/{container}", any(remote::attach_of_uid))
            .route("/portForward/{namespace}/{pod}", any(remote::port_forward))
            .route("/portForward/{namespace}/{pod}/{uid}", any(remote::port_forward_of_uid))
            .layer(middleware::from_fn_with_state(self.clone(), authorize))
            .with_state(self.clone())
    }

    fn find(&self, namespace: &str, pod: &str) -> Result<Arc<Shared>, Response<Body>> {
        self.pods.find(namespace, pod).ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))
    }
}

async fn serve(stream: TcpStream, tls: Arc<rustls::ServerConfig>, router: Router) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await.context("handshake")??;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = PeerCertificates(certificates.iter().map(|certificate| certificate.clone().into_owned()).collect());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await.map_err(|error| anyhow::anyhow!(error))
}

async fn authorize(State(server): State<Server>, request: Request, next: Next) -> Response<Body> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = Caller {
        certificates: request.extensions().get::<PeerCertificates>().cloned().unwrap_or_default().0,
        bearer_token: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
    };
    match check(&*server.authorizer, &caller, request.method(), request.uri().path()).await {
        Ok(_) => next.run(request).await,
        Err(Refusal::Unauthenticated) => text(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()),
        Err(Refusal::Forbidden(message)) => text(StatusCode::FORBIDDEN, message),
        Err(Refusal::Unknown(message)) => text(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

/// One of the accesses that a path may be asked for by is enough.
async fn check(
    authorizer: &dyn Authorizer,
    caller: &Caller,
    method: &http::Method,
    path: &str,
) -> Result<UserInfo, Refusal> {
    let user = authorizer.authenticate(caller).await?;
    let mut refusal = Refusal::Unauthenticated;
    for access in access(method, path) {
        match authorizer.authorize(&user, &access).await {
            Ok(()) => return Ok(user),
            Err(refused) => refusal = refused,
        }
    }
    Err(refusal)
}

fn text(status: StatusCode, message: String) -> Response<Body> {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn json_reply(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failed(message: String) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, message)
}

async fn healthz() -> Response<Body> {
    text(StatusCode::OK, "ok".to_owned())
}

fn pod_list(items: Vec<Value>) -> Response<Body> {
    json_reply(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pods as they are wanted, with the status that this node knows.
async fn pods(State(server): State<Server>) -> Response<Body> {
    let items = server
        .pods
        .all()
        .iter()
        .filter_map(|shared| {
            let state = shared.state.lock();
            let mut pod = (*state.pod).clone();
            pod.status = Some(state.status.clone());
            serde_json::to_value(pod).ok()
        })
        .collect();
    pod_list(items)
}

async fn running_pods(State(server): State<Server>) -> Response<Body> {
    let items = server
        .pods
        .all()
        .iter()
        .filter_map(|shared| {
            let state = shared.state.lock();
            state.view.ready_sandbox()?;
            let containers: Vec<Value> =
                state.view.running().map(|one| json!({"name": one.name, "image": one.image})).collect();
            let key = &shared.key;
            Some(json!({
                "metadata": {"name": key.name, "namespace": key.namespace, "uid": key.uid},
                "spec": {"containers": containers},
                "status": {},
            }))
        })
        .collect();
    pod_list(items)
}

async fn configz(State(server): State<Server>) -> Response<Body> {
    let config = &server.context.config;
    json_reply(&json!({"kubeletconfig": {
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "containerLogMaxFiles": config.container_log_max_files,
        "containerLogMaxSize": format!("{}Mi", config.container_log_max_size >> 20),
        "evictionHard": config.eviction_hard,
        "imageGCHighThresholdPercent": config.image_gc_high,
        "imageGCLowThresholdPercent": config.image_gc_low,
        "maxPods": config.max_pods,
        "nodeLeaseDurationSeconds": config.node_lease_duration.as_secs(),
        "podPidsLimit": config.pod_pids_limit.unwrap_or(-1),
        "seccompDefault": true,
        "staticPodPath": config.static_pod_directory,
    }}))
}

async fn summary(State(server): State<Server>) -> Response<Body> {
    match stats::summary(&server.context, &server.pods).await {
        Ok(summary) => json_reply(&summary),
        Err(error) => failed(error),
    }
}

async fn kubelet_metrics(State(server): State<Server>) -> Response<Body> {
    text(StatusCode::OK, metrics::kubelet(&server.context, &server.pods))
}

async fn resource_metrics(State(server): State<Server>) -> Response<Body> {
    metrics::resource(&server.context, &server.pods).await.map_or_else(failed, |body| text(StatusCode::OK, body))
}

async fn cadvisor_metrics(State(server): State<Server>) -> Response<Body> {
    metrics::cadvisor(&server.context, &server.pods).await.map_or_else(failed, |body| text(StatusCode::OK, body))
}

/// `/{namespace}/{pod}/{container}` of a path.
type ContainerPath = Path<(String, String, String)>;

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use http::Method;

    struct OnlyStats;

    #[async_trait]
    impl Authorizer for OnlyStats {
        async fn authenticate(&self, caller: &Caller) -> Result<UserInfo, Refusal> {
            let known = caller.bearer_token.as_deref() == Some("good");
            known.then(|| UserInfo::new("reader", &[])).ok_or(Refusal::Unauthenticated)
        }

        async fn authorize(&self, _user: &UserInfo, access: &Access) -> Result<(), Refusal> {
            match access.subresource {
                "stats" | "healthz" => Ok(()),
                other => Err(Refusal::Forbidden(other.to_owned())),
            }
        }
    }

    #[tokio::test]
    async fn one_good_access_is_enough_and_none_is_not() {
        let caller = |token: &str| Caller { bearer_token: Some(token.to_owned()), ..Caller::default() };
        let good = caller("good");
        let check =
            |caller: Caller, path: &'static str| async move { check(&OnlyStats, &caller, &Method::GET, path).await };
        assert!(check(good.clone(), "/stats/summary").await.is_ok());
        assert!(check(good.clone(), "/healthz").await.is_ok());
        assert_eq!(check(good, "/exec/a/b/c").await, Err(Refusal::Forbidden("proxy".into())));
        assert_eq!(check(caller("bad"), "/healthz").await, Err(Refusal::Unauthenticated));
    }
}
