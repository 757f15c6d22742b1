//! The API server as a tower service behind `kube::Client`, under one identity.
//!
//! The identity travels as an `http::Extensions` value, which nothing that comes over a socket can
//! set. A request that asks for an upgrade (exec, attach, port-forward) gets a real HTTP/1
//! connection over a pair of in-memory pipes, since hyper upgrades connections, not requests.

use super::metrics;
use crate::api::UserInfo;
use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use hyper_util::rt::TokioIo;
use kube::client::Body as ClientBody;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tower::{BoxError, Service, ServiceExt};

/// Bytes that may be under way in one direction of an upgraded stream.
const PIPE_BYTES: usize = 64 * 1024;

/// A client whose every request carries `user`. To be called inside a tokio runtime.
pub fn in_process<S>(service: S, user: UserInfo) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    kube::Client::new(InProcess { service, user }, "default")
}

#[derive(Clone)]
struct InProcess<S> {
    service: S,
    user: UserInfo,
}

impl<S> Service<Request<ClientBody>> for InProcess<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each call waits for a clone of its own.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        let service = self.service.clone();
        let user = self.user.clone();
        let mut request = request.map(Body::new);
        if request.headers().contains_key(header::UPGRADE) {
            return Box::pin(upgrade(service, user, request));
        }
        request.extensions_mut().insert(user);
        Box::pin(async move {
            let (method, since) = (request.method().clone(), std::time::Instant::now());
            let response = service.oneshot(request).await.map_err(Into::into)?;
            metrics::answered(&method, response.status(), since.elapsed());
            Ok(response)
        })
    }
}

/// Send one request over an in-memory connection, so that both ends can take the stream over.
async fn upgrade<S>(service: S, user: UserInfo, mut request: Request<Body>) -> Result<Response<Body>, BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let serve = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(user.clone());
        let service = service.clone();
        async move {
            let response = service.oneshot(request).await.map_err(Into::into).unwrap_or_else(|error| {
                let mut response = Response::new(Body::from(error.to_string()));
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                response
            });
            Ok::<_, Infallible>(response)
        }
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), serve).with_upgrades();
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::debug!(%error, "in-process connection ended");
        }
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "in-process connection ended");
        }
    });
    if !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
    }
    let response = sender.send_request(request).await?;
    Ok(response.map(Body::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Extension;
    use axum::routing::any;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn router() -> axum::Router {
        axum::Router::new()
            .route(
                "/whoami",
                any(|Extension(user): Extension<UserInfo>| async move {
                    format!("{} {}", user.name, user.groups.join(","))
                }),
            )
            .route(
                "/echo",
                any(|Extension(user): Extension<UserInfo>, request: Request<Body>| async move {
                    tokio::spawn(async move {
                        let upgraded = hyper::upgrade::on(request).await.expect("upgraded");
                        let mut stream = TokioIo::new(upgraded);
                        stream.write_all(user.name.as_bytes()).await.expect("writes");
                        let mut got = [0_u8; 4];
                        stream.read_exact(&mut got).await.expect("reads");
                        stream.write_all(&got).await.expect("writes");
                        stream.shutdown().await.expect("shuts down");
                    });
                    Response::builder()
                        .status(101)
                        .header("upgrade", "x")
                        .header("connection", "Upgrade")
                        .body(Body::empty())
                        .expect("a response")
                }),
            )
    }

    #[tokio::test]
    async fn the_identity_travels_with_each_request() {
        let client = in_process(router(), UserInfo::new("system:node:n1", &["system:nodes"]));
        let request = Request::get("/whoami").body(Vec::new()).expect("a request");
        let text = client.request_text(request).await.expect("answered");
        assert_eq!(text, "system:node:n1 system:nodes,system:authenticated");
    }

    #[tokio::test]
    async fn an_upgraded_stream_goes_both_ways_under_the_identity() {
        let client = in_process(router(), UserInfo::new("ann", &[]));
        let request = Request::get("/echo")
            .header("upgrade", "x")
            .header("connection", "Upgrade")
            .body(ClientBody::empty())
            .expect("a request");
        let response = client.send(request).await.expect("answered");
        assert_eq!(response.status(), 101);
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
        stream.write_all(b"ping").await.expect("writes");
        let mut all = String::new();
        stream.read_to_string(&mut all).await.expect("reads");
        assert_eq!(all, "annping");
    }
}
