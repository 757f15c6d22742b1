//! Exec and attach: standard streams, terminal sizes and the result of one command.

use super::{CREATION_TIMEOUT, IDLE_TIMEOUT, InputStream, OutputStream, StreamError, Upgrade};
use axum::body::Body;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::sync::mpsc;

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

/// The size of the client's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct TerminalSize {
    #[serde(rename = "Width")]
    pub width: u16,
    #[serde(rename = "Height")]
    pub height: u16,
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

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Not zero.
    ExitCode(i32),
    /// It could not be run.
    Failure(String),
}

/// Tells the client how the command ended, and when the client has gone away.
pub struct Completion {
    pub(super) finish: Box<dyn FnOnce(Outcome) -> BoxFuture<'static, ()> + Send>,
    pub(super) gone: tokio_util::sync::CancellationToken,
}

impl Completion {
    /// After the output streams were written to the end: sends the status and closes the
    /// connection once everything is out.
    pub async fn finish(self, outcome: Outcome) {
        (self.finish)(outcome).await;
    }

    /// Cancelled when the client has gone away (or was idle for too long).
    pub fn gone(&self) -> tokio_util::sync::CancellationToken {
        self.gone.clone()
    }
}

/// Accept an exec or attach request: WebSocket or SPDY, by its `Upgrade` header.
pub fn accept_remote_command<B>(
    _request: &mut http::Request<B>,
    _options: RemoteCommandOptions,
) -> Result<(http::Response<Body>, Upgrade<RemoteCommand>), StreamError> {
    Err(StreamError::Protocol("not built yet".to_owned()))
}
