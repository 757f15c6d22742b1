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
    running: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Informers {
    /// `client`: the identity that reads.
    pub fn new(client: kube::Client) -> Self {
        Self { client, running: Arc::default() }
    }

    /// The cache of all objects of a projection's kind; started when first asked for.
    pub fn of<P: Projection>(&self) -> Arc<Store<P>> {
        let mut running = self.running.lock();
        let informer = running
            .entry(TypeId::of::<P>())
            .or_insert_with(|| Box::new(Informer::<P>::start(self.client.clone(), InformerOptions::default())));
        informer.downcast_ref::<Informer<P>>().expect("filed under its type").store().clone()
    }

    pub fn client(&self) -> &kube::Client {
        &self.client
    }
}
