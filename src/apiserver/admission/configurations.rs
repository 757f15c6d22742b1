//! The configurations of one kind, compiled, and kept up to date with the store.
//!
//! A request loads one shared list; while there is none, nothing is asked.

use crate::api::GroupResource;
use crate::apiserver::follow::{Following, Update, follow};
use crate::storage::{Prefix, Storage};
use arc_swap::ArcSwap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The compiled objects of a kind, by name.
pub(super) struct Configurations<T> {
    current: Arc<ArcSwap<Vec<Arc<T>>>>,
    _following: Following,
}

impl<T: Send + Sync + 'static> Configurations<T> {
    /// Must be called on a tokio runtime. `compile` sees each object when it has changed.
    pub fn follow(storage: &Arc<dyn Storage>, plural: &str, compile: fn(&Value) -> T) -> Self {
        let current: Arc<ArcSwap<Vec<Arc<T>>>> = Arc::default();
        let published = current.clone();
        let mut known: BTreeMap<String, Arc<T>> = BTreeMap::new();
        let resource = GroupResource::new("admissionregistration.k8s.io", plural);
        let following = follow(storage.clone(), Prefix::resource(&resource), move |update| {
            match update {
                Update::Reset(entries) => {
                    known = entries
                        .iter()
                        .map(|entry| (entry.key.name().to_owned(), Arc::new(compile(&entry.body.parse()))))
                        .collect();
                }
                Update::Put(entry) => {
                    known.insert(entry.key.name().to_owned(), Arc::new(compile(&entry.body.parse())));
                }
                Update::Delete(key) => {
                    known.remove(key.name());
                }
            }
            published.store(Arc::new(known.values().cloned().collect()));
        });
        Self { current, _following: following }
    }

    pub fn load(&self) -> Arc<Vec<Arc<T>>> {
        self.current.load_full()
    }

    /// Whether one of them is wanted; without any, this is one load.
    pub fn any(&self, wanted: impl Fn(&T) -> bool) -> bool {
        self.current.load().iter().any(|one| wanted(one))
    }
}
