//! The cache of an informer: one writer, many readers.
//!
//! Read by key, by namespace, by controlling owner or by an index of the projection. Handlers see
//! each change once, in order, after the store holds it.

use super::informer::Sink;
use super::key::ObjectKey;
use super::projection::Projection;
use super::queue::WorkQueue;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What happened to an object.
pub enum Change<'a, P> {
    Added(&'a Arc<P>),
    Updated {
        old: &'a Arc<P>,
        new: &'a Arc<P>,
    },
    /// With its last known state.
    Deleted(&'a Arc<P>),
}

impl<P> Clone for Change<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Change<'_, P> {}

impl<'a, P> Change<'a, P> {
    pub fn old(self) -> Option<&'a Arc<P>> {
        match self {
            Self::Added(_) => None,
            Self::Updated { old, .. } | Self::Deleted(old) => Some(old),
        }
    }

    pub fn new(self) -> Option<&'a Arc<P>> {
        match self {
            Self::Added(new) | Self::Updated { new, .. } => Some(new),
            Self::Deleted(_) => None,
        }
    }

    /// Before and after.
    pub fn states(self) -> impl Iterator<Item = &'a Arc<P>> {
        self.old().into_iter().chain(self.new())
    }

    /// The newest known state.
    pub fn object(self) -> &'a Arc<P> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }
}

type Handler<P> = Box<dyn Fn(Change<'_, P>) + Send>;

/// Readers share it by `Arc`; only its informer writes.
pub struct Store<P> {
    state: RwLock<State<P>>,
    handlers: Mutex<Vec<Handler<P>>>,
    synced: watch::Sender<bool>,
}

struct State<P> {
    objects: HashMap<ObjectKey, Arc<P>>,
    /// (index, value) to keys, ordered so that readers see a stable order.
    indexes: HashMap<&'static str, HashMap<Box<str>, BTreeSet<ObjectKey>>>,
}

const NAMESPACE: &str = "namespace";
const OWNER: &str = "owner";
const ORPHANS: &str = "orphans";

fn indexed<P: Projection>(object: &P, add: &mut dyn FnMut(&'static str, &str)) {
    let meta = object.meta();
    add(NAMESPACE, &meta.namespace);
    match meta.controller() {
        Some(owner) => add(OWNER, &owner.uid),
        None => add(ORPHANS, &meta.namespace),
    }
    object.index(add);
}

impl<P: Projection> State<P> {
    fn insert(&mut self, key: &ObjectKey, object: Arc<P>) -> Option<Arc<P>> {
        let old = self.remove(key);
        let indexes = &mut self.indexes;
        indexed(&*object, &mut |index, value| {
            let values = indexes.entry(index).or_default();
            match values.get_mut(value) {
                Some(keys) => {
                    keys.insert(key.clone());
                }
                None => {
                    values.insert(value.into(), BTreeSet::from([key.clone()]));
                }
            }
        });
        self.objects.insert(key.clone(), object);
        old
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<P>> {
        let old = self.objects.remove(key)?;
        let indexes = &mut self.indexes;
        indexed(&*old, &mut |index, value| {
            let Some(values) = indexes.get_mut(index) else { return };
            if let Some(keys) = values.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    values.remove(value);
                }
            }
        });
        Some(old)
    }
}

impl<P: Projection> Default for Store<P> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State { objects: HashMap::new(), indexes: HashMap::new() }),
            handlers: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }
}

impl<P: Projection> Store<P> {
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<P>> {
        self.state.read().objects.get(key).cloned()
    }

