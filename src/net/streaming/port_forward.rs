//! Port-forward: many connections to a pod's ports over one connection of the client.

use super::{CREATION_TIMEOUT, Duplex, IDLE_TIMEOUT, OutputStream, StreamError, Upgrade};
use axum::body::Body;
use std::future::Future;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

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
    pub(super) incoming: mpsc::Receiver<ForwardedPort>,
}

impl PortForward {
    /// The next connection that the client opens; None: the client has gone away.
    pub async fn next(&mut self) -> Option<ForwardedPort> {
        self.incoming.recv().await
    }
}

/// One forwarded connection.
pub struct ForwardedPort {
    /// The port in the pod.
    pub port: u16,
    pub data: Box<dyn Duplex>,
    /// Text that the client shows; closed without a byte: all went well.
    pub error: OutputStream,
}

impl ForwardedPort {
    /// Connect and copy in both directions until both are done. An error goes to the client with
    /// `pod`, as the kubelet words it.
    pub async fn relay<T: Duplex>(self, pod: &str, connect: impl Future<Output = std::io::Result<T>>) {
        let Self { port, mut data, mut error } = self;
        let result = async {
            let mut target = connect.await?;
            tokio::io::copy_bidirectional(&mut data, &mut target).await
        };
        if let Err(failure) = result.await {
            let text = format!("an error occurred forwarding port {port} to pod {pod}: {failure}");
            // The client may be gone, which is then the error itself.
            let _ = error.write_all(text.as_bytes()).await;
        }
        let _ = error.shutdown().await;
        let _ = data.shutdown().await;
    }
}

/// Accept a port-forward request: SPDY, SPDY in a WebSocket, or WebSocket channels.
pub fn accept_port_forward<B>(
    _request: &mut http::Request<B>,
    _options: PortForwardOptions,
) -> Result<(http::Response<Body>, Upgrade<PortForward>), StreamError> {
    Err(StreamError::Protocol("not built yet".to_owned()))
}
