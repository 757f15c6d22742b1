//! The gRPC health check (`grpc.health.v1.Health/Check`), for probes.

use super::{Outcome, http};
use ::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

const MAX_REPLY: usize = 4096;
const SERVING: u8 = 1;
const UNIMPLEMENTED: &str = "12";

pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let seconds = timeout.as_secs();
    let stream = match http::connect(host, port, timeout).await {
        Ok(stream) => stream,
        Err(error) => {
            let message = format!("timeout: failed to connect service \"{address}\" within {seconds}s: {error}");
            return Outcome::Failure(message);
        }
    };
    match tokio::time::timeout(timeout, check(stream, &address, service)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s")),
    }
}

async fn check(stream: tokio::net::TcpStream, address: &str, service: &str) -> Outcome {
    match exchange(stream, address, service).await {
        Ok((status, _)) if status == UNIMPLEMENTED => Outcome::Failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned(),
        ),
        Ok((status, _)) if status != "0" && !status.is_empty() => {
            Outcome::Failure(format!("error: health rpc failed: rpc error: code = {status}"))
        }
        Ok((_, body)) => match serving_status(&body) {
            Some(SERVING) => Outcome::Success,
            other => {
                let name = match other.unwrap_or(0) {
                    2 => "NOT_SERVING",
                    3 => "SERVICE_UNKNOWN",
                    _ => "UNKNOWN",
                };
                Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
            }
        },
        Err(error) => Outcome::Failure(format!("error: health rpc failed: {error}")),
    }
}

/// The `grpc-status` and the message of the reply.
async fn exchange(
    stream: tokio::net::TcpStream,
    address: &str,
    service: &str,
) -> Result<(String, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(frame(service))))?;
    let converse = async move {
        let reply = sender.send_request(request).await?;
        let status_of = |headers: &::http::HeaderMap| {
            headers.get("grpc-status").and_then(|status| status.to_str().ok()).map(str::to_owned)
        };
        let mut status = status_of(reply.headers());
        let mut body = reply.into_body();
        let mut message = Vec::new();
        while let Some(part) = body.frame().await {
            let part = part?;
            if let Some(data) = part.data_ref() {
                let room = MAX_REPLY.saturating_sub(message.len());
                message.extend_from_slice(&data[..data.len().min(room)]);
            } else if let Some(trailers) = part.trailers_ref() {
                status = status_of(trailers).or(status);
            }
        }
        Ok((status.unwrap_or_default(), message))
    };
    tokio::select! {
        reply = converse => reply,
        ended = connection => match ended {
            Ok(()) => Err("the connection closed".into()),
            Err(error) => Err(error.into()),
        },
    }
}

/// `HealthCheckRequest { service = 1 }` as one uncompressed gRPC message.
fn frame(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
    out
}

/// `HealthCheckResponse { status = 1 }`; an empty message is UNKNOWN.
fn serving_status(body: &[u8]) -> Option<u8> {
    match body.get(5..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(frame(""), [0, 0, 0, 0, 0]);
        assert_eq!(frame("a"), [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0]), None);
    }
}
