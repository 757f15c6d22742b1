//! The subresources that reach nodes and pods: log, exec, attach, portforward, proxy.
//!
//! Everything goes through one [`Kubelet`] dialer; an upgraded connection is passed through as it
//! is ([`relay`]).

mod admission;
mod location;
mod log;
mod proxy;
mod relay;
mod stream;

pub(in crate::apiserver) use location::service_endpoint;
pub(in crate::apiserver) use relay::relay;

use super::Handler;
use crate::client::dialer::Kubelet;
use crate::storage::Storage;
use location::Locator;
use std::sync::Arc;

/// All of them.
pub fn handlers(kubelet: Kubelet, storage: Arc<dyn Storage>) -> Vec<(&'static str, Arc<dyn Handler>)> {
    let locator = Arc::new(Locator { kubelet, storage });
    let stream = |kind| Arc::new(stream::Stream { locator: locator.clone(), kind });
    let proxy = |target| Arc::new(proxy::Proxy { locator: locator.clone(), target });
    vec![
        ("pods/log", Arc::new(log::Log { locator: locator.clone() })),
        ("pods/exec", stream(stream::Kind::Exec)),
        ("pods/attach", stream(stream::Kind::Attach)),
        ("pods/portforward", stream(stream::Kind::PortForward)),
        ("pods/proxy", proxy(proxy::Target::Pod)),
        ("services/proxy", proxy(proxy::Target::Service)),
        ("nodes/proxy", proxy(proxy::Target::Node)),
    ]
}

#[cfg(test)]
mod tests;
