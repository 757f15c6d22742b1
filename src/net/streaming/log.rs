//! Container logs over a plain WebSocket: messages without channels, to the client only.

use super::socket::{Coding, Socket};
use super::{IDLE_TIMEOUT, OutputStream, StreamError, Upgrade, upgraded, websocket};
use axum::body::Body;

/// `binary.k8s.io` (or none), and its base64 form.
const PROTOCOLS: &[(&str, bool)] = &[("binary.k8s.io", false), ("base64.binary.k8s.io", true)];

/// The client's connection; end it with [`LogSocket::close`].
pub struct LogSocket(Socket);

impl LogSocket {
    pub fn output(&self) -> OutputStream {
        self.0.output(0)
    }

    /// Cancelled when the client has gone away.
    pub fn gone(&self) -> tokio_util::sync::CancellationToken {
        self.0.gone()
    }

    pub async fn close(self) {
        self.0.close().await;
    }
}

/// Accept a request for logs over WebSocket. `Ok(None)`: it asks for no upgrade.
pub fn accept_log<B>(
    request: &mut http::Request<B>,
) -> Result<Option<(http::Response<Body>, Upgrade<LogSocket>)>, StreamError> {
    if !websocket::asks_for(request.headers(), "websocket") {
        return Ok(None);
    }
    let offered = websocket::offered(request.headers());
    let chosen = offered.iter().find_map(|name| PROTOCOLS.iter().find(|(known, _)| known == name));
    let (name, base64) = chosen.copied().unwrap_or(("", false));
    let response = websocket::accept(request.headers(), name)?;
    let upgrade = hyper::upgrade::on(request);
    let coding = Coding { base64, closes: false, channels: false };
    let socket = Box::pin(async move {
        Ok(LogSocket(Socket::start(upgraded(upgrade).await?, coding, Vec::new(), IDLE_TIMEOUT).await))
    });
    Ok(Some((response, socket)))
}
