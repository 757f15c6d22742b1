//! TLS pieces that servers and clients share: one provider (ring), certificates that renew while
//! connections go on, and client certificates that are proven at the handshake but judged later.
//!
//! [`Renewing`] hands rustls the newest certificate and issues the next one in good time, at the
//! first handshake after it is due: no timer, and a clock that jumps is noticed at once.

use arc_swap::ArcSwapOption;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The one TLS provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// A certificate chain (leaf first) and its key, PEM.
#[derive(Clone)]
pub struct Credentials {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate in the PEM text")]
    NoCertificate,
    #[error("read PEM: {0}")]
    Pem(String),
    #[error("read certificate: {0}")]
    Certificate(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// All certificates of a PEM text, in order.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem(error.to_string()))?;
    if list.is_empty() { Err(TlsError::NoCertificate) } else { Ok(list) }
}

/// The roots of a PEM bundle.
pub fn roots(pem: &str) -> Result<rustls::RootCertStore, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate)?;
    }
    Ok(store)
}

/// From when until when a certificate (DER) is valid.
pub fn validity(certificate: &[u8]) -> Result<(SystemTime, SystemTime), TlsError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| TlsError::Certificate(error.to_string()))?;
    let time = |seconds: i64| match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => SystemTime::UNIX_EPOCH,
    };
    let validity = parsed.validity();
    Ok((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

impl Credentials {
    /// As rustls takes it.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = certificates(&self.certificate_pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|error| TlsError::Pem(error.to_string()))?;
        Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
    }
}

/// Makes the next certificate, given the time now.
pub type Issue = dyn Fn(SystemTime) -> Result<Credentials, TlsError> + Send + Sync;

struct Current {
    key: Arc<CertifiedKey>,
    credentials: Credentials,
    /// Renewed from here on; well before the certificate expires.
    due: SystemTime,
}

/// A certificate that renews itself; a resolver for rustls servers and clients.
pub struct Renewing {
    issue: Box<Issue>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    current: ArcSwapOption<Current>,
    /// Held while a new one is made.
    renewal: parking_lot::Mutex<()>,
}

impl Renewing {
    /// Issues the first certificate at once. `issue` must not block for long: it runs in a
    /// handshake.
    pub fn new(
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
        issue: impl Fn(SystemTime) -> Result<Credentials, TlsError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, TlsError> {
        let renewing = Self {
            issue: Box::new(issue),
            clock: Box::new(clock),
            current: ArcSwapOption::empty(),
            renewal: parking_lot::Mutex::new(()),
        };
        renewing.renew()?;
        Ok(Arc::new(renewing))
    }

    /// Issue a new one now: its names have changed.
    pub fn renew(&self) -> Result<(), TlsError> {
        let _renewal = self.renewal.lock();
        self.issue_next()
    }

    /// Use these from now on.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        let key = credentials.certified_key()?;
        let now = (self.clock)();
        let (not_before, not_after) = validity(&key.cert[0])?;
        // A third of what is left when it is issued is the reserve.
        let life = not_after.duration_since(now.max(not_before)).unwrap_or_default();
        self.current.store(Some(Arc::new(Current { key, credentials, due: not_after - life / 3 })));
        Ok(())
    }

    /// The newest credentials, renewed first where that is due.
    pub fn credentials(&self) -> Option<Credentials> {
        self.newest().map(|current| current.credentials.clone())
    }

    fn issue_next(&self) -> Result<(), TlsError> {
        self.replace((self.issue)((self.clock)())?)
    }

    fn newest(&self) -> Option<Arc<Current>> {
        let current = self.current.load_full();
        if current.as_ref().is_some_and(|current| (self.clock)() < current.due) {
            return current;
        }
        // One renews, the others go on with what there is.
        if let Some(_renewal) = self.renewal.try_lock()
            && let Err(error) = self.issue_next()
        {
            tracing::error!(%error, "renew certificate");
        }
        self.current.load_full()
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewing")
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest()?.key.clone())
    }
}

impl ResolvesClientCert for Renewing {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.newest()?.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What every verifier of certificates shares: whoever shows one must prove that it is his.
macro_rules! proven {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Takes any client certificate or none: the handshake proves that the client holds its key, the
/// authenticators decide whom to trust, and a client with a stale certificate gets a 401 to read
/// instead of a broken connection.
#[derive(Debug)]
pub struct ProvenClientCertificate {
    hints: Vec<DistinguishedName>,
}

impl ProvenClientCertificate {
    /// `roots` are named to clients, so that they pick the right certificate.
    pub fn new(roots: &rustls::RootCertStore) -> Arc<Self> {
        Arc::new(Self { hints: roots.subjects() })
    }
}

/// Longer chains are refused at the handshake.
const MAX_CLIENT_CHAIN: usize = 8;

impl ClientCertVerifier for ProvenClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() < MAX_CLIENT_CHAIN {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the client's certificate chain is too long".to_owned()))
        }
    }

