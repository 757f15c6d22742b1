//! Who makes a request: authenticators are asked in order, the first that knows the credential
//! decides.
//!
//! [`standard`] makes the chain of the API server: front proxy, client certificate, bearer token
//! (service account, bootstrap, static, OIDC, webhook), then anonymous. Callers inside the process carry a
//! [`UserInfo`] in the request's extensions and never come here.

pub mod bearer;
pub mod bootstrap_token;
pub mod impersonation;
pub mod oidc;
pub mod request_header;
pub mod service_account;
pub mod token_webhook;
pub mod x509;

pub use impersonation::impersonate;

use crate::api::user::{SYSTEM_ANONYMOUS, SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED};
use crate::api::{Status, UserInfo};
use crate::storage::Storage;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::SystemTime;

/// The wall clock, as the authenticators believe it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a connection brings to each of its requests: an extension of the request.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    pub peer: Option<std::net::SocketAddr>,
    /// The client's certificate chain, leaf first, DER; the handshake proved that the client holds
    /// its key, whom it names is for the authenticators. Empty: none was given.
    pub certificates: Arc<[rustls_pki_types::CertificateDer<'static>]>,
    /// The user that the chain proved, found at the first request.
    verified: Arc<std::sync::OnceLock<x509::Verified>>,
}

impl ConnectionInfo {
    /// Once per connection; its requests share clones.
    pub fn new(
        peer: Option<std::net::SocketAddr>,
        certificates: Arc<[rustls_pki_types::CertificateDer<'static>]>,
    ) -> Self {
        Self { peer, certificates, verified: Arc::default() }
    }

    /// How long the certificate that named the sender is still good.
    pub fn left(&self) -> Option<std::time::Duration> {
        match self.verified.get()? {
            x509::Verified::User { not_after, .. } => not_after.duration_since(SystemTime::now()).ok(),
            _ => None,
        }
    }
}

/// One way to prove an identity.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)`: not my kind of credential. `Err`: mine, and wrong (401).
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status>;
}

/// The paths that load balancers and probes ask.
pub const HEALTH_PATHS: &[&str] = &["/livez", "/readyz", "/healthz"];

/// Where requests without a credential get through to the authorizers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    Nowhere,
    On(Vec<&'static str>),
    Everywhere,
}

impl Anonymous {
    fn allows(&self, path: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::On(paths) => paths.contains(&path),
            Self::Everywhere => true,
        }
    }
}

/// What the standard chain is made of.
pub struct Options {
    pub storage: Arc<dyn Storage>,
    /// Of client certificates.
    pub client_ca_pem: String,
    /// Of front proxies.
    pub request_header_ca_pem: String,
    /// The common names of front proxies; empty: any that the CA signed.
    pub request_header_names: Vec<String>,
    pub service_accounts: Arc<service_account::Tokens>,
    /// Kinds of tokens that other servers know.
    pub remote_tokens: Vec<Arc<dyn bearer::RemoteTokenAuthenticator>>,
    /// Join tokens and the like: secret and who holds it.
    pub static_tokens: Vec<(String, UserInfo)>,
    /// Which requests without a credential are `system:anonymous`; the others are answered with 401.
    pub anonymous: Anonymous,
    pub clock: Clock,
}

/// The chain of the API server, and the part of it that TokenReview asks.
pub fn standard(options: Options) -> Result<(Chain, Arc<bearer::Tokens>), crate::net::tls::TlsError> {
    let kinds: Vec<Arc<dyn bearer::TokenAuthenticator>> = vec![
        options.service_accounts,
        Arc::new(bootstrap_token::BootstrapTokens::new(options.storage, options.clock.clone())),
        Arc::new(bearer::StaticTokens::new(options.static_tokens)),
    ];
    let tokens = Arc::new(bearer::Tokens::new(kinds, options.remote_tokens));
    let proxies = x509::Verifier::new(&options.request_header_ca_pem, options.clock.clone())?;
    let clients = x509::Verifier::new(&options.client_ca_pem, options.clock)?;
    let authenticators: Vec<Arc<dyn Authenticator>> = vec![
        Arc::new(request_header::FrontProxy::new(proxies, options.request_header_names)),
        Arc::new(x509::ClientCertificates::new(clients)),
        Arc::new(bearer::Bearer::new(tokens.clone())),
    ];
    Ok((Chain { authenticators, anonymous: options.anonymous }, tokens))
}

/// Authenticators in order; never without an opinion.
pub struct Chain {
    authenticators: Vec<Arc<dyn Authenticator>>,
    anonymous: Anonymous,
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status> {
        let mut failed = None;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(request).await {
                Ok(Some(mut user)) => {
                    add_authenticated(&mut user);
                    return Ok(Some(user));
                }
                Ok(None) => {}
                // Another credential of the same request may do.
                Err(status) => failed = Some(status),
            }
        }
        match failed {
            Some(status) => Err(status),
            None if self.anonymous.allows(request.uri.path()) => Ok(Some(anonymous())),
            None => Err(Status::unauthorized()),
        }
    }
}

/// The user of a request without a credential.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: SYSTEM_ANONYMOUS.to_owned(),
        groups: vec![SYSTEM_UNAUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

/// Every user but the anonymous one is in `system:authenticated`.
pub fn add_authenticated(user: &mut UserInfo) {
    let known = |group: &String| group == SYSTEM_AUTHENTICATED || group == SYSTEM_UNAUTHENTICATED;
    if user.name != SYSTEM_ANONYMOUS && !user.groups.iter().any(known) {
        user.groups.push(SYSTEM_AUTHENTICATED.to_owned());
    }
}

#[cfg(test)]
mod tests;
