//! What watches send.

use super::Histograms;
use crate::api::GroupVersionResource;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    group: String,
    version: String,
    resource: String,
}

fn sizes() -> Histogram {
    Histogram::new((0..8).map(|power| 1024.0 * f64::from(1 << power)))
}

pub struct Watches {
    events: Family<Labels, Counter>,
    sizes: Histograms<Labels>,
}

/// Of one resource; a watch has its own.
pub struct Events {
    events: Counter,
    sizes: Histogram,
}

impl Watches {
    pub fn new(registry: &mut Registry) -> Self {
        let (events, sizes) = (Family::default(), Histograms::new_with_constructor(sizes as fn() -> Histogram));
        registry.register(
            "apiserver_watch_events",
            "[ALPHA] Number of events sent in watch clients",
            Family::clone(&events),
        );
        registry.register(
            "apiserver_watch_events_sizes",
            "[ALPHA] Watch event size distribution in bytes",
            sizes.clone(),
        );
        Self { events, sizes }
    }

    pub fn of(&self, resource: &GroupVersionResource) -> Events {
        let labels = Labels {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.resource.clone(),
        };
        Events { events: self.events.get_or_create(&labels).clone(), sizes: self.sizes.get_or_create(&labels).clone() }
    }
}

impl Events {
    pub fn sent(&self, bytes: usize) {
        self.events.inc();
        self.sizes.observe(bytes as f64);
    }
}
