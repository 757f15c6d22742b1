//! Calls to webhooks: a JSON document posted over TLS to a Service or a URL, through the dialer.
//!
//! Errors read as Go's client tells them: `Post "https://…": dial tcp …`.

mod answers;
mod kubeconfig;

pub use answers::Answers;

use super::subresources::connect::service_endpoint;
use super::traces;
use crate::api::field::go_quote;
use crate::api::{Fields, GroupResource};
use crate::client::dialer::{Connection, Destination, Dialer, Direct};
use crate::net::{resolver, tls};
use crate::storage::{Key, Storage};
use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// Larger answers are refused.
const REPLY_LIMIT: usize = 16 << 20;

/// Makes the calls.
pub struct Client {
    storage: Arc<dyn Storage>,
    dialer: Arc<dyn Dialer>,
}

/// Where a webhook is, and whom it is trusted by: a `WebhookClientConfig`.
pub struct Target {
    place: Place,
    /// What the certificate must say.
    server_name: String,
    tls: Result<Arc<rustls::ClientConfig>, String>,
    url: String,
    path: String,
    /// What the server knows us by, beside a certificate.
    authorization: Option<HeaderValue>,
}

enum Place {
    Service { namespace: String, name: String, port: u16 },
    Host { host: String, port: u16 },
}

impl Target {
    /// Of a `clientConfig` that passed validation. `timeout` is told to the webhook.
    pub fn new(client: &Value, timeout: Duration) -> Self {
        let bundle = base64::engine::general_purpose::STANDARD.decode(client.str_at("caBundle")).unwrap_or_default();
        let tls = tls::webhook_client(&String::from_utf8_lossy(&bundle)).map_err(|error| error.to_string());
        let (place, authority, server_name, path) = match client.get_set("service") {
            Some(service) => {
                let (namespace, name) = (service.str_at("namespace").to_owned(), service.str_at("name").to_owned());
                let port = service.optional_int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
                let host = format!("{name}.{namespace}.svc");
                let authority = format!("{host}:{port}");
                (Place::Service { namespace, name, port }, authority, host, service.str_at("path").to_owned())
            }
            None => {
                let (authority, host, port, path) = split(client.str_at("url"));
                (Place::Host { host: host.clone(), port }, authority, host, path)
            }
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}?timeout={}s", timeout.as_secs());
        let url = format!("https://{authority}{path}");
        Self { place, server_name, tls, url, path, authorization: None }
    }

    /// A server of its own, trusted by a bundle (PEM; empty: by what the machine trusts).
    pub fn of_url(url: &str, bundle: &str) -> Result<Self, String> {
        if !url.starts_with("https://") {
            return Err(format!("{}: not a URL that starts with https://", go_quote(url)));
        }
        let (authority, host, port, path) = split(url);
        Ok(Self {
            place: Place::Host { host: host.clone(), port },
            server_name: host,
            tls: tls::webhook_client(bundle).map_err(|error| error.to_string()),
            url: format!("https://{authority}{path}"),
            path: if path.is_empty() { "/".to_owned() } else { path },
            authorization: None,
        })
    }
}

/// Authority, host, port and path of a URL.
fn split(url: &str) -> (String, String, u16, String) {
    let rest = url.trim_start_matches("https://");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.parse().unwrap_or(443)),
        _ => (authority, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    (authority.to_owned(), host, port, path.to_owned())
}

impl Client {
    pub fn new(storage: Arc<dyn Storage>, dialer: Arc<dyn Dialer>) -> Arc<Self> {
        Arc::new(Self { storage, dialer })
    }

    /// By routes of this machine.
    pub fn direct(storage: Arc<dyn Storage>) -> Arc<Self> {
        Self::new(storage, Arc::new(Direct::default()))
    }

    /// Posts a document; the answer is a document, too.
    pub async fn post(&self, target: &Target, timeout: Duration, document: &Value) -> Result<Value, String> {
        let body = serde_json::to_vec(document).map_err(|error| error.to_string())?;
        self.ask(target, timeout, Method::POST, body).await
    }

    /// Posts JSON; what is answered does not matter, once it is taken.
    pub async fn send(&self, target: &Target, timeout: Duration, body: Vec<u8>) -> Result<(), String> {
        let (status, kind, reply) = match tokio::time::timeout(timeout, self.exchange(target, Method::POST, body)).await
        {
            Ok(answer) => answer?,
            Err(_) => return Err("context deadline exceeded".to_owned()),
        };
        if status.is_success() { Ok(()) } else { Err(refused(status, &kind, &reply)) }
    }

    /// Reads a document.
    pub async fn get(&self, target: &Target, timeout: Duration) -> Result<Value, String> {
        self.ask(target, timeout, Method::GET, Vec::new()).await
    }

