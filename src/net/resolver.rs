//! Host names without the C library's resolver, which a static binary cannot use.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read at each lookup, so their changes count at once;
//! lookups are few (a join, a registry, a webhook).

use hickory_resolver::TokioResolver;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The addresses of a host name; an address stands for itself.
pub async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![address]);
    }
    let failed =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::NotFound, format!("look up {host}: {error}"));
    let resolver =
        TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|error| failed(&error))?;
    let found = resolver.lookup_ip(host).await.map_err(|error| failed(&error))?;
    Ok(found.iter().collect())
}

/// For hyper's connector.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostResolver;

impl tower::Service<hyper_util::client::legacy::connect::dns::Name> for HostResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: hyper_util::client::legacy::connect::dns::Name) -> Self::Future {
        Box::pin(async move {
            let addresses = lookup(name.as_str()).await?;
            // The connector puts the port in.
            Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn addresses_stand_for_themselves() {
        for (text, address) in [("192.0.2.1", "192.0.2.1"), ("[::1]", "::1")] {
            assert_eq!(super::lookup(text).await.unwrap(), [address.parse::<std::net::IpAddr>().unwrap()]);
        }
    }
}
