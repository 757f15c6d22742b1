//! ConfigMaps and Secrets of the pods on this node: each watched by name, only while a pod uses it.
//!
//! A node may read no others. A change wakes the workers of the pods that refer to it.

use super::env::{Lookup, LookupError};
use super::pod;
use super::wake::{OBJECTS, Wake};
use crate::client::{Kind, kinds};
use crate::runtime::{Informer, InformerOptions, Meta, Projection, Store};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// So long a pod waits for the first answer about an object.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

/// An object by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub kind: ObjectKind,
    pub namespace: String,
    pub name: String,
}

/// Every ConfigMap and Secret that the pod's spec names.
pub fn references(pod: &Pod) -> BTreeSet<Reference> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut out = BTreeSet::new();
    let mut add = |kind: ObjectKind, name: &str| {
        if !name.is_empty() {
            out.insert(Reference { kind, namespace: namespace.clone(), name: name.to_owned() });
        }
    };
    let spec = pod::spec(pod);
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(ObjectKind::Secret, &secret.name);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            add(ObjectKind::ConfigMap, &source.name);
        }
        if let Some(source) = &volume.secret {
            add(ObjectKind::Secret, source.secret_name.as_deref().unwrap_or_default());
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                add(ObjectKind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(ObjectKind::Secret, &source.name);
            }
        }
    }
    for (_, container) in pod::all_containers(pod) {
        for from in container.env_from.iter().flatten() {
            if let Some(source) = &from.config_map_ref {
                add(ObjectKind::ConfigMap, &source.name);
            }
            if let Some(source) = &from.secret_ref {
                add(ObjectKind::Secret, &source.name);
            }
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(source) = &source.config_map_key_ref {
                add(ObjectKind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret_key_ref {
                add(ObjectKind::Secret, &source.name);
            }
        }
    }
    out
}

/// A watched object as its cache holds it.
struct Record<T> {
    meta: Meta,
    object: Arc<T>,
}

/// What the cache needs of a kind.
trait Watched: serde::de::DeserializeOwned + Send + Sync + 'static {
    const KIND: Kind;
    fn meta(&self) -> Meta;
}

