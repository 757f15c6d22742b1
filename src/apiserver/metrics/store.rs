//! The store: how many objects it holds, and how long writes take.

use super::Histograms;
use crate::api::GroupResource;
use crate::resources::Registry as Rows;
use crate::storage::{Body, Durability, Entry, Error, Key, Prefix, Result, Revision, Snapshot, Storage, Watch};
use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

/// Seconds, as Kubernetes's buckets.
const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    group: String,
    resource: String,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS.iter().copied())
}

/// Writes of each resource. Reads come from memory: counting them would cost more than they do.
pub struct Writes {
    requests: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    durations: Histograms<Labels>,
}

impl Writes {
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            errors: Family::default(),
            durations: Histograms::new_with_constructor(durations as fn() -> Histogram),
        };
        let help = |what: &str| format!("[ALPHA] Etcd {what} for each operation and object type: writes to the store.");
        registry.register("etcd_requests", help("request counts"), this.requests.clone());
        registry.register("etcd_request_errors", help("failed request counts"), this.errors.clone());
        registry.register("etcd_request_duration_seconds", help("request latency in seconds"), this.durations.clone());
        this
    }
}

/// A store whose writes are measured.
pub struct Measured {
    pub storage: Arc<dyn Storage>,
    pub writes: Arc<Writes>,
}

impl Measured {
    async fn measure<T>(
        &self,
        operation: &'static str,
        resource: GroupResource,
        write: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let since = Instant::now();
        let result = write.await;
        let labels = Labels { operation, group: resource.group, resource: resource.resource };
        self.writes.requests.get_or_create(&labels).inc();
        self.writes.durations.get_or_create(&labels).observe(since.elapsed().as_secs_f64());
        // That another one was faster is no failure of the store's.
        if let Err(Error::Full(_) | Error::ReadOnly(_) | Error::Unknown(_)) = &result {
            self.writes.errors.get_or_create(&labels).inc();
        }
        result
    }
}

#[async_trait]
impl Storage for Measured {
    fn revision(&self) -> Revision {
        self.storage.revision()
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.storage.get(key)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.storage.snapshot()
    }

    fn pin(&self, snapshot: &Arc<dyn Snapshot>) {
        self.storage.pin(snapshot);
    }

    fn pinned(&self, revision: Revision) -> Result<Arc<dyn Snapshot>> {
        self.storage.pinned(revision)
    }

    async fn barrier(&self) -> Result<()> {
        self.storage.barrier().await
    }

    async fn create(&self, key: Key, body: Body, durability: Durability) -> Result<Arc<Entry>> {
        self.measure("create", key.resource(), self.storage.create(key, body, durability)).await
    }

    async fn update(&self, key: Key, expected: Revision, body: Body, durability: Durability) -> Result<Arc<Entry>> {
        self.measure("update", key.resource(), self.storage.update(key, expected, body, durability)).await
    }

    async fn delete(&self, key: Key, expected: Revision) -> Result<(Arc<Entry>, Revision)> {
        self.measure("delete", key.resource(), self.storage.delete(key, expected)).await
    }

    fn is_current(&self, entry: &Entry) -> bool {
        self.storage.is_current(entry)
    }

    fn size_bytes(&self) -> Option<u64> {
        self.storage.size_bytes()
    }

    fn watch(&self, prefix: Prefix, from: Revision) -> Result<Box<dyn Watch>> {
        self.storage.watch(prefix, from)
    }
}

/// What the store holds at the moment.
pub fn write(storage: &dyn Storage, rows: &Rows, out: &mut String) {
    let snapshot = storage.snapshot();
    let stored: BTreeMap<String, GroupResource> = rows
        .rows()
        .groups
        .iter()
        .flat_map(|group| group.versions.iter().flat_map(|version| &version.rows))
        .filter(|row| row.strategy.handler().is_none() && row.verbs.contains(&crate::resources::Verb::List))
        .map(|row| (row.stored.to_string(), row.stored.clone()))
        .collect();
    let counts: Vec<(&GroupResource, String, usize)> = stored
        .iter()
        .map(|(name, resource)| (resource, name.clone(), snapshot.count(&Prefix::resource(resource))))
        .collect();
    let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes it");
    let help = "[STABLE] (Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    line(format_args!("# HELP apiserver_storage_objects {help}\n# TYPE apiserver_storage_objects gauge\n"));
    for (_, name, count) in &counts {
        line(format_args!("apiserver_storage_objects{{resource=\"{name}\"}} {count}\n"));
    }
    let help = "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    line(format_args!("# HELP apiserver_resource_objects {help}\n# TYPE apiserver_resource_objects gauge\n"));
    for (resource, _, count) in &counts {
        let GroupResource { group, resource } = resource;
        line(format_args!("apiserver_resource_objects{{group=\"{group}\",resource=\"{resource}\"}} {count}\n"));
    }
    if let Some(bytes) = storage.size_bytes() {
        let help = "[STABLE] Size of the storage database file physically allocated in bytes.";
        line(format_args!("# HELP apiserver_storage_size_bytes {help}\n# TYPE apiserver_storage_size_bytes gauge\n"));
        line(format_args!("apiserver_storage_size_bytes{{storage_cluster_id=\"orch\"}} {bytes}\n"));
    }
}