    async fn ask(&self, target: &Target, timeout: Duration, method: Method, body: Vec<u8>) -> Result<Value, String> {
        let verb = if method == Method::POST { "Post" } else { "Get" };
        let failed = |error: String| format!("{verb} {}: {error}", go_quote(&target.url));
        let (status, kind, reply) = match tokio::time::timeout(timeout, self.exchange(target, method, body)).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
        };
        if !status.is_success() {
            return Err(refused(status, &kind, &reply));
        }
        if reply.is_empty() {
            let code = status.as_u16();
            return Err(format!("0-length response with status code: {code} and content type: {kind}"));
        }
        serde_json::from_slice(&reply).map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
    }

    async fn exchange(
        &self,
        target: &Target,
        method: Method,
        body: Vec<u8>,
    ) -> Result<(StatusCode, String, Bytes), String> {
        let tls = target.tls.clone().map_err(|error| format!("unable to load root certificates: {error}"))?;
        let connection = self.connect(&target.place).await?;
        let name = ServerName::try_from(target.server_name.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls).connect(name, connection).await.map_err(|error| certificate(&error))?;
        let told = |error: hyper::Error| error.to_string();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
        let mut request = Request::builder()
            .method(method)
            .uri(&target.path)
            .header(HOST, &target.server_name)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        if let Some(authorization) = &target.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let method = request.method().clone();
        let mut call = traces::call(request.headers_mut(), &method, &target.server_name);
        let exchange = async {
            let (parts, body) = sender.send_request(request).await.map_err(told)?.into_parts();
            call.iter_mut().for_each(|call| call.answered(parts.status.as_u16()));
            let body = Limited::new(body, REPLY_LIMIT).collect().await.map_err(|error| error.to_string())?;
            let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            Ok((parts.status, kind.to_owned(), body.to_bytes()))
        };
        // The connection lives as long as the exchange.
        tokio::select! {
            answer = exchange => answer,
            Err(error) = driver => Err(error.to_string()),
        }
    }

    async fn connect(&self, place: &Place) -> Result<Connection, String> {
        let destination = match place {
            Place::Service { namespace, name, port } => {
                // Its lister's word for the resource is the kind's.
                if let Some(kind) = unreachable_service(&*self.storage, namespace, name) {
                    return Err(format!("unsupported service type {}", go_quote(&kind)));
                }
                let quoted = format!("port \"{port}\"");
                service_endpoint(&*self.storage, namespace, name, &port.to_string()).map_err(|status| {
                    let message = status.message.replacen("services \"", "service \"", 1);
                    message.replacen(&quoted, &format!("port {port}"), 1)
                })?
            }
            Place::Host { host, port } => {
                let found = resolver::lookup(host).await.map_err(|error| format!("dial tcp: {error}"))?;
                let address = found.first().ok_or_else(|| format!("dial tcp: lookup {host}: no such host"))?;
                Destination { node: None, address: SocketAddr::new(*address, *port) }
            }
        };
        self.dial(&destination).await
    }

    /// A connection; the error reads as Go's.
    pub(super) async fn dial(&self, destination: &Destination) -> Result<Connection, String> {
        let address = destination.address;
        self.dialer.dial(destination).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
            _ => format!("dial tcp {address}: {error}"),
        })
    }
}

/// What is wrong with the server's certificate, as Go tells it.
pub(super) fn certificate(error: &std::io::Error) -> String {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer};
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = inner else { return error.to_string() };
    let reason = match reason {
        UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        Expired | ExpiredContext { .. } => "certificate has expired or is not yet valid".to_owned(),
        NotValidForName | NotValidForNameContext { .. } => format!("certificate is not valid for this name: {error}"),
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {reason}")
}

/// The type of a Service that has no endpoints of its own.
fn unreachable_service(storage: &dyn Storage, namespace: &str, name: &str) -> Option<String> {
    let key = Key::new(&GroupResource::new("", "services"), namespace, name);
    let service = storage.get(&key)?.body.parse();
    let kind = service["spec"]["type"].as_str().unwrap_or_default();
    (kind == "ExternalName").then(|| kind.to_owned())
}

/// As client-go tells an answer that is no success: in its own words, where it is a Status.
fn refused(status: StatusCode, kind: &str, reply: &Bytes) -> String {
    let document: Value = serde_json::from_slice(reply).unwrap_or_default();
    if document["kind"] == "Status" && document["apiVersion"] == "v1" && document["status"] != "Success" {
        return document["message"].as_str().unwrap_or_default().to_owned();
    }
    let text = String::from_utf8_lossy(&reply[..reply.len().min(2048)]);
    // Only what says that it is text is one.
    let text = if kind.starts_with("text/") { text } else { "unknown".into() };
    match status.as_u16() {
        404 => "the server could not find the requested resource".to_owned(),
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => format!("forbidden: {}", text.trim()),
        500.. => {
            format!("an error on the server ({}) has prevented the request from succeeding", go_quote(text.trim()))
        }
        _ => {
            format!("the server responded with the status code {} but did not return more information", status.as_u16())
        }
    }
}
