//! Names outside the cluster: asked of the servers in resolv.conf.
//!
//! The file is looked at when a question comes and read again when it changed. Loopback resolvers
//! are left out: from them a question would come back here, or they listen only for the host.

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, Record, RecordType};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bounds the memory of the cache: entries.
const CACHE: u64 = 1000;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A resolv.conf is no bigger than this: bytes.
const LIMIT: u64 = 64 * 1024;

pub(super) enum Found {
    Records(Vec<Record>),
    Nothing { code: ResponseCode, authorities: Vec<Record> },
}

pub(super) struct Upstream {
    path: PathBuf,
    current: Mutex<Option<Current>>,
}

struct Current {
    modified: Option<SystemTime>,
    /// None: there is nobody to ask.
    resolver: Option<Arc<TokioResolver>>,
}

/// The servers that a resolv.conf names, without loopback ones.
fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect()
}

impl Upstream {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, current: Mutex::default() }
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let metadata = std::fs::metadata(&self.path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let mut current = self.current.lock();
        if let Some(current) = current.as_ref().filter(|current| current.modified == modified) {
            return current.resolver.clone();
        }
        let small = metadata.is_some_and(|metadata| metadata.len() <= LIMIT);
        let text = if small { std::fs::read_to_string(&self.path).unwrap_or_default() } else { String::new() };
        let resolver = Self::build(&servers(&text));
        *current = Some(Current { modified, resolver: resolver.clone() });
        resolver
    }

    fn build(servers: &[IpAddr]) -> Option<Arc<TokioResolver>> {
        if servers.is_empty() {
            return None;
        }
        let servers = servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(*address);
            server.trust_negative_responses = true;
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut options = ResolverOpts::default();
        options.cache_size = CACHE;
        options.timeout = TIMEOUT;
        options.attempts = 2;
        options.ndots = 0;
        options.preserve_intermediates = true;
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        match builder.build() {
            Ok(resolver) => Some(Arc::new(resolver)),
            Err(error) => {
                tracing::warn!("no DNS upstream: {error}");
                None
            }
        }
    }

    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Found {
        let Some(resolver) = self.resolver() else {
            return Found::Nothing { code: ResponseCode::ServFail, authorities: Vec::new() };
        };
        match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => Found::Records(lookup.answers().to_vec()),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => Found::Nothing {
                code: nothing.response_code,
                authorities: nothing.authorities.map(|records| records.to_vec()).unwrap_or_default(),
            },
            Err(error) => {
                tracing::debug!("ask upstream for {name}: {error}");
                Found::Nothing { code: ResponseCode::ServFail, authorities: Vec::new() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_left_out() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\nnameserver fe80::1%eth0\nsearch lab\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "fe80::1"]);
    }
}
