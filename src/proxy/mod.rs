//! The service proxy: Services and EndpointSlices become rules in the kernel.
//!
//! [`run`] follows the informers, computes all rules purely ([`rules`]) and gives the difference to
//! a backend ([`iptables`]). Changes that come together are applied together; when somebody else
//! changes the kernel's rules, ours are checked and put back.

pub mod conntrack;
pub mod iptables;
pub mod model;
mod notifications;
pub mod peers;
pub mod rules;
mod views;

use crate::runtime::{Informer, InformerOptions, Store};
use anyhow::Result;
use iptables::Iptables;
use model::{PortName, State};
use notifications::Notifications;
use rules::{NodeNetwork, RuleSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use views::{PodView, ServiceView, SliceView};

/// A first change waits so long for others to come along.
const GATHER: Duration = Duration::from_millis(10);

/// After a failure to write rules.
const RETRY: Duration = Duration::from_secs(5);

pub struct Config {
    pub node_name: String,
    pub network: NodeNetwork,
}

/// Keep the kernel's rules until the shutdown. They stay when the proxy ends, so that Services go
/// on over a restart; [`cleanup`] removes them. `client` is the proxy's own; the pods of its node only
/// the node itself may see, with `node_client`.
pub async fn run(
    config: Config,
    client: kube::Client,
    node_client: kube::Client,
    shutdown: CancellationToken,
) -> Result<()> {
    let sources = Sources::start(&config, client, node_client);
    let mut backend = Iptables::default();
    let mut notifications = Notifications::open()?;
    sources.synced(&shutdown).await;
    let (mut last, mut installed) = (State::default(), RuleSet::default());
    let mut resync = true;
    while !shutdown.is_cancelled() {
        let state = sources.state(&config.node_name);
        let wanted = rules::rules(&state, &config.network);
        let outcome = if resync { backend.resync(&wanted).await } else { backend.apply(&installed, &wanted).await };
        let failed = outcome.is_err();
        match outcome {
            Ok(()) => {
                let flows = rules::stale_flows(&last, &state);
                if !flows.is_empty()
                    && let Err(error) = conntrack::forget(&flows).await
                {
                    tracing::warn!("forget UDP flows to gone endpoints: {error:#}");
                }
                (last, installed, resync) = (state, wanted, false);
            }
            Err(error) => {
                tracing::error!("write the service rules: {error:#}");
                resync = true;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(RETRY), if failed => {}
            () = sources.changed.notified() => tokio::time::sleep(GATHER).await,
            () = notifications.foreign(backend.writers()) => {
                resync = !backend.intact(&installed).await.unwrap_or(false);
                if resync {
                    tracing::warn!("somebody removed service rules: writing all of them anew");
                }
            }
        }
    }
    Ok(())
}

/// Remove every rule and chain that a proxy made on this machine.
pub async fn cleanup() -> Result<()> {
    Iptables::default().remove().await
}

struct Sources {
    services: Informer<ServiceView>,
    slices: Informer<SliceView>,
    pods: Informer<PodView>,
    changed: Arc<Notify>,
}

impl Sources {
    fn start(config: &Config, client: kube::Client, node_client: kube::Client) -> Self {
        let changed = Arc::new(Notify::new());
        let services = Informer::start(client.clone(), InformerOptions::default());
        let slices = Informer::start(client, InformerOptions::default());
        let of_node = format!("spec.nodeName={}", config.node_name);
        let pods =
            Informer::start(node_client, InformerOptions { field_selector: Some(of_node), ..Default::default() });
        let sources = Self { services, slices, pods, changed };
        sources.follow(sources.services.store(), |view| !view.ports.is_empty());
        sources.follow(sources.slices.store(), |_| true);
        sources.follow(sources.pods.store(), |view| !view.host_ports.is_empty() || !view.node_network_ports.is_empty());
        sources
    }

    /// Wake the proxy when an object that matters changes in what it reads.
    fn follow<P: crate::runtime::Projection + PartialEq>(&self, store: &Arc<Store<P>>, matters: fn(&P) -> bool) {
        let changed = self.changed.clone();
        store.on_change(move |change| {
            if change.states().any(|view| matters(view)) {
                changed.notify_one();
            }
        });
    }

    async fn synced(&self, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = futures::future::join3(
                self.services.store().synced(),
                self.slices.store().synced(),
                self.pods.store().synced(),
            ) => {}
        }
    }

    fn state(&self, node: &str) -> State {
        use crate::runtime::Projection;
        let mut state = State::default();
        for service in self.services.store().all() {
            let meta = service.meta();
            for (port, found) in &service.ports {
                let name = PortName {
                    namespace: meta.namespace.to_string(),
                    service: meta.name.to_string(),
                    port: port.clone(),
                };
                state.services.insert(name, found.clone());
            }
        }
        for slice in self.slices.store().all() {
            for (port, protocol, number) in &slice.ports {
                let name = PortName {
                    namespace: slice.meta().namespace.to_string(),
                    service: slice.service.clone(),
                    port: port.clone(),
                };
                if state.services.get(&name).is_none_or(|service| service.protocol != *protocol) {
                    continue;
                }
                let list = state.endpoints.entry(name).or_default();
                list.extend(slice.endpoints.iter().map(|(on, endpoint)| model::Endpoint {
                    port: *number,
                    local: on.as_deref() == Some(node),
                    ..endpoint.clone()
                }));
            }
        }
        for list in state.endpoints.values_mut() {
            list.sort();
            list.dedup_by(|a, b| (a.ip, a.port) == (b.ip, b.port));
        }
        for pod in self.pods.store().all() {
            state.host_ports.extend(pod.host_ports.iter().cloned());
            state.node_network_ports.extend(pod.node_network_ports.iter().copied());
        }
        state.host_ports.sort();
        state.node_network_ports.sort();
        state.node_network_ports.dedup();
        state
    }
}