    /// By namespace (empty: cluster-scoped) and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<P>> {
        self.get(&ObjectKey::new(namespace, name))
    }

    /// Everything, in no order.
    pub fn all(&self) -> Vec<Arc<P>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// The keys of everything, in no order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.state.read().objects.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those with this value in an index of [`Projection::index`], ordered by key.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<P>> {
        let state = self.state.read();
        let keys = state.indexes.get(index).and_then(|values| values.get(value));
        keys.into_iter().flatten().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Whether an index has this value at all.
    pub fn has_index(&self, index: &str, value: &str) -> bool {
        self.state.read().indexes.get(index).is_some_and(|values| values.contains_key(value))
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<P>> {
        self.by_index(NAMESPACE, namespace)
    }

    /// Those whose controlling owner has this UID.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<P>> {
        self.by_index(OWNER, uid)
    }

    /// Those of a namespace that no controller owns.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<P>> {
        self.by_index(ORPHANS, namespace)
    }

    /// Whether the first list is in.
    pub fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Wait for the first list.
    pub async fn synced(&self) {
        // The sender lives in self, so it is not closed while we wait.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// [`Self::synced`] that holds the store.
    pub fn until_synced(self: &Arc<Self>) -> BoxFuture<'static, ()> {
        let store = self.clone();
        Box::pin(async move { store.synced().await })
    }

    /// Call `handler` for every object that is there (as added) and every change from now on. It
    /// runs on the informer's task: short, no waiting, no other handler registered from within.
    pub fn on_change(&self, handler: impl Fn(Change<'_, P>) + Send + 'static) {
        let mut handlers = self.handlers.lock();
        for object in self.all() {
            handler(Change::Added(&object));
        }
        handlers.push(Box::new(handler));
    }

    /// Put the key of every object that changes on a queue.
    pub fn feed(&self, queue: &Arc<WorkQueue<ObjectKey>>) {
        let queue = queue.clone();
        self.on_change(move |change| queue.add(change.object().key()));
    }

    /// Put the key of every object that has become, or stays, such a one on a queue.
    pub fn feed_if(&self, queue: &Arc<WorkQueue<ObjectKey>>, is_such: impl Fn(&P) -> bool + Send + 'static) {
        let queue = queue.clone();
        self.on_change(move |change| {
            if let Some(object) = change.new().filter(|object| is_such(object)) {
                queue.add(object.key());
            }
        });
    }

    /// Changes as a stream of (old, new); what is there comes first, with no old.
    pub fn changes(&self) -> mpsc::UnboundedReceiver<(Option<Arc<P>>, Option<Arc<P>>)>
    where
        P: 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.on_change(move |change| {
            // A receiver that is gone wants no more.
            let _ = sender.send((change.old().cloned(), change.new().cloned()));
        });
        receiver
    }
}

impl<P: Projection> Sink<P> for Store<P> {
    fn apply(&self, object: P) {
        let handlers = self.handlers.lock();
        let key = object.key();
        let new = Arc::new(object);
        let old = self.state.write().insert(&key, new.clone());
        let change = match &old {
            None => Change::Added(&new),
            Some(old) => Change::Updated { old, new: &new },
        };
        for handler in handlers.iter() {
            handler(change);
        }
    }

    fn remove(&self, last: P) {
        let handlers = self.handlers.lock();
        if self.state.write().remove(&last.key()).is_some() {
            let last = Arc::new(last);
            for handler in handlers.iter() {
                handler(Change::Deleted(&last));
            }
        }
    }

    fn replace(&self, objects: Vec<P>) {
        let handlers = self.handlers.lock();
        let mut changes: Vec<(Option<Arc<P>>, Option<Arc<P>>)> = Vec::with_capacity(objects.len());
        {
            let mut state = self.state.write();
            let mut gone: HashMap<ObjectKey, Arc<P>> = state.objects.clone();
            for object in objects {
                let key = object.key();
                let new = Arc::new(object);
                let old = gone.remove(&key);
                let same = old.as_ref().is_some_and(|old| {
                    old.meta().resource_version == new.meta().resource_version && old.meta().uid == new.meta().uid
                });
                if !same {
                    state.insert(&key, new.clone());
                    changes.push((old, Some(new)));
                }
            }
            for (key, old) in gone {
                state.remove(&key);
                changes.push((Some(old), None));
            }
        }
        for (old, new) in &changes {
            let change = match (old, new) {
                (None, Some(new)) => Change::Added(new),
                (Some(old), Some(new)) => Change::Updated { old, new },
                (Some(old), None) => Change::Deleted(old),
                (None, None) => continue,
            };
            for handler in handlers.iter() {
                handler(change);
            }
        }
        self.synced.send_replace(true);
    }
}

#[cfg(test)]
impl<P: Projection> Store<P> {
    /// A store that holds these, as after a first list.
    pub fn of(objects: Vec<P>) -> Arc<Self> {
        let store = Self::default();
        store.replace(objects);
        Arc::new(store)
    }
}
