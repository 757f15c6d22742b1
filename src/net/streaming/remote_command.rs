//! Exec and attach: standard streams, terminal sizes and the result of one command.

mod outcome;
mod resize;
mod socket_streams;
mod spdy_streams;

pub use outcome::Outcome;
pub use resize::TerminalSize;

use super::{CREATION_TIMEOUT, IDLE_TIMEOUT, InputStream, OutputStream, StreamError, Upgrade, upgraded, websocket};
use axum::body::Body;
use futures::future::BoxFuture;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Which streams the client asked for.
#[derive(Clone, Debug)]
pub struct RemoteCommandOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    pub idle_timeout: Duration,
    pub creation_timeout: Duration,
}

impl RemoteCommandOptions {
    /// From the kubelet's query parameters (`input`, `output`, `error`, `tty`, each `1` or `true`)
    /// or the API's names of the same (`stdin`, `stdout`, `stderr`). With a terminal there is no
    /// stderr.
    pub fn from_query(query: &str) -> Result<Self, StreamError> {
        let mut options = Self {
            stdin: false,
            stdout: false,
            stderr: false,
            tty: false,
            idle_timeout: IDLE_TIMEOUT,
            creation_timeout: CREATION_TIMEOUT,
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let on = matches!(value, "1" | "true");
            match name {
                "input" | "stdin" => options.stdin = on,
                "output" | "stdout" => options.stdout = on,
                "error" | "stderr" => options.stderr = on,
                "tty" => options.tty = on,
                _ => {}
            }
        }
        options.stderr &= !options.tty;
        if options.stdin || options.stdout || options.stderr {
            Ok(options)
        } else {
            Err(StreamError::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
        }
    }
}

/// The accepted streams. Take what is needed; end with [`Completion::finish`].
pub struct RemoteCommand {
    pub stdin: Option<InputStream>,
    pub stdout: Option<OutputStream>,
    pub stderr: Option<OutputStream>,
    /// With a terminal only: each change of size, the first one at once.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    pub completion: Completion,
}

/// Tells the client how the command ended, and when the client has gone away. Dropping it cuts the
/// connection.
pub struct Completion {
    finish: Box<dyn FnOnce(Outcome) -> BoxFuture<'static, ()> + Send>,
    gone: CancellationToken,
}

impl Completion {
    /// After the output streams were written to the end: sends the status and closes the
    /// connection once everything is out.
    pub async fn finish(self, outcome: Outcome) {
        (self.finish)(outcome).await;
    }

    /// Cancelled when the client has gone away (or was idle for too long).
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Accept an exec or attach request: WebSocket or SPDY, by its `Upgrade` header.
pub fn accept_remote_command<B>(
    request: &mut http::Request<B>,
    options: RemoteCommandOptions,
) -> Result<(Response<Body>, Upgrade<RemoteCommand>), StreamError> {
    if websocket::asks_for(request.headers(), "websocket") {
        let protocol = socket_streams::negotiate(&websocket::offered(request.headers()))?;
        let response = websocket::accept(request.headers(), protocol.name)?;
        let upgrade = hyper::upgrade::on(request);
        let streams = async move { Ok(socket_streams::open(upgraded(upgrade).await?, protocol, &options).await) };
        return Ok((response, Box::pin(streams)));
    }
    let offered: Vec<&str> = request
        .headers()
        .get_all(STREAM_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    let version = spdy_streams::negotiate(&offered)?;
    let response = spdy_response(request.headers(), version.name)?;
    let upgrade = hyper::upgrade::on(request);
    let streams = async move { spdy_streams::open(upgraded(upgrade).await?, version, &options).await };
    Ok((response, Box::pin(streams)))
}

/// The 101 reply of SPDY/3.1 with the chosen protocol of its streams (empty: none was offered).
pub(super) fn spdy_response(headers: &http::HeaderMap, protocol: &'static str) -> Result<Response<Body>, StreamError> {
    if !websocket::asks_for(headers, "SPDY/3.1") {
        let shown = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        return Err(StreamError::bad_request(format!(
            "unable to upgrade: missing upgrade headers in request: connection {:?}, upgrade {:?}",
            shown(CONNECTION).unwrap_or_default(),
            shown(UPGRADE).unwrap_or_default()
        )));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    if !protocol.is_empty() {
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
