//! What a server and a node are told to be. The command line makes these; nothing below reads
//! flags or files of settings.

use crate::api::names;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A network in CIDR notation, IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl std::str::FromStr for Cidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = text.split_once('/').context("not of the form a.b.c.d/n")?;
        let address: Ipv4Addr = address.parse().with_context(|| format!("{address:?} is not an IPv4 address"))?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).context("the prefix is not 0 to 32")?;
        let cidr = Self { address, prefix };
        if cidr.nth(0) != Some(address) {
            bail!(
                "has bits set after the prefix; write {}/{prefix}",
                Ipv4Addr::from_bits(address.to_bits() & cidr.mask())
            );
        }
        Ok(cidr)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits()
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The `n`th address; None: outside.
    pub fn nth(self, n: u32) -> Option<Ipv4Addr> {
        let first = self.address.to_bits() & self.mask();
        first.checked_add(n).map(Ipv4Addr::from_bits).filter(|address| address.to_bits() & self.mask() == first)
    }
}

/// A taint to register a node with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// A node, on a server or an agent.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// None: the host name.
    pub name: Option<String>,
    /// None: the address of the default route, followed as it changes.
    pub ip: Option<IpAddr>,
    pub external_ip: Option<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// None: `/etc/resolv.conf`, or systemd-resolved's own where that names a loopback resolver.
    pub resolv_conf: Option<PathBuf>,
    pub max_pods: u32,
    /// The kubelet's flags by name.
    pub kubelet: BTreeMap<String, String>,
    pub registries: PathBuf,
    pub directories: NodeDirectories,
}

/// What a node writes beside its data.
#[derive(Clone, Debug)]
pub struct NodeDirectories {
    pub pod_logs: PathBuf,
    pub kubelet: PathBuf,
    pub run: PathBuf,
}

/// What the API server records of its requests: nothing without a policy and a place for it.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    pub policy: Option<PathBuf>,
    pub log: crate::apiserver::audit::log::Options,
    pub webhook: crate::apiserver::audit::webhook::Options,
}

/// What of the store is encrypted on disk.
#[derive(Clone, Debug, Default)]
pub struct EncryptionOptions {
    /// Secrets are, with keys of the server's own.
    pub secrets: bool,
    /// What those keys are for: one of [`super::encryption::PROVIDERS`].
    pub provider: String,
    /// An EncryptionConfiguration of the administrator's.
    pub file: Option<PathBuf>,
}

/// Who is believed, beside the cluster's own credentials.
#[derive(Clone, Debug)]
pub struct AuthenticationOptions {
    /// Whether requests without a credential are `system:anonymous`; None: where everybody may ask.
    pub anonymous: Option<bool>,
    pub oidc: crate::apiserver::authn::oidc::Options,
    /// The webhook that token reviews go to; None: none.
    pub token_webhook: Option<PathBuf>,
    pub token_webhook_version: String,
    pub token_webhook_remember: Duration,
}

impl Default for AuthenticationOptions {
    fn default() -> Self {
        Self {
            anonymous: None,
            oidc: crate::apiserver::authn::oidc::Options::default(),
            token_webhook: None,
            token_webhook_version: "v1beta1".to_owned(),
            token_webhook_remember: Duration::from_secs(120),
        }
    }
}

/// Who decides what is allowed.
#[derive(Clone, Debug)]
pub struct AuthorizationOptions {
    pub modes: Vec<crate::apiserver::authz::Mode>,
    pub webhook: Option<PathBuf>,
    pub webhook_version: String,
    /// For how long a yes and a no are remembered.
    pub remember: (Duration, Duration),
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        use crate::apiserver::authz::Mode;
        Self {
            modes: vec![Mode::Node, Mode::Rbac],
            webhook: None,
            webhook_version: "v1beta1".to_owned(),
            remember: (Duration::from_secs(300), Duration::from_secs(30)),
        }
    }
}

/// A control plane, and a node unless `disable_agent`.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub data_directory: PathBuf,
    pub bind_address: IpAddr,
    pub port: u16,
    /// None: the node's.
    pub advertise_address: Option<IpAddr>,
    pub tls_sans: Vec<String>,
    pub kubeconfig: PathBuf,
    /// Octal permissions of the kubeconfig.
    pub kubeconfig_mode: u32,
    pub cluster_cidr: Cidr,
    pub service_cidr: Cidr,
    pub node_port_range: (u16, u16),
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    /// None: the one in the data directory, made at the first start.
    pub token: Option<String>,
    pub disable: Vec<String>,
    pub disable_agent: bool,
    pub disable_scheduler: bool,
    pub disable_controllers: bool,
    pub enable_admission: Vec<String>,
    pub disable_admission: Vec<String>,
    /// An `AdmissionConfiguration`.
    pub admission_configuration: Option<PathBuf>,
    pub flow_control: crate::apiserver::flow_control::Options,
    pub authentication: AuthenticationOptions,
    pub authorization: AuthorizationOptions,
    /// Added to every sync of the store, for measurements.
    pub sync_delay: Duration,
    pub snapshots: super::snapshots::Options,
    pub audit: AuditOptions,
    pub encryption: EncryptionOptions,
    /// A TracingConfiguration; None: nothing is recorded.
    pub tracing: Option<PathBuf>,
    /// What was asked for, by the names of the flags, without what is secret.
    pub flags: Vec<(String, String)>,
    /// The controllers' flags by name.
    pub controllers: BTreeMap<String, String>,
    pub node: NodeOptions,
}

