//! The server behind TLS: HTTP/1.1 and HTTP/2 by ALPN, limits on everything a stranger can make it
//! hold, and an orderly end.

use super::Server;
use super::authn::ConnectionInfo;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What a client can make the server hold.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections: usize,
    /// From the first byte to the end of the TLS handshake.
    pub handshake: Duration,
    /// Of the head of a request on HTTP/1.1.
    pub head: Duration,
    /// Bytes of the head of a request.
    pub head_bytes: u32,
    /// Requests under way at once on one HTTP/2 connection.
    pub streams: u32,
    /// How long requests under way may go on after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            head_bytes: 1024 * 1024,
            streams: 250,
            drain: Duration::from_secs(10),
        }
    }
}

/// An idle HTTP/2 connection is asked whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);

impl Server {
    /// Answer requests until `shutdown`; then watches end, requests under way finish, and the call
    /// returns.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        limits: Limits,
        shutdown: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(with_protocols(tls));
        let permits = Arc::new(Semaphore::new(limits.connections));
        let limits = Arc::new(limits);
        let mut connections = JoinSet::new();
        loop {
            // At the limit nobody is accepted: the backlog waits.
            let permit = tokio::select! {
                () = shutdown.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        server: self.clone(),
                        acceptor: acceptor.clone(),
                        limits: limits.clone(),
                        shutdown: shutdown.clone(),
                        _permit: permit,
                    };
                    connections.spawn(connection.run(stream, peer));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some time must pass.
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        self.shut_down();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(limits.drain, drained).await.is_err() {
            tracing::info!(left = connections.len(), "connections cut at shutdown");
        }
    }
}

fn with_protocols(tls: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if !tls.alpn_protocols.is_empty() {
        return tls;
    }
    let mut config = (*tls).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

struct Connection {
    server: Server,
    acceptor: TlsAcceptor,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "set TCP_NODELAY");
        }
        let handshake = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "TLS handshake error");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake timed out");
                return;
            }
        };
        let certificates: Vec<CertificateDer<'static>> = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|list| list.iter().cloned().map(CertificateDer::into_owned).collect())
            .unwrap_or_default();
        let info = ConnectionInfo::new(Some(peer), certificates.into());
        let server = self.server.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(info.clone());
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.oneshot(request).await.unwrap_or_else(|never| match never {})) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(self.limits.head_bytes as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(self.limits.head_bytes)
            .max_concurrent_streams(self.limits.streams)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
