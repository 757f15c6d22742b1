//! The API server behind TLS: protocols, identities, limits, shutdown, watches over a WebSocket.

use crate::apiserver::Api;
use axum::body::Body;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch::apiserver::{Limits, authn};
use orch::cluster::pki::{Options, Pki};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

struct Running {
    pki: Pki,
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

async fn start(limits: Limits) -> Running {
    let directory = TempDir::new().expect("a directory");
    let service = "10.43.0.1".parse().expect("an address");
    let pki = Pki::open_or_create(directory.path(), Options::new(service, "cluster.local")).expect("certificates");
    let clock: authn::Clock = Arc::new(SystemTime::now);
    let verifier = authn::x509::Verifier::new(pki.client_ca_pem(), clock).expect("a CA");
    let clients = Arc::new(authn::x509::ClientCertificates::new(verifier));
    let server = Api::with(|config| config.authenticators = vec![clients]).await.server;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let tls = pki.server_tls_config().expect("a configuration");
    let serving = tokio::spawn(server.serve(listener, tls, limits, shutdown.clone()));
    Running { pki, address, shutdown, serving, _directory: directory }
}

impl Running {
    async fn connect(&self, user: &str, groups: &[&str], protocol: &[u8]) -> TlsStream<TcpStream> {
        let config = self.pki.client_config(user, groups, protocol).expect("a configuration");
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(config).connect(name, stream).await.expect("a handshake")
    }

    fn request(&self, path: &str) -> Request<Body> {
        let uri = format!("https://localhost:{}{path}", self.address.port());
        Request::get(uri).header("host", "localhost").body(Body::empty()).expect("a request")
    }
}

async fn json(reply: http::Response<hyper::body::Incoming>) -> Value {
    let bytes = reply.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn both_protocols_know_the_client_by_its_certificate() {
    let running = start(Limits::default()).await;
    let stream = running.connect("admin", &["system:masters"], b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let reply = sender.send_request(running.request("/api/v1/namespaces")).await.expect("an answer");
    assert_eq!((reply.status().as_u16(), reply.version()), (200, http::Version::HTTP_2));

    let stream = running.connect("ann", &[], b"http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let refused = json(sender.send_request(running.request("/api/v1/namespaces")).await.expect("an answer")).await;
    let message = refused["message"].as_str().expect("a message");
    assert!(message.starts_with("namespaces is forbidden: User \"ann\" cannot list"), "{message}");
}

#[tokio::test]
async fn nobody_else_can_say_who_they_are() {
    let running = start(Limits::default()).await;
    let config = rustls::ClientConfig::builder_with_provider(orch::net::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(orch::net::tls::roots(running.pki.server_ca_pem()).expect("a CA"))
        .with_no_client_auth();
    let stream = TcpStream::connect(running.address).await.expect("connects");
    let name = "localhost".try_into().expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let reply = sender.send_request(running.request("/api/v1/namespaces")).await.expect("an answer");
    assert_eq!(reply.status(), 401);
}

#[tokio::test]
async fn a_silent_client_is_let_go() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let running = start(limits).await;
    let mut silent = TcpStream::connect(running.address).await.expect("connects");
    let mut byte = [0_u8; 1];
    let end = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut byte)).await.expect("in time");
    assert!(matches!(end, Ok(0) | Err(_)));

    // A slow head of a request, likewise.
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let running = start(limits).await;
    let mut slow = running.connect("admin", &["system:masters"], b"http/1.1").await;
    slow.write_all(b"GET /version HTTP/1.1\r\nhost:").await.expect("written");
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut answer)).await.expect("in time");
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"), "{end:?} {}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn at_the_limit_the_next_connection_waits() {
    let running = start(Limits { connections: 1, ..Limits::default() }).await;
    let first = running.connect("admin", &["system:masters"], b"http/1.1").await;
    let second = running.connect("admin", &["system:masters"], b"http/1.1");
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await.is_err());
    drop(first);
    tokio::time::timeout(Duration::from_secs(10), second).await.expect("let in");
}

#[tokio::test]
async fn a_shutdown_ends_watches_and_then_the_server() {
    let running = start(Limits::default()).await;
    let stream = running.connect("admin", &["system:masters"], b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let watch = sender.send_request(running.request("/api/v1/namespaces?watch=true")).await.expect("an answer");
    assert_eq!(watch.status(), 200);
    running.shutdown.cancel();
    let rest = tokio::time::timeout(Duration::from_secs(10), watch.into_body().collect()).await.expect("it ends");
    assert!(rest.expect("a whole stream").to_bytes().is_empty());
    tokio::time::timeout(Duration::from_secs(10), running.serving).await.expect("it ends").expect("no panic");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_watch_over_a_websocket() {
    let running = start(Limits::default()).await;
    let stream = running.connect("admin", &["system:masters"], b"http/1.1").await;
    let uri = format!("wss://localhost:{}/api/v1/namespaces?watch=true", running.address.port());
    let (mut socket, reply) = tokio_tungstenite::client_async(uri, stream).await.expect("an upgrade");
    assert_eq!(reply.status(), 101);
    let writer = running.connect("admin", &["system:masters"], b"http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(writer)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let body = Body::from(r#"{"metadata":{"name":"n"}}"#);
    let request = Request::post("/api/v1/namespaces").header("host", "localhost").body(body).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 201);
    let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("in time");
    let Some(Ok(Message::Text(text))) = message else { panic!("{message:?}") };
    let event: Value = serde_json::from_str(&text).expect("an event");
    assert_eq!((event["type"].as_str(), event["object"]["metadata"]["name"].as_str()), (Some("ADDED"), Some("n")));
}
