//! Who makes a request: authenticators are asked in order, the first that knows the credential
//! decides.

use crate::api::{Status, UserInfo};
use async_trait::async_trait;

/// What a connection brings to each of its requests: an extension of the request.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    pub peer: Option<std::net::SocketAddr>,
    /// The client's verified certificate chain, leaf first, DER. Empty: none was given.
    pub certificates: std::sync::Arc<[rustls_pki_types::CertificateDer<'static>]>,
}

/// One way to prove an identity.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)`: not my kind of credential. `Err`: mine, and wrong (401).
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status>;
}
