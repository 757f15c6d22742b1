//! Client certificates: the common name is the user, organizations are its groups.
//!
//! The chain is verified once per connection; each request then looks only at the clock.

use super::{Authenticator, Clock, ConnectionInfo};
use crate::api::{Status, UserInfo};
use crate::net::tls::{self, TlsError};
use async_trait::async_trait;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// What became of a connection's certificate.
#[derive(Clone, Debug)]
pub enum Verified {
    User {
        user: UserInfo,
        not_before: SystemTime,
        not_after: SystemTime,
    },
    Untrusted,
    /// Of another CA: not for this authenticator.
    Unknown,
}

/// The attribute of a subject that carries the user's UID.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// `extra` of a user who came by certificate or token.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Chains to one CA.
pub struct Verifier {
    verifier: Arc<dyn ClientCertVerifier>,
    clock: Clock,
}

impl Verifier {
    pub fn new(ca_pem: &str, clock: Clock) -> Result<Self, TlsError> {
        let roots = Arc::new(tls::roots(ca_pem)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider())
            .build()
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        Ok(Self { verifier, clock })
    }

    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Signed by the CA for client authentication, and valid now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.verifier.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since)).map(drop)
    }
}

pub struct ClientCertificates {
    verifier: Verifier,
}

impl ClientCertificates {
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }

    fn look(&self, chain: &[CertificateDer<'_>]) -> Verified {
        match self.verifier.verify(chain) {
            Ok(()) => {}
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                return Verified::Unknown;
            }
            Err(error) => {
                tracing::debug!(%error, "client certificate refused");
                return Verified::Untrusted;
            }
        }
        match (user_of(&chain[0]), tls::validity(&chain[0])) {
            (Some(user), Ok((not_before, not_after))) => Verified::User { user, not_before, not_after },
            (None, Ok(_)) => Verified::Unknown,
            (_, Err(_)) => Verified::Untrusted,
        }
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status> {
        let Some(connection) = request.extensions.get::<ConnectionInfo>() else { return Ok(None) };
        if connection.certificates.is_empty() {
            return Ok(None);
        }
        match connection.verified.get_or_init(|| self.look(&connection.certificates)) {
            Verified::User { user, not_before, not_after } => {
                let now = self.verifier.now();
                if *not_before <= now && now <= *not_after {
                    Ok(Some(user.clone()))
                } else {
                    Err(Status::unauthorized())
                }
            }
            Verified::Untrusted => Err(Status::unauthorized()),
            Verified::Unknown => Ok(None),
        }
    }
}

/// The common name of a certificate.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned())
}

/// None: it names nobody.
fn user_of(certificate: &[u8]) -> Option<UserInfo> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    let uid = subject
        .iter_attributes()
        .find(|attribute| attribute.attr_type().to_id_string() == UID_ATTRIBUTE)
        .and_then(|attribute| attribute.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let digest: String = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])]);
    Some(UserInfo { name, uid, groups, extra })
}
