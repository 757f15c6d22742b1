//! A command's streams as streams of a SPDY session, told apart by their `streamtype`.

use super::resize::sizes;
use super::{Completion, Outcome, RemoteCommand, RemoteCommandOptions};
use crate::net::streaming::spdy::{Session, Stream};
use crate::net::streaming::{InputStream, OutputStream, StreamError};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

/// A version of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    pub name: &'static str,
    /// There is a stream of terminal sizes.
    resize: bool,
    /// The error stream carries a Status.
    structured: bool,
}

const VERSIONS: &[Version] = &[
    Version { name: "", resize: false, structured: false },
    Version { name: "channel.k8s.io", resize: false, structured: false },
    Version { name: "v2.channel.k8s.io", resize: false, structured: false },
    Version { name: "v3.channel.k8s.io", resize: true, structured: false },
    Version { name: "v4.channel.k8s.io", resize: true, structured: true },
];

/// The first of the client's that is spoken here.
pub fn negotiate(offered: &[&str]) -> Result<&'static Version, StreamError> {
    if offered.is_empty() {
        return Ok(&VERSIONS[0]);
    }
    let find = |name: &str| VERSIONS[1..].iter().find(|version| version.name == name);
    offered.iter().find_map(|name| find(name)).ok_or_else(|| {
        let known: Vec<&str> = VERSIONS[1..].iter().rev().map(|version| version.name).collect();
        StreamError::Refused(
            StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                offered.join(" "),
                known.join(" ")
            ),
        )
    })
}

#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

pub async fn open<T>(
    io: T,
    version: &'static Version,
    options: &RemoteCommandOptions,
) -> Result<RemoteCommand, StreamError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut session = Session::start(io, options.idle_timeout);
    let streams = tokio::time::timeout(options.creation_timeout, collect(&mut session, version, options))
        .await
        .map_err(|_| StreamError::CreationTimeout)??;
    let mut tasks = JoinSet::new();
    let resize = streams.resize.map(|stream| sizes(Box::new(stream), &mut tasks));
    let outputs: Vec<u32> = [&streams.stdout, &streams.stderr].into_iter().flatten().map(Stream::id).collect();
    let gone = session.gone();
    let error = streams.error;
    Ok(RemoteCommand {
        stdin: streams.stdin.map(|stream| Box::new(stream) as InputStream),
        stdout: streams.stdout.map(|stream| Box::new(stream) as OutputStream),
        stderr: streams.stderr.map(|stream| Box::new(stream) as OutputStream),
        resize,
        completion: Completion {
            gone,
            finish: Box::new(move |outcome: Outcome| {
                Box::pin(async move {
                    for stream in outputs {
                        session.end_output(stream).await;
                    }
                    if let Some(mut error) = error {
                        // A client that is gone needs no status.
                        if let Some(message) = outcome.message(version.structured) {
                            let _ = error.write_all(&message).await;
                        }
                        let _ = error.shutdown().await;
                    }
                    session.close().await;
                    drop(tasks);
                })
            }),
        },
    })
}

/// All the streams that the client must open.
async fn collect(
    session: &mut Session,
    version: &Version,
    options: &RemoteCommandOptions,
) -> Result<Streams, StreamError> {
    let resize = options.tty && version.resize;
    let wanted = [true, options.stdin, options.stdout, options.stderr, resize];
    let mut missing = wanted.into_iter().filter(|&wanted| wanted).count();
    let mut streams = Streams::default();
    while missing > 0 {
        let Some(stream) = session.next().await else {
            return Err(StreamError::Protocol("the client left before it opened its streams".to_owned()));
        };
        let slot = match stream.headers.get("streamtype") {
            Some("error") => &mut streams.error,
            Some("stdin") if options.stdin => &mut streams.stdin,
            Some("stdout") if options.stdout => &mut streams.stdout,
            Some("stderr") if options.stderr => &mut streams.stderr,
            Some("resize") if resize => &mut streams.resize,
            _ => {
                stream.refuse().await;
                continue;
            }
        };
        if slot.is_some() {
            stream.refuse().await;
            continue;
        }
        *slot = Some(stream.accept().await.quiet());
        missing -= 1;
    }
    Ok(streams)
}
