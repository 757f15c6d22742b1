//! What CustomResourceDefinitions define comes to be served, and goes again.
//!
//! One task follows the definitions in the store: it settles names and conditions ([`status`]),
//! publishes the rows of those that are accepted before their status says so, takes them back when
//! the definition is gone, and starts [`cleanup`] when it is to go. [`Definitions::settled`] waits
//! until everything that was stored is served.

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
use crate::storage::{Change, Durability, Entry, Error, Prefix, Revision, Watch, WatchError};
use serde_json::{Value, json};
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

/// One definition as it was last seen.
struct Known {
    object: Value,
    revision: Revision,
    /// What its rows were made of; None: it has none.
    served: Option<Value>,
    terminating: Arc<AtomicBool>,
    cleaning: bool,
}

struct Keeper {
    state: Weak<State>,
    known: BTreeMap<String, Known>,
    cleanups: JoinSet<String>,
}

/// Serves what is defined already, then follows. Must be called on a tokio runtime.
pub fn start(state: &Arc<State>, start: Start) {
    let mut keeper = Keeper { state: Arc::downgrade(state), known: BTreeMap::new(), cleanups: JoinSet::new() };
    let watch = keeper.read(state);
    // What was accepted before a restart is served from the first request on.
    for known in keeper.known.values_mut() {
        publish(state, known);
    }
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keeper.run(watch, start.requests) => {}
        }
    });
}

impl Keeper {
    fn read(&mut self, state: &State) -> Box<dyn Watch> {
        let prefix = Prefix::resource(&resource());
        loop {
            let snapshot = state.storage.snapshot();
            // Too old only when the history turned over since the last line.
            let Ok(watch) = state.storage.watch(prefix.clone(), snapshot.revision()) else { continue };
            let mut gone: Vec<String> = self.known.keys().cloned().collect();
            for entry in snapshot.range(&prefix, None) {
                gone.retain(|name| name != entry.key.name());
                self.note(entry);
            }
            for name in gone {
                self.forget(state, &name);
            }
            return watch;
        }
    }

    fn note(&mut self, entry: &Entry) {
        let object = entry.body.parse();
        match self.known.get_mut(entry.key.name()) {
            // Another object of the same name.
            Some(known) if known.object["metadata"]["uid"] == object["metadata"]["uid"] => {
                known.object = object;
                known.revision = entry.revision;
            }
            _ => {
                let known = Known {
                    object,
                    revision: entry.revision,
                    served: None,
                    terminating: Arc::default(),
                    cleaning: false,
                };
                self.known.insert(entry.key.name().to_owned(), known);
            }
        }
    }

    fn forget(&mut self, state: &State, name: &str) {
        if let Some(known) = self.known.remove(name)
            && known.served.is_some()
        {
            state.registry.unregister(&defined(&known.object));
        }
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
        match &change.new {
            Some(entry) => {
                self.note(entry);
                self.sync(name).await;
            }
            None => {
                let Some(state) = self.state.upgrade() else { return };
                let group = self.known.get(name).map(|known| known.object.at("spec").str_at("group").to_owned());
                self.forget(&state, name);
                drop(state);
                // Its names are free.
                self.sync_group(&group.unwrap_or_default(), name).await;
            }
        }
    }

    async fn sync_group(&mut self, group: &str, but: &str) {
        let waiting: Vec<String> = self
            .known
            .iter()
            .filter(|(name, known)| *name != but && known.object.at("spec").str_at("group") == group)
            .filter(|(_, known)| !status::is_true(&known.object, "NamesAccepted"))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            self.sync(&name).await;
        }
    }

    /// Conditions as they should be; rows before the status says that they are there.
    async fn sync(&mut self, name: &str) {
        let Some(state) = self.state.upgrade() else { return };
        let others: Vec<Value> =
            self.known.iter().filter(|(other, _)| *other != name).map(|(_, known)| known.object.clone()).collect();
        let Some(known) = self.known.get_mut(name) else { return };
        let before = known.object.clone();
        status::settle(&mut known.object, &others, jiff::Timestamp::now());
        publish(&state, known);
        let changed = known.object != before;
        let released = names_of(&before) != names_of(&known.object);
        if changed {
            write(&state, name, known.revision, &before, &known.object).await;
        }
        let doomed =
            is_being_deleted(&known.object) && metadata_strings(&known.object, "finalizers").contains(&FINALIZER);
        if doomed && !known.cleaning {
            known.cleaning = true;
            self.cleanups.spawn(cleanup::run(self.state.clone(), name.to_owned()));
        }
        if released {
            let group = self.known[name].object.at("spec").str_at("group").to_owned();
            drop(state);
            Box::pin(self.sync_group(&group, name)).await;
        }
    }
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
fn publish(state: &Arc<State>, known: &mut Known) {
    let terminating = is_being_deleted(&known.object);
    let changed = known.terminating.swap(terminating, Ordering::Relaxed) != terminating;
    let accepted = status::is_true(&known.object, "NamesAccepted") || status::is_true(&known.object, "Established");
    let resource = defined(&known.object);
    if !accepted {
        if known.served.take().is_some() {
            state.registry.unregister(&resource);
        }
        return;
    }
    let made_of = json!([known.object.at("spec"), names_of(&known.object)]);
    if known.served.as_ref() == Some(&made_of) {
        if changed {
            state.registry.touch();
        }
        return;
    }
    let conversion = conversion::of(state, &known.object).map(|webhook| Arc::new(webhook) as Arc<dyn Conversion>);
    let versions = custom_resource::versions(&known.object, known.terminating.clone(), conversion);
    state.registry.register(&resource, versions);
    known.served = Some(made_of);
}

/// The status of a definition, as the server itself writes it.
async fn write(state: &State, name: &str, revision: Revision, before: &Value, after: &Value) {
    let resource = resource();
    let rows = state.registry.rows();
    let Some(row) = rows.preferred(&resource) else { return };
    let mut object = after.clone();
    if let Err(error) =
        codec::track(row, Some(before), &mut object, &crate::schema::Write::new("kube-apiserver", "status", &["spec"]))
    {
        tracing::error!("status of {name}: {}", error.message);
        return;
    }
    let key = State::key(row, "", name);
    let body = match codec::encode(state, row, &object).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!("status of {name}: {}", error.message);
            return;
        }
    };
    match state.storage.update(key, revision, body, Durability::Durable).await {
        // Changed or gone meanwhile: that change is on its way here.
        Ok(_) | Err(Error::Conflict { .. } | Error::NotFound) => {}
        Err(error) => tracing::error!("status of {name}: {error}"),
    }
}
