//! Sends spans to a collector: gRPC over HTTP/2 in clear text, in batches, after the fact.
//!
//! A request hands its span over and goes on; what a collector does not take in time is dropped and
//! counted. The timer of a batch runs only while there is one.

use super::{Configuration, Span, otlp};
use crate::net::resolver;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const QUEUE: usize = 2048;
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_LIMIT: usize = 1 << 20;

pub struct Tracer {
    /// Of the last seven bytes and a bit of a trace's id: below it, the trace is recorded.
    bound: u64,
    spans: mpsc::Sender<Box<Span>>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// To be called inside a tokio runtime. `instance`: which API server it is.
    pub fn start(configuration: Configuration, instance: String) -> Arc<Self> {
        let (spans, inbox) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let exporter = Exporter { endpoint: configuration.endpoint, instance, dropped: dropped.clone(), sender: None };
        tokio::spawn(exporter.run(inbox));
        // As OpenTelemetry's TraceIDRatioBased: servers with one rate agree.
        let bound = (u128::from(configuration.sampling_rate_per_million) << 63) / 1_000_000;
        Arc::new(Self { bound: u64::try_from(bound).unwrap_or(u64::MAX), spans, dropped })
    }

    pub(super) fn samples(&self, trace: &[u8; 16]) -> bool {
        let number = u64::from_be_bytes(trace[8..].try_into().expect("eight bytes")) >> 1;
        number < self.bound
    }

    pub(super) fn record(&self, span: Box<Span>) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Exporter {
    endpoint: String,
    instance: String,
    dropped: Arc<AtomicU64>,
    /// None: not connected.
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Exporter {
    /// Until every tracer is gone.
    async fn run(mut self, mut inbox: mpsc::Receiver<Box<Span>>) {
        let mut failing = false;
        while let Some(first) = inbox.recv().await {
            let mut batch = vec![first];
            let full = async {
                while batch.len() < BATCH {
                    let Some(span) = inbox.recv().await else { return };
                    batch.push(span);
                }
            };
            // What is there when the time is up goes out.
            let _ = tokio::time::timeout(DELAY, full).await;
            let sent = match tokio::time::timeout(TIMEOUT, self.send(&batch)).await {
                Ok(sent) => sent,
                Err(_) => Err("no answer in time".to_owned()),
            };
            match sent {
                Ok(()) if failing => tracing::info!("the collector at {} takes spans again", self.endpoint),
                Ok(()) => {}
                Err(error) => {
                    self.sender = None;
                    self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    if !failing {
                        tracing::warn!("send spans to {}: {error}", self.endpoint);
                    }
                    failing = true;
                    continue;
                }
            }
            failing = false;
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(dropped, "spans were not sent");
            }
        }
    }

    async fn send(&mut self, batch: &[Box<Span>]) -> Result<(), String> {
        let sender = match self.sender.as_mut().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let made = connect(&self.endpoint).await?;
                self.sender.insert(made)
            }
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{PATH}", self.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(otlp::frame(&self.instance, batch))))
            .map_err(|error| error.to_string())?;
        let (parts, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, REPLY_LIMIT).collect().await.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let told = |name: &str| {
            let value = trailers.get(name).or_else(|| parts.headers.get(name));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        match (parts.status.as_u16(), told("grpc-status").as_str()) {
            (200, "0") => Ok(()),
            (200, code) => Err(format!("gRPC status {code:?}: {}", told("grpc-message"))),
            (code, _) => Err(format!("HTTP status {code}")),
        }
    }
}

async fn connect(endpoint: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let (host, port) = endpoint.rsplit_once(':').ok_or("the endpoint has no port")?;
    let port: u16 = port.parse().map_err(|_| "the endpoint has no port")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = resolver::lookup(host).await.map_err(|error| error.to_string())?;
    let address = found.first().ok_or_else(|| format!("{host}: no such host"))?;
    let stream = TcpStream::connect(SocketAddr::new(*address, port)).await.map_err(|error| error.to_string())?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, driver) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "the connection to the collector ended");
        }
    });
    Ok(sender)
}
