//! The caches of a process: one informer per projection, shared by all that read it.

use super::informer::{Informer, InformerOptions};
use super::projection::Projection;
use super::store::Store;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// A registry of running informers; they end when the last clone of it is dropped.
#[derive(Clone)]
pub struct Informers {
    client: kube::Client,
    running: Arc<Mutex<HashMap<TypeId, Running>>>,
}

struct Running {
    informer: Box<dyn Any + Send>,
    of: &'static str,
    has_synced: Box<dyn Fn() -> bool + Send>,
}

impl Informers {
    /// `client`: the identity that reads.
    pub fn new(client: kube::Client) -> Self {
        Self { client, running: Arc::default() }
    }

    /// The cache of all objects of a projection's kind; started when first asked for.
    pub fn of<P: Projection>(&self) -> Arc<Store<P>> {
        let mut running = self.running.lock();
        let started = || {
            let informer = Informer::<P>::start(self.client.clone(), InformerOptions::default());
            let store = Arc::downgrade(informer.store());
            // A store that is gone waits for nothing.
            let has_synced = move || store.upgrade().is_none_or(|store| store.has_synced());
            Running {
                informer: Box::new(informer),
                of: std::any::type_name::<P>().rsplit("::").next().unwrap_or_default(),
                has_synced: Box::new(has_synced),
            }
        };
        let running = running.entry(TypeId::of::<P>()).or_insert_with(started);
        running.informer.downcast_ref::<Informer<P>>().expect("filed under its type").store().clone()
    }

    /// Those that have not read all there is yet.
    pub fn behind(&self) -> Vec<&'static str> {
        let running = self.running.lock();
        running.values().filter(|informer| !(informer.has_synced)()).map(|informer| informer.of).collect()
    }

    pub fn client(&self) -> &kube::Client {
        &self.client
    }
}
