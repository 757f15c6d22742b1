//! The cluster's certificate authorities and what they sign.
//!
//! [`Pki::open_or_create`] reads or makes three CAs (serving, client, request header) and the
//! service account key in one directory; nothing else is kept on disk, leaf certificates are made
//! when needed and renew themselves ([`crate::net::tls::Renewing`]). Certificates made here are
//! valid from 1970 on, so that a machine without a clock can start. Invariant: a key file is never
//! overwritten, a damaged one is named.

mod files;
mod issue;

pub use issue::{Purpose, SigningRequest};

use crate::api::version;
use crate::net::tls::{self, Credentials, ProvenClientCertificate, Renewing};
use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use issue::Authority;
use rcgen::{KeyPair, PublicKeyData as _};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a leaf certificate lives; it is renewed after two thirds.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Who the API server is to extension servers, as a front proxy.
pub const FRONT_PROXY: &str = "system:auth-proxy";

/// Where the wall clock comes from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What the API server is called.
#[derive(Clone)]
pub struct Options {
    /// Names and addresses beyond the well-known ones: the host's name, `--tls-san`.
    pub names: Vec<String>,
    /// The machine's addresses; they follow later with [`Pki::set_addresses`].
    pub addresses: Vec<IpAddr>,
    /// The address of the `kubernetes` Service.
    pub service_address: IpAddr,
    /// `cluster.local`
    pub cluster_domain: String,
    pub clock: Clock,
}

impl Options {
    pub fn new(service_address: IpAddr, cluster_domain: &str) -> Self {
        Self {
            names: Vec::new(),
            addresses: Vec::new(),
            service_address,
            cluster_domain: cluster_domain.to_owned(),
            clock: Arc::new(SystemTime::now),
        }
    }
}

pub struct Pki {
    server: Arc<Authority>,
    client: Arc<Authority>,
    request_header: Arc<Authority>,
    service_account_key_pem: String,
    clock: Clock,
    names: Arc<ServingNames>,
    serving: Arc<Renewing>,
}

/// What the API server's certificate is for.
struct ServingNames {
    fixed: Vec<String>,
    addresses: ArcSwap<BTreeSet<IpAddr>>,
}

impl ServingNames {
    fn purpose(&self) -> Purpose {
        let addresses = self.addresses.load();
        let mut sans = self.fixed.clone();
        sans.extend(addresses.iter().map(ToString::to_string));
        let mut seen = BTreeSet::new();
        sans.retain(|name| seen.insert(name.clone()));
        Purpose::Serving { common_name: "kube-apiserver".to_owned(), sans }
    }
}

