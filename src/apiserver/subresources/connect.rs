//! What reaches nodes and pods: log, exec, attach, portforward, proxy, and the usage of both.
//!
//! Everything goes through one [`Kubelet`] dialer; an upgraded connection is passed through as it
//! is ([`relay`]).

mod admission;
mod links;
mod location;
mod log;
mod pages;
mod proxy;
mod relay;
mod stream;
mod usage;

pub(in crate::apiserver) use location::service_endpoint;
pub(in crate::apiserver) use relay::relay;

use super::Handler;
use crate::client::dialer::Kubelet;
use crate::resources::metrics::{node_metrics, pod_metrics};
use crate::storage::Storage;
use location::Locator;
use std::sync::Arc;

/// All of them.
pub fn handlers(kubelet: Kubelet, storage: Arc<dyn Storage>) -> Vec<(&'static str, Arc<dyn Handler>)> {
    let locator = Arc::new(Locator { kubelet, storage });
    let stream = |kind| Arc::new(stream::Stream { locator: locator.clone(), kind });
    let proxy = |target| Arc::new(proxy::Proxy { locator: locator.clone(), target });
    let usage = Arc::new(usage::Usage::new(locator.clone()));
    let metrics = |of| Arc::new(usage::Metrics { usage: usage.clone(), of });
    vec![
        ("pods/log", Arc::new(log::Log { locator: locator.clone() })),
        ("pods/exec", stream(stream::Kind::Exec)),
        ("pods/attach", stream(stream::Kind::Attach)),
        ("pods/portforward", stream(stream::Kind::PortForward)),
        ("pods/proxy", proxy(proxy::Target::Pod)),
        ("services/proxy", proxy(proxy::Target::Service)),
        ("nodes/proxy", proxy(proxy::Target::Node)),
        (node_metrics::HANDLER, metrics(usage::Of::Nodes)),
        (pod_metrics::HANDLER, metrics(usage::Of::Pods)),
    ]
}

#[cfg(test)]
mod tests;
