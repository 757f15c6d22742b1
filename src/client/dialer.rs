//! The one way to nodes, pods and Services: a [`Dialer`] makes the connection, whoever asks.
//!
//! [`Direct`] opens TCP where there is a route; an agent's tunnel is another implementation.
//! [`Kubelet`] adds TLS with the API server's client certificate and the name of the node.

use async_trait::async_trait;
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// A connection in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type Connection = Box<dyn Stream>;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The node it is on, for a way through its agent; None: not on a node (a Service's external
    /// endpoint, a webhook by URL).
    pub node: Option<String>,
    pub address: SocketAddr,
}

#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// The error names neither node nor address; the caller does.
    async fn dial(&self, destination: &Destination) -> io::Result<Connection>;
}

/// TCP, straight.
#[derive(Clone, Debug)]
pub struct Direct {
    pub timeout: Duration,
}

impl Default for Direct {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

#[async_trait]
impl Dialer for Direct {
    async fn dial(&self, destination: &Destination) -> io::Result<Connection> {
        let connect = tokio::net::TcpStream::connect(destination.address);
        let stream = tokio::time::timeout(self.timeout, connect).await.map_err(|_| timed_out())??;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")
}

/// Connections to kubelets: TLS over a [`Dialer`].
#[derive(Clone)]
pub struct Kubelet {
    dialer: Arc<dyn Dialer>,
    tls: Arc<rustls::ClientConfig>,
}

impl Kubelet {
    /// `tls`: the API server's client certificate, the CA of the kubelets' serving certificates,
    /// ALPN `http/1.1`.
    pub fn new(dialer: Arc<dyn Dialer>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { dialer, tls }
    }

    pub fn dialer(&self) -> &Arc<dyn Dialer> {
        &self.dialer
    }

    /// A TLS connection to the kubelet of `node`; its certificate must carry the node's name.
    pub async fn connect(&self, node: &str, address: SocketAddr) -> io::Result<Connection> {
        let name = ServerName::try_from(node.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("node {node}: not a DNS name")))?;
        let destination = Destination { node: Some(node.to_owned()), address };
        let stream = self.dialer.dial(&destination).await?;
        Ok(Box::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?))
    }
}
