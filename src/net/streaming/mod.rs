//! Server side of kubectl's streaming protocols: exec, attach, port-forward and logs.
//!
//! [`accept_remote_command`], [`accept_port_forward`] and [`accept_log`] look at an HTTP/1.1
//! upgrade request and give the 101 reply and a future of the streams, which is ready once the
//! reply is sent. WebSocket (`v5.channel.k8s.io` and older), SPDY/3.1, and SPDY inside a WebSocket
//! (`SPDY/3.1+portforward.k8s.io`) look the same from outside. Invariant: every buffer is bounded;
//! a slow reader slows the sender down.

mod activity;
mod log;
mod port_forward;
mod remote_command;
pub mod socket;
pub mod spdy;
mod websocket;

pub use log::{LogSocket, accept_log};
pub use port_forward::{ForwardedPort, PortForward, PortForwardOptions, accept_port_forward};
pub use remote_command::{
    Completion, Outcome, RemoteCommand, RemoteCommandOptions, TerminalSize, accept_remote_command,
};

use axum::body::Body;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes from the client; EOF when the client closes its side or is gone.
pub type InputStream = Box<dyn AsyncRead + Send + Unpin>;

/// Bytes to the client; `shutdown` sends EOF, writes wait while the client does not read.
pub type OutputStream = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The streams of an accepted upgrade. Poll it after the reply was handed to the HTTP server (on a
/// task of its own): it is ready when the connection has been switched over.
pub type Upgrade<T> = BoxFuture<'static, Result<T, StreamError>>;

/// Without a byte in either direction for this long a stream is closed, as the kubelet's
/// `streamingConnectionIdleTimeout`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);

/// How long a client may take to open its streams.
pub const CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an upgrade failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The request cannot be served; answer with [`StreamError::response`].
    #[error("{1}")]
    Refused(http::StatusCode, String),
    #[error("upgrade the connection: {0}")]
    Upgrade(#[from] hyper::Error),
    #[error("timed out waiting for client to create streams")]
    CreationTimeout,
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl StreamError {
    fn bad_request(message: impl Into<String>) -> Self {
        Self::Refused(http::StatusCode::BAD_REQUEST, message.into())
    }

    /// The reply to a request that could not be upgraded: plain text.
    pub fn response(&self) -> http::Response<Body> {
        let code = match self {
            Self::Refused(code, _) => *code,
            _ => http::StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = http::Response::new(Body::from(format!("{self}\n")));
        *response.status_mut() = code;
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// The connection behind a request, once the 101 reply is out.
async fn upgraded(upgrade: hyper::upgrade::OnUpgrade) -> Result<TokioIo<hyper::upgrade::Upgraded>, StreamError> {
    Ok(TokioIo::new(upgrade.await?))
}