/// A node that joins a server.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    pub data_directory: PathBuf,
    /// `https://host:6443`.
    pub server: String,
    pub token: String,
    pub node: NodeOptions,
}

impl ServerOptions {
    /// What does not fit together, before anything is started.
    pub fn check(&self) -> Result<()> {
        if self.cluster_cidr.overlaps(self.service_cidr) {
            bail!(
                "--cluster-cidr {} and --service-cidr {} overlap: choose two that do not",
                self.cluster_cidr,
                self.service_cidr
            );
        }
        if self.cluster_cidr.prefix > 24 {
            bail!("--cluster-cidr {}: a node takes a /24 of it, so the prefix is at most 24", self.cluster_cidr);
        }
        if !(12..=28).contains(&self.service_cidr.prefix) {
            bail!("--service-cidr {}: the prefix must be 12 to 28", self.service_cidr);
        }
        if !self.service_cidr.contains(self.cluster_dns) {
            bail!("--cluster-dns {} is not within --service-cidr {}", self.cluster_dns, self.service_cidr);
        }
        if let Some(wrong) = names::dns_subdomain(&self.cluster_domain).first() {
            bail!("--cluster-domain {:?}: {wrong}", self.cluster_domain);
        }
        for name in self.tls_sans.iter().filter(|name| name.parse::<IpAddr>().is_err()) {
            if let Some(wrong) = names::dns_subdomain(name.strip_prefix("*.").unwrap_or(name)).first() {
                bail!("--tls-san {name:?} is no address, and as a name: {wrong}");
            }
        }
        self.advertise_address.map_or(Ok(()), |address| check_reachable("advertise-address", address))
    }

    /// Whether `--disable` names a component.
    pub fn is_disabled(&self, component: &str) -> bool {
        self.disable.iter().any(|disabled| disabled == component)
    }

    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.port)
    }
}

/// An address that pods and other nodes can be told.
pub fn check_reachable(flag: &str, address: IpAddr) -> Result<()> {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        bail!("--{flag} {address}: pods and other nodes cannot reach it: give an address of this machine");
    }
    if address.is_ipv6() {
        bail!("--{flag} {address}: pods and Services have IPv4 addresses: give one of this machine");
    }
    Ok(())
}

/// `key=value` of a flag.
pub fn parse_key_value(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("--{flag} {text:?}: write key=value"),
    }
}

/// `key=value:effect` or `key:effect`.
pub fn parse_taint(text: &str) -> Result<Taint> {
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let Some((head, effect)) =
        text.rsplit_once(':').filter(|(head, effect)| !head.is_empty() && EFFECTS.contains(effect))
    else {
        bail!("--node-taint {text:?}: write key=value:effect, the effect one of {}", EFFECTS.join(", "));
    };
    let (key, value) = head.split_once('=').unwrap_or((head, ""));
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

/// `30000-32767`.
pub fn parse_port_range(text: &str) -> Result<(u16, u16)> {
    let range = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match range {
        Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
        _ => bail!("{text:?} is not a range of ports such as 30000-32767"),
    }
}

/// Octal permissions: `600`, `0644`.
pub fn parse_mode(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .with_context(|| format!("{text:?} is not an octal file mode such as 600"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let cidr: Cidr = "10.42.0.0/16".parse().unwrap();
        assert_eq!(cidr.nth(1), Some(Ipv4Addr::new(10, 42, 0, 1)));
        assert_eq!(cidr.nth(65_536), None);
        assert!(cidr.overlaps("10.42.7.0/24".parse().unwrap()));
        assert!(!cidr.overlaps("10.43.0.0/16".parse().unwrap()));
        let error = "10.42.1.0/16".parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(error, "has bits set after the prefix; write 10.42.0.0/16");
        assert!("10.42.0.0".parse::<Cidr>().is_err());
        assert!("10.42.0.0/33".parse::<Cidr>().is_err());
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn taints_and_ranges() {
        let taint = parse_taint("dedicated=edge:NoSchedule").unwrap();
        assert_eq!(
            (taint.key.as_str(), taint.value.as_str(), taint.effect.as_str()),
            ("dedicated", "edge", "NoSchedule")
        );
        assert_eq!(parse_taint("a:NoExecute").unwrap().value, "");
        assert!(parse_taint("a=b").is_err());
        assert!(parse_taint("a=b:Never").is_err());
        assert_eq!(parse_port_range("30000-32767").unwrap(), (30000, 32767));
        assert!(parse_port_range("9-1").is_err());
        assert_eq!(parse_mode("0644").unwrap(), 0o644);
        assert!(parse_mode("9").is_err());
    }
}
