//! Composes an agent: join, then a node.

use super::files;
use super::join::client::{Identity, Joined, join, server_uri};
use super::kubelet_access::KubeletAccess;
use super::node::{self, Node};
use super::options::AgentOptions;
use super::pki;
use super::preflight::{self, Machine};
use super::process;
use super::supervisor::Supervisor;
use super::token::Token;
use crate::client::{ClientCertificate, TlsOptions, over_tls};
use crate::net::addresses;
use crate::net::tls::{self, Credentials, ProvenClientCertificate};
use crate::runtime::clock_steps::ClockSteps;
use anyhow::{Context, Result, bail};
use http::Uri;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often certificates are looked at: they live a year and are renewed after two thirds.
const RENEWAL_CHECK: Duration = Duration::from_secs(6 * 60 * 60);

/// Run until a signal.
pub fn run(options: AgentOptions) -> Result<ExitCode> {
    process::run(|shutdown| serve(options, shutdown))
}

async fn serve(options: AgentOptions, shutdown: CancellationToken) -> Result<()> {
    preflight::require(&Machine { data_directory: options.data_directory.clone() })?;
    node::check(&options.node)?;
    let _lock = node::lock(&options.data_directory)?;
    let server = server_uri(&options.server)?;
    let token: Token = options.token.parse()?;
    if token.ca_hash.is_none() {
        bail!(
            "the token does not say which server to trust: give the whole of it, K10…::…, from {} on the server",
            "/var/lib/orch/server/token"
        );
    }
    let machine = addresses::watch().await?;
    let node_addresses = node::node_addresses(&options.node, machine.clone(), Ipv4Addr::LOCALHOST);
    let mut identity =
        Identity { node_name: node::name(&options.node)?, machine_id: node::machine_id(), serving_names: Vec::new() };
    identity.serving_names = serving_names(&identity.node_name, &node_addresses.borrow());
    let known = KnownCertificate::new(&options.data_directory, &identity.node_name);
    let earlier = known.read()?;
    let joined = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        joined = join(&server, &token, &identity, earlier.as_ref()) => joined?,
    };
    known.write(&joined.kubelet_client)?;
    let certificates = Certificates::new(&joined)?;
    let client = |certificate: &Arc<ClientCertificate>| {
        let options = TlsOptions {
            server: server.clone(),
            ca: joined.authorities.clone().into_bytes(),
            certificate: certificate.clone(),
        };
        over_tls(options).context("make a client of the server")
    };
    let kubelet_client = client(&certificates.kubelet)?;
    let authorizer = KubeletAccess::new(&identity.node_name, kubelet_client.clone(), &joined.reply.client_authorities)?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    let node = Node {
        name: identity.node_name.clone(),
        data_directory: options.data_directory.join("agent"),
        network: joined.reply.network.clone(),
        addresses: node_addresses.clone(),
        machine,
        proxy_client: client(&certificates.proxy)?,
        kubelet_client,
        serving: certificates.serving.subscribe(),
        authorizer: Arc::new(authorizer),
        options: options.node,
    };
    node.start(&mut supervisor).await?;
    let renewal = Renewal { server, token, known, identity, certificates, addresses: node_addresses };
    supervisor.spawn("certificates", renewal.run(joined.kubelet_client, shutdown.clone()));
    process::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("this node runs");
    supervisor.run().await
}

