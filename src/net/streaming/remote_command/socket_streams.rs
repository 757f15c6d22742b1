//! A command's streams as channels of a WebSocket.

use super::resize::sizes;
use super::{Completion, Outcome, RemoteCommand, RemoteCommandOptions};
use crate::net::streaming::StreamError;
use crate::net::streaming::socket::{Coding, Socket, inbox};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

const STDIN: usize = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: usize = 4;

/// A subprotocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    coding: Coding,
    /// The error channel carries a Status.
    structured: bool,
}

const fn protocol(name: &'static str, base64: bool, closes: bool, structured: bool) -> Protocol {
    Protocol { name, coding: Coding { base64, closes, channels: true }, structured }
}

const PROTOCOLS: &[Protocol] = &[
    protocol("", false, false, false),
    protocol("channel.k8s.io", false, false, false),
    protocol("base64.channel.k8s.io", true, false, false),
    protocol("v4.channel.k8s.io", false, false, true),
    protocol("v4.base64.channel.k8s.io", true, false, true),
    protocol("v5.channel.k8s.io", false, true, true),
];

/// The first of the client's that is spoken here.
pub fn negotiate(offered: &[&str]) -> Result<&'static Protocol, StreamError> {
    let find = |name: &str| PROTOCOLS.iter().find(|protocol| protocol.name == name);
    if offered.is_empty() {
        return Ok(&PROTOCOLS[0]);
    }
    offered.iter().find_map(|name| find(name)).ok_or_else(|| {
        let known: Vec<&str> = PROTOCOLS[1..].iter().map(|protocol| protocol.name).collect();
        StreamError::Refused(
            StatusCode::FORBIDDEN,
            format!("unable to upgrade: the client offers {}, known are {}", offered.join(" "), known.join(" ")),
        )
    })
}

pub async fn open<T>(io: T, protocol: &'static Protocol, options: &RemoteCommandOptions) -> RemoteCommand
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut inboxes = vec![None; RESIZE + 1];
    let mut tasks = JoinSet::new();
    let stdin = options.stdin.then(|| {
        let (sender, stream) = inbox();
        inboxes[STDIN] = Some(sender);
        stream
    });
    let resize = options.tty.then(|| {
        let (sender, stream) = inbox();
        inboxes[RESIZE] = Some(sender);
        sizes(stream, &mut tasks)
    });
    let socket = Socket::start(io, protocol.coding, inboxes, options.idle_timeout).await;
    // An empty message tells the client that the connection stands.
    let lowest = match options {
        RemoteCommandOptions { stdout: true, .. } => STDOUT,
        RemoteCommandOptions { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    socket.send(lowest, &[]).await;
    let gone = socket.gone();
    RemoteCommand {
        stdin,
        stdout: options.stdout.then(|| socket.output(STDOUT)),
        stderr: options.stderr.then(|| socket.output(STDERR)),
        resize,
        completion: Completion {
            gone,
            finish: Box::new(move |outcome: Outcome| {
                Box::pin(async move {
                    if let Some(message) = outcome.message(protocol.structured) {
                        socket.send(ERROR, &message).await;
                    }
                    socket.close().await;
                    drop(tasks);
                })
            }),
        },
    }
}
