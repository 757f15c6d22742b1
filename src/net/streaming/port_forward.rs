//! Port-forward: many connections to a pod's ports over one connection of the client.

mod channels;
mod pairs;

use super::spdy::Session;
use super::{CREATION_TIMEOUT, Duplex, IDLE_TIMEOUT, OutputStream, StreamError, Upgrade, upgraded, websocket};
use axum::body::Body;
use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// SPDY as it is, and as the bytes of a WebSocket.
const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

#[derive(Clone, Debug)]
pub struct PortForwardOptions {
    pub idle_timeout: Duration,
    pub creation_timeout: Duration,
}

impl Default for PortForwardOptions {
    fn default() -> Self {
        Self { idle_timeout: IDLE_TIMEOUT, creation_timeout: CREATION_TIMEOUT }
    }
}

/// The client's connection; dropping it closes all of its forwarded ports.
pub struct PortForward {
    incoming: mpsc::Receiver<ForwardedPort>,
    gone: CancellationToken,
    tasks: JoinSet<()>,
}

impl PortForward {
    /// The next connection that the client opens; None: it opens no more, or has gone away.
    pub async fn next(&mut self) -> Option<ForwardedPort> {
        tokio::select! {
            port = self.incoming.recv() => port,
            () = self.gone.cancelled() => None,
        }
    }

    /// Ends when all that was sent is out and the connection is closed: after the last port's end.
    pub async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One forwarded connection.
pub struct ForwardedPort {
    /// The port in the pod.
    pub port: u16,
    pub data: Box<dyn Duplex>,
    /// Text that the client shows; closed without a byte: all went well.
    pub error: OutputStream,
    /// Each side may say that it has no more to send, and still be sent to.
    half_closes: bool,
    gone: CancellationToken,
    /// Dropped with the connection: the transport may end with its last one.
    _alive: Option<mpsc::Sender<Infallible>>,
}

impl ForwardedPort {
    /// Connect and copy in both directions until both are done or the client is gone. Where the
    /// client cannot say that it is done, the pod's end is the end. What goes wrong goes to the
    /// client, with `pod` (`web, uid 1234…`) named in it.
    pub async fn relay<T: Duplex>(self, pod: &str, connect: impl Future<Output = std::io::Result<T>>) {
        let Self { port, mut data, mut error, half_closes, gone, _alive } = self;
        let copy = async {
            let mut target = connect.await?;
            if half_closes {
                tokio::io::copy_bidirectional(&mut data, &mut target).await?;
                return Ok(());
            }
            let (mut from_client, mut to_client) = tokio::io::split(&mut data);
            let (mut from_pod, mut to_pod) = tokio::io::split(target);
            tokio::select! {
                read = tokio::io::copy(&mut from_pod, &mut to_client) => read.map(drop),
                Err(failure) = tokio::io::copy(&mut from_client, &mut to_pod) => Err(failure),
            }
        };
        let result = tokio::select! {
            result = copy => result,
            () = gone.cancelled() => return,
        };
        if let Err(failure) = result
            // One connection's end is no reason for the client to end them all, which any text is.
            && !matches!(failure.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            let text = format!("error forwarding port {port} to pod {pod}: {failure}");
            // The client may be gone, which is then the error itself.
            let _ = error.write_all(text.as_bytes()).await;
        }
        let _ = error.shutdown().await;
        let _ = data.shutdown().await;
    }
}

/// Connections that wait for [`PortForward::next`].
const QUEUE: usize = 16;

fn over_session(session: Session, options: &PortForwardOptions) -> PortForward {
    let (sender, incoming) = mpsc::channel(QUEUE);
    let gone = session.gone();
    let mut tasks = JoinSet::new();
    tasks.spawn(pairs::run(session, sender, options.creation_timeout));
    PortForward { incoming, gone, tasks }
}

/// Accept a port-forward request: SPDY, SPDY in a WebSocket, or WebSocket channels (whose ports are
/// the query's `ports`).
pub fn accept_port_forward<B>(
    request: &mut http::Request<B>,
    options: PortForwardOptions,
) -> Result<(http::Response<Body>, Upgrade<PortForward>), StreamError> {
    if websocket::asks_for(request.headers(), "websocket") {
        let offered = websocket::offered(request.headers());
        if offered.contains(&TUNNEL) {
            let response = websocket::accept(request.headers(), TUNNEL)?;
            let upgrade = hyper::upgrade::on(request);
            let streams = async move {
                let socket = websocket::server(upgraded(upgrade).await?).await;
                let session = Session::start(websocket::ByteStream::new(socket), options.idle_timeout);
                Ok(over_session(session, &options))
            };
            return Ok((response, Box::pin(streams)));
        }
        let coding = channels::negotiate(&offered)?;
        let ports = channels::ports(request.uri().query().unwrap_or_default())?;
        let response = websocket::accept(request.headers(), coding.0)?;
        let upgrade = hyper::upgrade::on(request);
        let streams = async move { Ok(channels::open(upgraded(upgrade).await?, coding.1, ports, &options).await) };
        return Ok((response, Box::pin(streams)));
    }
    let response = super::remote_command::spdy_response(request.headers(), PROTOCOL)?;
    let upgrade = hyper::upgrade::on(request);
    let streams =
        async move { Ok(over_session(Session::start(upgraded(upgrade).await?, options.idle_timeout), &options)) };
    Ok((response, Box::pin(streams)))
}

#[cfg(test)]
mod tests;