/// What a kubelet's serving certificate names.
pub fn serving_names(node: &str, addresses: &[IpAddr]) -> Vec<String> {
    let mut names = vec![node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(addresses.iter().map(ToString::to_string));
    names.dedup();
    names
}

/// The node's three certificates; each is swapped under way.
struct Certificates {
    kubelet: Arc<ClientCertificate>,
    proxy: Arc<ClientCertificate>,
    serving: watch::Sender<Arc<rustls::ServerConfig>>,
}

fn client_certificate(credentials: &Credentials) -> Result<Arc<ClientCertificate>> {
    let certificate =
        ClientCertificate::from_pem(credentials.certificate_pem.as_bytes(), credentials.key_pem.as_bytes());
    Ok(Arc::new(certificate?))
}

fn serving_config(joined: &Joined) -> Result<Arc<rustls::ServerConfig>> {
    let hints = tls::roots(&joined.reply.client_authorities)?;
    let key = joined.kubelet_serving.certified_key()?;
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(ProvenClientCertificate::new(&hints))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from((*key).clone())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Certificates {
    fn new(joined: &Joined) -> Result<Self> {
        Ok(Self {
            kubelet: client_certificate(&joined.kubelet_client)?,
            proxy: client_certificate(&joined.proxy_client)?,
            serving: watch::Sender::new(serving_config(joined)?),
        })
    }

    fn replace(&self, joined: &Joined) -> Result<()> {
        let swap = |slot: &ClientCertificate, new: &Credentials| {
            slot.replace(new.certificate_pem.as_bytes(), new.key_pem.as_bytes())
        };
        swap(&self.kubelet, &joined.kubelet_client)?;
        swap(&self.proxy, &joined.proxy_client)?;
        self.serving.send_replace(serving_config(joined)?);
        Ok(())
    }
}

/// The node's certificate on disk: it joins again with it when its token has expired.
struct KnownCertificate(PathBuf);

impl KnownCertificate {
    fn new(data_directory: &Path, node: &str) -> Self {
        Self(data_directory.join("agent/tls").join(format!("{node}.pem")))
    }

    /// None: this machine has not joined under this name.
    fn read(&self) -> Result<Option<Credentials>> {
        let text = match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", self.0.display()))?,
        };
        // The certificates, then the key.
        let at = text.find("-----BEGIN PRIVATE KEY").with_context(|| {
            format!("{} is damaged: remove it, and the node joins with its token", self.0.display())
        })?;
        let (certificate, key) = text.split_at(at);
        Ok(Some(Credentials { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() }))
    }

    fn write(&self, credentials: &Credentials) -> Result<()> {
        if let Some(directory) = self.0.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.with_context(|| format!("make {}", directory.display()))?;
        }
        let text = format!("{}{}", credentials.certificate_pem, credentials.key_pem);
        files::write(&self.0, &text, 0o600).context("keep the node's certificate")
    }
}

/// Joins again when the certificates get old or the node's addresses change.
struct Renewal {
    server: Uri,
    token: Token,
    known: KnownCertificate,
    identity: Identity,
    certificates: Certificates,
    addresses: watch::Receiver<Vec<IpAddr>>,
}

impl Renewal {
    async fn run(mut self, mut current: Credentials, shutdown: CancellationToken) -> Result<()> {
        let mut steps = ClockSteps::new().context("follow the clock")?;
        loop {
            let moved = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                changed = self.addresses.changed() => changed.is_ok(),
                () = tokio::time::sleep(RENEWAL_CHECK) => false,
                step = steps.stepped() => step.map(|_| false).context("follow the clock")?,
            };
            if !moved && !pki::due_for_renewal(&current.certificate_pem, SystemTime::now())? {
                continue;
            }
            if moved {
                // Connections of the old address hang.
                self.certificates.kubelet.reconnect();
                self.certificates.proxy.reconnect();
            }
            self.identity.serving_names = serving_names(&self.identity.node_name, &self.addresses.borrow_and_update());
            let joined = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                joined = join(&self.server, &self.token, &self.identity, Some(&current)) => joined,
            };
            match joined {
                Ok(joined) => {
                    self.certificates.replace(&joined)?;
                    tracing::info!("the node's certificates are new");
                    current = joined.kubelet_client;
                    if let Err(error) = self.known.write(&current) {
                        tracing::error!("{error:#}");
                    }
                }
                // The old ones still hold; the token may be put right meanwhile.
                Err(error) => tracing::error!("renew the node's certificates: {error:#}"),
            }
        }
    }
}
