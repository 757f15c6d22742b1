//! What CustomResourceDefinitions define comes to be served, and goes again.
//!
//! One task follows the definitions in the store: it settles names and conditions ([`status`]),
//! publishes the rows of those that are accepted before their status says so, takes them back when
//! the definition is gone, and starts [`cleanup`] when it is to go. [`Definitions::settled`] waits
//! until everything that was stored is served. Definitions are large, and change seldom: each is
//! parsed when it is looked at, and of all others only the names are kept.

mod cleanup;
mod conversion;
pub mod status;

use super::codec;
use super::state::State;
use crate::api::{Fields, GroupResource};
use crate::resources::api_extensions::custom_resource;
use crate::resources::api_extensions::custom_resource_definition::FINALIZER;
use crate::resources::pipeline::{is_being_deleted, metadata_strings};
use crate::resources::{Conversion, Row};
use crate::storage::{Change, Durability, Entry, Error, Key, Prefix, Watch, WatchError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// A handle on the task.
#[derive(Clone)]
pub struct Definitions {
    requests: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

fn resource() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// What [`start`] needs and does not know at its time.
pub struct Start {
    requests: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

impl Definitions {
    pub fn new() -> (Self, Start) {
        let (sender, requests) = mpsc::unbounded_channel();
        (Self { requests: sender }, Start { requests })
    }

    /// Whether writes of the row's objects change what is served.
    pub fn are(row: &Row) -> bool {
        row.group_resource == resource()
    }

    /// Everything that was stored before this call is served, or is no longer.
    pub async fn settled(&self) {
        let (done, wait) = oneshot::channel();
        if self.requests.send(done).is_ok() {
            // The task ends with the server: then nothing is served at all.
            let _ = wait.await;
        }
    }
}

/// What is kept of a definition.
struct Known {
    uid: String,
    /// What it defines.
    resource: GroupResource,
    names: Value,
    /// All that it asks for.
    accepted: bool,
    /// The digest of what its rows were made of; None: it has none.
    served: Option<Digest>,
    terminating: Arc<AtomicBool>,
    cleaning: bool,
}

type Digest = [u8; 32];

impl Known {
    fn new(object: &Value) -> Self {
        Self {
            uid: uid(object).to_owned(),
            resource: defined(object),
            names: names_of(object).clone(),
            accepted: status::is_true(object, "NamesAccepted"),
            served: None,
            terminating: Arc::default(),
            cleaning: false,
        }
    }
}

struct Keeper {
    state: Weak<State>,
    known: BTreeMap<String, Known>,
    cleanups: JoinSet<String>,
}

/// Serves what is defined already, then follows. Must be called on a tokio runtime.
pub fn start(state: &Arc<State>, start: Start) {
    let mut keeper = Keeper { state: Arc::downgrade(state), known: BTreeMap::new(), cleanups: JoinSet::new() };
    // What was accepted before a restart is served from the first request on.
    let watch = keeper.read(state);
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keeper.run(watch, start.requests) => {}
        }
    });
}

impl Keeper {
    fn read(&mut self, state: &Arc<State>) -> Box<dyn Watch> {
        let prefix = Prefix::resource(&resource());
        loop {
            let snapshot = state.storage.snapshot();
            // Too old only when the history turned over since the last line.
            let Ok(watch) = state.storage.watch(prefix.clone(), snapshot.revision()) else { continue };
            let mut gone: Vec<String> = self.known.keys().cloned().collect();
            for entry in snapshot.range(&prefix, None) {
                gone.retain(|name| name != entry.key.name());
                let object = entry.body.parse();
                publish(state, self.note(entry.key.name(), &object), &object);
            }
            for name in gone {
                self.forget(state, &name);
            }
            return watch;
        }
    }

    /// The definition as it is now.
    fn note(&mut self, name: &str, object: &Value) -> &mut Known {
        // There may be another object of the same name.
        let known = self.known.entry(name.to_owned()).or_insert_with(|| Known::new(object));
        if known.uid != uid(object) {
            *known = Known::new(object);
        }
        known.names = names_of(object).clone();
        known.accepted = status::is_true(object, "NamesAccepted");
        known
    }

    fn forget(&mut self, state: &State, name: &str) -> Option<Known> {
        let known = self.known.remove(name)?;
        if known.served.is_some() {
            state.registry.unregister(&known.resource);
        }
        Some(known)
    }