impl Pki {
    /// Read the authorities below `directory`, or make what is missing.
    pub fn open_or_create(directory: &Path, options: Options) -> Result<Self> {
        files::make_directory(directory)?;
        let now = believable((options.clock)());
        let authority = |file: &str, name: &str| Authority::open_or_create(directory, file, name, now).map(Arc::new);
        let server = authority("server-ca", "orch-server-ca")?;
        let client = authority("client-ca", "orch-client-ca")?;
        let request_header = authority("request-header-ca", "orch-request-header-ca")?;
        let service_account_key_pem =
            files::read_or_create(&directory.join("service-account.key"), || Ok(KeyPair::generate()?.serialize_pem()))?;
        KeyPair::from_pem(&service_account_key_pem)
            .with_context(|| format!("read {}: not a private key", directory.join("service-account.key").display()))?;

        let mut names: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).into();
        names.push(format!("kubernetes.default.svc.{}", options.cluster_domain));
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), options.service_address] {
            names.push(address.to_string());
        }
        names.extend(options.names);
        let names = Arc::new(ServingNames {
            fixed: names,
            addresses: ArcSwap::from_pointee(options.addresses.into_iter().collect()),
        });
        let clock = options.clock;
        let serving = Renewing::new(believable_clock(&clock), {
            let (server, names) = (server.clone(), names.clone());
            move |now| server.issue(now, &names.purpose())
        })
        .context("issue the API server's certificate")?;
        Ok(Self { server, client, request_header, service_account_key_pem, clock, names, serving })
    }

    fn now(&self) -> SystemTime {
        believable((self.clock)())
    }

    /// For the API server's listener: HTTP/2 and HTTP/1.1, client certificates welcome.
    pub fn server_tls_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        self.server_config(self.serving.clone(), &[b"h2", b"http/1.1"])
    }

    /// For a kubelet's listener: `names` are the node's name and addresses.
    pub fn kubelet_server_tls_config(&self, node: &str, names: Vec<String>) -> Result<KubeletServing> {
        let names = Arc::new(ArcSwap::from_pointee(names));
        let certificate = Renewing::new(believable_clock(&self.clock), {
            let (server, names, node) = (self.server.clone(), names.clone(), node.to_owned());
            move |now| server.issue(now, &kubelet_serving(&node, &names.load()))
        })?;
        let config = self.server_config(certificate.clone(), &[b"http/1.1"])?;
        Ok(KubeletServing { config, names, certificate })
    }

    fn server_config(&self, certificate: Arc<Renewing>, protocols: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>> {
        let hints = tls::roots(&format!("{}{}", self.client.certificate_pem(), self.request_header.certificate_pem()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(ProvenClientCertificate::new(&hints))
            .with_cert_resolver(certificate);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// For the API server as a client of kubelets: its client certificate, kubelets' CA.
    pub fn kubelet_client_tls_config(&self) -> Result<Arc<rustls::ClientConfig>> {
        self.client_config("kube-apiserver-kubelet-client", &[], b"http/1.1")
    }

    /// A client of anything that the server CA signed, as the given user.
    pub fn client_config(
        &self,
        common_name: &str,
        organizations: &[&str],
        protocol: &[u8],
    ) -> Result<Arc<rustls::ClientConfig>> {
        let purpose = client_purpose(common_name, organizations);
        let certificate = Renewing::new(believable_clock(&self.clock), {
            let client = self.client.clone();
            move |now| client.issue(now, &purpose)
        })?;
        let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(tls::roots(self.server.certificate_pem())?)
            .with_client_cert_resolver(certificate);
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    /// The API server's own certificate as a front proxy, to extension servers.
    pub fn front_proxy_certificate(&self) -> Result<Arc<dyn rustls::client::ResolvesClientCert>> {
        let (authority, purpose) = (self.request_header.clone(), client_purpose(FRONT_PROXY, &[]));
        Ok(Renewing::new(believable_clock(&self.clock), move |now| authority.issue(now, &purpose))?)
    }

    /// A client certificate with a fresh key: the user's name and groups.
    pub fn issue_client(&self, common_name: &str, organizations: &[&str]) -> Result<Credentials> {
        Ok(self.client.issue(self.now(), &client_purpose(common_name, organizations))?)
    }

    /// A kubelet's serving certificate with a fresh key.
    pub fn issue_kubelet_serving(&self, node: &str, names: &[String]) -> Result<Credentials> {
        Ok(self.server.issue(self.now(), &kubelet_serving(node, names))?)
    }

    /// A front proxy's certificate with a fresh key, from the request-header CA.
    pub fn issue_front_proxy(&self, common_name: &str) -> Result<Credentials> {
        Ok(self.request_header.issue(self.now(), &client_purpose(common_name, &[]))?)
    }

    /// Sign a client's key under a subject that the caller has decided on; PEM.
    pub fn sign_client(&self, request_pem: &str, common_name: &str, organizations: &[&str]) -> Result<String> {
        let request = SigningRequest::parse(request_pem)?;
        Ok(self.client.sign(&request, self.now(), LEAF_LIFETIME, Some(&client_purpose(common_name, organizations)))?)
    }

    /// Sign a kubelet's serving key for the names that the caller has decided on; PEM.
    pub fn sign_kubelet_serving(&self, request_pem: &str, node: &str, names: &[String]) -> Result<String> {
        let request = SigningRequest::parse(request_pem)?;
        Ok(self.server.sign(&request, self.now(), LEAF_LIFETIME, Some(&kubelet_serving(node, names)))?)
    }

    /// Sign an approved CertificateSigningRequest as it asks, for one of Kubernetes's signers
    /// (`kubernetes.io/kube-apiserver-client`, `…-kubelet`, `kubernetes.io/kubelet-serving`,
    /// `kubernetes.io/legacy-unknown`). The caller has checked that the request fits its signer.
    pub fn sign_for(&self, signer: &str, request_pem: &str, lifetime: Option<Duration>) -> Result<String> {
        let request = SigningRequest::parse(request_pem)?;
        let authority = match signer {
            "kubernetes.io/kube-apiserver-client" | "kubernetes.io/kube-apiserver-client-kubelet" => &self.client,
            "kubernetes.io/kubelet-serving" | "kubernetes.io/legacy-unknown" => &self.server,
            other => anyhow::bail!("signer {other} is not served here"),
        };
        let lifetime = lifetime.unwrap_or(LEAF_LIFETIME).min(LEAF_LIFETIME);
        Ok(authority.sign(&request, self.now(), lifetime, None)?)
    }

    /// The machine's addresses have changed: the API server's certificate follows.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<()> {
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
        if **self.names.addresses.load() != addresses {
            self.names.addresses.store(Arc::new(addresses));
            self.serving.renew().context("issue the API server's certificate for new addresses")?;
        }
        Ok(())
    }

    /// The CA of the API server's and the kubelets' serving certificates: `kube-root-ca.crt`.
    pub fn server_ca_pem(&self) -> &str {
        self.server.certificate_pem()
    }

    /// The CA of client certificates.
    pub fn client_ca_pem(&self) -> &str {
        self.client.certificate_pem()
    }

    /// The CA of front proxies.
    pub fn request_header_ca_pem(&self) -> &str {
        self.request_header.certificate_pem()
    }

    /// The key that signs service account tokens, PKCS #8 PEM (P-256).
    pub fn service_account_key_pem(&self) -> &str {
        &self.service_account_key_pem
    }

    /// SHA-256 of the server CA's PEM, in hexadecimal: the first part of a join token.
    pub fn ca_hash(&self) -> String {
        ca_hash(self.server_ca_pem())
    }

    /// A kubeconfig for `user` at `server` (`https://127.0.0.1:6443`).
    pub fn kubeconfig(&self, server: &str, user: &str, credentials: &Credentials) -> String {
        kubeconfig(server, self.server_ca_pem(), user, credentials)
    }
}

/// A kubelet's serving certificate and configuration.
pub struct KubeletServing {
    pub config: Arc<rustls::ServerConfig>,
    names: Arc<ArcSwap<Vec<String>>>,
    certificate: Arc<Renewing>,
}

impl KubeletServing {
    /// The node's addresses have changed.
    pub fn set_names(&self, names: Vec<String>) -> Result<()> {
        if **self.names.load() != names {
            self.names.store(Arc::new(names));
            self.certificate.renew()?;
        }
        Ok(())
    }
}

/// SHA-256 of a CA bundle's bytes, in hexadecimal.
pub fn ca_hash(pem: &str) -> String {
    Sha256::digest(pem.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A kubeconfig with everything in it, as YAML.
pub fn kubeconfig(server: &str, ca_pem: &str, user: &str, credentials: &Credentials) -> String {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: default\n  context:\n    cluster: default\n    user: {user}\n\
         current-context: default\npreferences: {{}}\n",
        encode(ca_pem),
        encode(&credentials.certificate_pem),
        encode(&credentials.key_pem),
    )
}

/// Whether a certificate (PEM chain, leaf first) is in its last third, and should be replaced.
pub fn due_for_renewal(certificate_pem: &str, now: SystemTime) -> Result<bool> {
    let chain = tls::certificates(certificate_pem)?;
    let (_, not_after) = tls::validity(&chain[0])?;
    Ok(now + LEAF_LIFETIME / 3 >= not_after)
}

/// Never earlier than this program.
pub fn believable(now: SystemTime) -> SystemTime {
    now.max(SystemTime::UNIX_EPOCH + Duration::from_secs(version::built_at().unsigned_abs()))
}

fn believable_clock(clock: &Clock) -> impl Fn() -> SystemTime + Send + Sync + 'static {
    let clock = clock.clone();
    move || believable(clock())
}

fn client_purpose(common_name: &str, organizations: &[&str]) -> Purpose {
    Purpose::Client {
        common_name: common_name.to_owned(),
        organizations: organizations.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn kubelet_serving(node: &str, names: &[String]) -> Purpose {
    let mut sans = vec![node.to_owned()];
    sans.extend(names.iter().filter(|name| *name != node).cloned());
    Purpose::Serving { common_name: format!("system:node:{node}"), sans }
}

/// The certificate's key is the given one.
fn check_pair(certificate_pem: &str, key: &KeyPair) -> Result<()> {
    let chain = tls::certificates(certificate_pem)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).context("read the certificate")?;
    ensure!(
        parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes(),
        "the certificate does not belong to the key beside it"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