fn meta(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Meta {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    Meta {
        name: text(&metadata.name).into(),
        namespace: text(&metadata.namespace).into(),
        uid: text(&metadata.uid).into(),
        resource_version: text(&metadata.resource_version).into(),
        ..Meta::default()
    }
}

impl Watched for ConfigMap {
    const KIND: Kind = kinds::CONFIG_MAPS;
    fn meta(&self) -> Meta {
        meta(&self.metadata)
    }
}

impl Watched for Secret {
    const KIND: Kind = kinds::SECRETS;
    fn meta(&self) -> Meta {
        meta(&self.metadata)
    }
}

impl<T: Watched> Projection for Record<T> {
    type Object = T;
    const KIND: Kind = T::KIND;

    fn project(object: T) -> Self {
        Self { meta: object.meta(), object: Arc::new(object) }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

enum Cache {
    ConfigMap(Informer<Record<ConfigMap>>),
    Secret(Informer<Record<Secret>>),
}

type Users = Arc<Mutex<HashMap<String, Wake>>>;

struct Entry {
    cache: Cache,
    /// By pod UID.
    users: Users,
}

/// All watched objects of the node.
pub struct Objects {
    client: kube::Client,
    entries: Mutex<HashMap<Reference, Entry>>,
}

impl Objects {
    pub fn new(client: kube::Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    /// Watch exactly `references` for a pod; what no pod uses any more is watched no longer.
    pub fn register(&self, uid: &str, references: &BTreeSet<Reference>, wake: &Wake) {
        let mut entries = self.entries.lock();
        for reference in references {
            let entry = entries.entry(reference.clone()).or_insert_with(|| self.watch(reference));
            entry.users.lock().insert(uid.to_owned(), wake.clone());
        }
        entries.retain(|reference, entry| {
            let mut users = entry.users.lock();
            if !references.contains(reference) {
                users.remove(uid);
            }
            !users.is_empty()
        });
    }

    pub fn release(&self, uid: &str) {
        self.register(uid, &BTreeSet::new(), &Wake::default());
    }

    fn watch(&self, reference: &Reference) -> Entry {
        let users = Users::default();
        let options = InformerOptions {
            namespace: Some(reference.namespace.clone()),
            field_selector: Some(format!("metadata.name={}", reference.name)),
            ..InformerOptions::default()
        };
        let cache = match reference.kind {
            ObjectKind::ConfigMap => {
                let informer = Informer::start(self.client.clone(), options);
                wake_users(informer.store(), &users);
                Cache::ConfigMap(informer)
            }
            ObjectKind::Secret => {
                let informer = Informer::start(self.client.clone(), options);
                wake_users(informer.store(), &users);
                Cache::Secret(informer)
            }
        };
        Entry { cache, users }
    }

    /// Wait until the first answer about each is in; what stays silent is an error at its lookup.
    pub async fn synced(&self, references: &BTreeSet<Reference>) {
        enum Waiting {
            ConfigMap(Arc<Store<Record<ConfigMap>>>),
            Secret(Arc<Store<Record<Secret>>>),
        }
        let waiting: Vec<Waiting> = {
            let entries = self.entries.lock();
            let caches = references.iter().filter_map(|reference| entries.get(reference)).map(|entry| &entry.cache);
            caches
                .map(|cache| match cache {
                    Cache::ConfigMap(informer) => Waiting::ConfigMap(informer.store().clone()),
                    Cache::Secret(informer) => Waiting::Secret(informer.store().clone()),
                })
                .collect()
        };
        let all = futures::future::join_all(waiting.iter().map(|waiting| async move {
            match waiting {
                Waiting::ConfigMap(store) => store.synced().await,
                Waiting::Secret(store) => store.synced().await,
            }
        }));
        // A lookup of one that is not synced says so.
        let _ = tokio::time::timeout(SYNC_TIMEOUT, all).await;
    }

    /// Lookups in one namespace.
    pub fn lookup<'a>(&'a self, namespace: &'a str) -> impl Lookup + 'a {
        InNamespace { objects: self, namespace }
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, LookupError> {
        let store = {
            let entries = self.entries.lock();
            match entries.get(&reference(ObjectKind::Secret, namespace, name)).map(|entry| &entry.cache) {
                Some(Cache::Secret(informer)) => informer.store().clone(),
                _ => return Err(unregistered("secret", namespace, name)),
            }
        };
        found(&store, "secret", namespace, name)
    }

    pub fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, LookupError> {
        let store = {
            let entries = self.entries.lock();
            match entries.get(&reference(ObjectKind::ConfigMap, namespace, name)).map(|entry| &entry.cache) {
                Some(Cache::ConfigMap(informer)) => informer.store().clone(),
                _ => return Err(unregistered("configmap", namespace, name)),
            }
        };
        found(&store, "configmap", namespace, name)
    }
}

fn wake_users<T: Watched>(store: &Arc<Store<Record<T>>>, users: &Users) {
    let users = users.clone();
    store.on_change(move |_| {
        for wake in users.lock().values() {
            wake.raise(OBJECTS);
        }
    });
}

fn reference(kind: ObjectKind, namespace: &str, name: &str) -> Reference {
    Reference { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

fn unregistered(what: &str, namespace: &str, name: &str) -> LookupError {
    LookupError::Failed(format!("object \"{namespace}\"/\"{name}\" not registered ({what})"))
}

fn found<T: Watched>(store: &Store<Record<T>>, what: &str, namespace: &str, name: &str) -> Result<Arc<T>, LookupError> {
    if let Some(record) = store.find(namespace, name) {
        return Ok(record.object.clone());
    }
    if store.has_synced() {
        Err(LookupError::NotFound(format!("{what} \"{name}\" not found")))
    } else {
        Err(LookupError::Failed(format!("failed to sync {what} cache: timed out waiting for the condition")))
    }
}

struct InNamespace<'a> {
    objects: &'a Objects,
    namespace: &'a str,
}

impl Lookup for InNamespace<'_> {
    fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, LookupError> {
        self.objects.config_map(self.namespace, name)
    }

    fn secret(&self, name: &str) -> Result<Arc<Secret>, LookupError> {
        self.objects.secret(self.namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_a_pod_names_an_object() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "configMap": {"name": "files"}}, {"name": "b", "secret": {"secretName": "files"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "root"}}, {"secret": {"name": "p"}}]}}]}}))
        .expect("a pod");
        let names: Vec<String> =
            references(&pod).iter().map(|reference| format!("{:?}/{}", reference.kind, reference.name)).collect();
        let want = [
            "ConfigMap/files",
            "ConfigMap/from",
            "ConfigMap/root",
            "Secret/files",
            "Secret/key",
            "Secret/p",
            "Secret/pull",
        ];
        assert_eq!(names, want);
    }
}