    async fn run(mut self, mut watch: Box<dyn Watch>, mut requests: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        for name in self.known.keys().cloned().collect::<Vec<_>>() {
            self.sync(&name).await;
        }
        loop {
            tokio::select! {
                biased;
                change = watch.next() => match change {
                    Ok(change) => self.take(&change).await,
                    Err(WatchError::Lagged) => {
                        let Some(state) = self.state.upgrade() else { return };
                        watch = self.read(&state);
                        for name in self.known.keys().cloned().collect::<Vec<_>>() {
                            self.sync(&name).await;
                        }
                    }
                    Err(WatchError::Closed) => return,
                },
                Some(ended) = self.cleanups.join_next() => match ended {
                    Ok(name) => {
                        if let Some(known) = self.known.get_mut(&name) {
                            known.cleaning = false;
                        }
                        self.sync(&name).await;
                    }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                request = requests.recv() => match request {
                    // Changes come first: there is none left.
                    Some(done) => { let _ = done.send(()); }
                    None => return,
                },
            }
        }
    }

    async fn take(&mut self, change: &Change) {
        let name = change.key.name();
        if change.new.is_some() {
            return self.sync(name).await;
        }
        let Some(state) = self.state.upgrade() else { return };
        let gone = self.forget(&state, name);
        drop(state);
        if let Some(gone) = gone {
            // Its names are free.
            self.sync_group(&gone.resource.group, name).await;
        }
    }

    async fn sync_group(&mut self, group: &str, but: &str) {
        let waiting: Vec<String> = self
            .known
            .iter()
            .filter(|(name, known)| *name != but && known.resource.group == group && !known.accepted)
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            self.sync(&name).await;
        }
    }

    /// What the other definitions of a group have.
    fn taken(&self, group: &str, but: &str) -> status::Taken {
        let mut taken = status::Taken::default();
        let others = self.known.iter().filter(|(name, known)| *name != but && known.resource.group == group);
        others.for_each(|(_, known)| taken.add(&known.names));
        taken
    }

    /// Conditions as they should be; rows before the status says that they are there. Looks at the
    /// definition as it is stored now: when that is gone, the change that says so is on its way.
    async fn sync(&mut self, name: &str) {
        let Some(state) = self.state.upgrade() else { return };
        let Some(entry) = state.storage.get(&Key::new(&resource(), "", name)) else { return };
        let mut object = entry.body.parse();
        let before = object.at("status").clone();
        let group = object.at("spec").str_at("group").to_owned();
        status::settle(&mut object, &self.taken(&group, name), jiff::Timestamp::now());
        let known = self.note(name, &object);
        publish(&state, known, &object);
        let doomed = is_being_deleted(&object) && metadata_strings(&object, "finalizers").contains(&FINALIZER);
        let cleans = doomed && !known.cleaning;
        known.cleaning |= doomed;
        let released = before.at("acceptedNames") != names_of(&object);
        if before != *object.at("status") {
            write(&state, name, &entry, object).await;
        }
        if cleans {
            self.cleanups.spawn(cleanup::run(self.state.clone(), name.to_owned()));
        }
        if released {
            drop(state);
            Box::pin(self.sync_group(&group, name)).await;
        }
    }
}

fn uid(object: &Value) -> &str {
    object.at("metadata").str_at("uid")
}

fn names_of(definition: &Value) -> &Value {
    definition.at("status").at("acceptedNames")
}

/// The resource that a definition defines.
fn defined(definition: &Value) -> GroupResource {
    let spec = definition.at("spec");
    GroupResource::new(spec.str_at("group"), spec.at("names").str_at("plural"))
}

/// Rows as the definition has them now; old ones stay when nothing of them changed.
fn publish(state: &Arc<State>, known: &mut Known, object: &Value) {
    let terminating = is_being_deleted(object);
    let changed = known.terminating.swap(terminating, Ordering::Relaxed) != terminating;
    if !known.accepted && !status::is_true(object, "Established") {
        if known.served.take().is_some() {
            state.registry.unregister(&known.resource);
        }
        return;
    }
    let made_of = Sha256::digest(format!("{} {}", object.at("spec"), known.names)).into();
    if known.served == Some(made_of) {
        if changed {
            state.registry.touch();
        }
        return;
    }
    let conversion = conversion::of(state, object).map(|webhook| Arc::new(webhook) as Arc<dyn Conversion>);
    let versions = custom_resource::versions(object, known.terminating.clone(), conversion);
    state.registry.register(&known.resource, versions);
    known.served = Some(made_of);
}

/// The status of a definition, as the server itself writes it.
async fn write(state: &State, name: &str, stored: &Entry, mut object: Value) {
    let resource = resource();
    let rows = state.registry.rows();
    let Some(row) = rows.preferred(&resource) else { return };
    let before = stored.body.parse();
    let writer = crate::schema::Write::new("kube-apiserver", "status", &["spec"]);
    if let Err(error) = codec::track(row, Some(&before), &mut object, &writer) {
        tracing::error!("status of {name}: {}", error.message);
        return;
    }
    let body = match codec::encode(state, row, &object).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!("status of {name}: {}", error.message);
            return;
        }
    };
    match state.storage.update(stored.key.clone(), stored.revision, body, Durability::Durable).await {
        // Changed or gone meanwhile: that change is on its way here.
        Ok(_) | Err(Error::Conflict { .. } | Error::NotFound) => {}
        Err(error) => tracing::error!("status of {name}: {error}"),
    }
}