    proven!();
}

/// The client of a webhook: trusts the bundle (PEM), or what the system trusts where there is none.
/// As Go does, it takes a server whose very certificate is in the bundle.
pub fn webhook_client(bundle: &str) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    extension_client(bundle, false, None)
}

/// The client of an extension server: as a webhook's, with a certificate of its own to show.
/// `insecure`: any server will do.
pub fn extension_client(
    bundle: &str,
    insecure: bool,
    certificate: Option<Arc<dyn rustls::client::ResolvesClientCert>>,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let verifier: Arc<dyn rustls::client::danger::ServerCertVerifier> = match insecure {
        true => Arc::new(AnyServer),
        false => Arc::new(Anchored::new(bundle)?),
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Anchored {
    fn new(bundle: &str) -> Result<Self, TlsError> {
        let anchors = if bundle.trim().is_empty() { Vec::new() } else { certificates(bundle)? };
        let mut store = rustls::RootCertStore::empty();
        if anchors.is_empty() {
            store = system_roots();
        }
        for anchor in &anchors {
            store.add(anchor.clone())?;
        }
        let inner = match store.is_empty() {
            true => None,
            false => Some(
                rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
                    .build()
                    .map_err(|error| TlsError::Certificate(error.to_string()))?,
            ),
        };
        Ok(Self { inner, anchors })
    }
}

/// The machine's certificate authorities; none where it has no bundle.
fn system_roots() -> rustls::RootCertStore {
    const BUNDLES: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    let mut store = rustls::RootCertStore::empty();
    let text = BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    store.add_parsable_certificates(certificates(&text).unwrap_or_default());
    store
}

/// A chain to an anchor, or the anchor itself.
#[derive(Debug)]
struct Anchored {
    /// None: nobody is trusted.
    inner: Option<Arc<rustls::client::WebPkiServerVerifier>>,
    anchors: Vec<CertificateDer<'static>>,
}

impl rustls::client::danger::ServerCertVerifier for Anchored {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &rustls_pki_types::ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let unknown = || Err(rustls::CertificateError::UnknownIssuer.into());
        let result = match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => unknown(),
        };
        let Err(error) = result else { return result };
        if !self.anchors.iter().any(|anchor| anchor == end_entity) {
            // One that signs itself is, to Go, just one that nobody vouches for.
            let own = matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_)));
            return if own { unknown() } else { Err(error) };
        }
        let (from, until) = validity(end_entity).map_err(|error| rustls::Error::General(error.to_string()))?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if now < from || now > until {
            return Err(rustls::CertificateError::Expired.into());
        }
        if !is_named(end_entity, name) {
            return Err(rustls::CertificateError::NotValidForName.into());
        }
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    proven!();
}

/// Whether a certificate (DER) is for a name: by its alternative names only.
fn is_named(certificate: &[u8], name: &rustls_pki_types::ServerName<'_>) -> bool {
    use x509_parser::extensions::GeneralName;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|own| match (own, name) {
        (GeneralName::DNSName(own), rustls_pki_types::ServerName::DnsName(name)) => {
            let name = name.as_ref();
            own.eq_ignore_ascii_case(name)
                || own.strip_prefix("*.").is_some_and(|rest| {
                    name.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest))
                })
        }
        (GeneralName::IPAddress(own), rustls_pki_types::ServerName::IpAddress(name)) => {
            let bytes: Vec<u8> = match std::net::IpAddr::from(*name) {
                std::net::IpAddr::V4(address) => address.octets().to_vec(),
                std::net::IpAddr::V6(address) => address.octets().to_vec(),
            };
            *own == bytes.as_slice()
        }
        _ => false,
    })
}

/// A TLS connection to a server that proves nothing: what `https:` in a proxy's path asks for.
pub async fn unverified<T>(io: T, address: std::net::SocketAddr) -> std::io::Result<tokio_rustls::client::TlsStream<T>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut config = any_server().map_err(std::io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = rustls_pki_types::ServerName::from(address.ip());
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, io).await
}

/// A client that any server will do for: what it hears is proven otherwise, or need not be.
pub fn any_server() -> Result<rustls::ClientConfig, rustls::Error> {
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth())
}

#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    proven!();
}
