//! Counts what namespaces with quotas use, and writes it into the quotas' status.
//!
//! It follows the store itself, so that what is freed is free at once; while there is no quota it
//! waits for the first. Status is what the admission charged, corrected: an object that goes or ends
//! is counted out soon, one that came was charged already and is counted when it is quiet.

use super::{body, quotas, row};
use crate::api::{Fields, GroupResource, Quantity};
use crate::apiserver::codec;
use crate::apiserver::follow::Following;
use crate::resources::Registry;
use crate::resources::quota::{self, Amounts};
use crate::storage::{Change, Durability, Entry, Prefix, Snapshot, Storage, Watch, WatchError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Changes of one namespace are counted together.
const SOON: Duration = Duration::from_millis(50);
/// A charge whose object never came is taken back after this.
const LATER: Duration = Duration::from_secs(5);

struct Keeper {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
    /// Namespaces with quotas, and when each is to be counted.
    namespaces: BTreeMap<String, Option<Instant>>,
}

pub(super) fn start(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> Following {
    let mut keeper = Keeper { storage, registry, namespaces: BTreeMap::new() };
    Following::spawn(async move { keeper.run().await })
}

impl Keeper {
    async fn run(&mut self) {
        loop {
            let snapshot = self.storage.snapshot();
            let prefix = Prefix::resource(&quotas());
            let now = Instant::now();
            self.namespaces =
                snapshot.range(&prefix, None).map(|entry| (entry.key.namespace().to_owned(), Some(now))).collect();
            let idle = self.namespaces.is_empty();
            let prefix = if idle { prefix } else { Prefix::all() };
            // Too old only when the history turned over since the last line.
            let Ok(mut watch) = self.storage.watch(prefix, snapshot.revision()) else { continue };
            let ended = if idle { watch.next().await.map(|_| ()) } else { self.follow(&mut *watch).await };
            if matches!(ended, Err(WatchError::Closed)) {
                return;
            }
        }
    }

    /// Until there is no quota any more.
    async fn follow(&mut self, watch: &mut dyn Watch) -> Result<(), WatchError> {
        while !self.namespaces.is_empty() {
            let due = self.namespaces.values().flatten().min().copied();
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep => self.count_due().await,
                change = watch.next() => {
                    let change = change?;
                    self.note(&change);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, change: &Change) {
        let resource = change.key.resource();
        let namespace = change.key.namespace().to_owned();
        let now = Instant::now();
        if resource == quotas() {
            let parsed = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.body.parse());
            let (old, new) = (parsed(&change.old), parsed(&change.new));
            let charged = matches!((&old, &new), (Some(old), Some(new)) if old["spec"] == new["spec"]);
            if new.is_none() && !self.has_quota(&namespace) {
                self.namespaces.remove(&namespace);
            } else {
                self.schedule(&namespace, if charged { now + LATER } else { now }, true);
            }
        }
        let delay = match (&change.old, &change.new) {
            (_, None) => SOON,
            (None, Some(_)) => LATER,
            (Some(old), Some(new)) if same_usage(&resource, old, new) => return,
            _ => SOON,
        };
        self.schedule(&namespace, now + delay, false);
    }

    fn has_quota(&self, namespace: &str) -> bool {
        self.storage.snapshot().range(&Prefix::namespace(&quotas(), namespace), None).next().is_some()
    }

    /// Earlier wins.
    fn schedule(&mut self, namespace: &str, at: Instant, quota: bool) {
        if quota {
            self.namespaces.entry(namespace.to_owned()).or_default();
        }
        if let Some(due) = self.namespaces.get_mut(namespace) {
            *due = Some(due.map_or(at, |due| due.min(at)));
        }
    }

    async fn count_due(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self
            .namespaces
            .iter_mut()
            .filter(|(_, due)| due.is_some_and(|due| due <= now))
            .map(|(namespace, due)| {
                *due = None;
                namespace.clone()
            })
            .collect();
        for namespace in due {
            if let Err(error) = self.count(&namespace).await {
                tracing::warn!(namespace, error, "quota: the status is not written; tried again");
                self.schedule(&namespace, now + LATER, false);
            }
        }
    }

    async fn count(&self, namespace: &str) -> Result<(), String> {
        let snapshot = self.storage.snapshot();
        let row = row(&self.registry).map_err(|status| status.message)?;
        let entries: Vec<Arc<Entry>> =
            snapshot.range(&Prefix::namespace(&quotas(), namespace), None).cloned().collect();
        for entry in entries {
            let old = entry.body.parse();
            let used = used(&*snapshot, namespace, old.at("spec"));
            let text = |(name, amount): (String, Quantity)| (name, json!(amount.to_string()));
            let used: Map<String, Value> = used.into_iter().map(text).collect();
            let status = json!({ "hard": old["spec"]["hard"], "used": used });
            if old["status"] == status || old["spec"]["hard"].is_null() {
                continue;
            }
            let mut object = old.clone();
            object["status"] = status;
            codec::track(
                &row,
                Some(&old),
                &mut object,
                &crate::schema::Write::new("kube-controller-manager", "status", &["spec"]),
            )
            .map_err(|status| status.message)?;
            let body = body(&row, &object);
            match self.storage.update(entry.key.clone(), entry.revision, body, Durability::Durable).await {
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// What a namespace uses of what a quota bounds.
fn used(snapshot: &dyn Snapshot, namespace: &str, spec: &Value) -> Amounts {
    let hard = quota::amounts(spec.at("hard"));
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    let mut resources: BTreeMap<String, (GroupResource, bool)> = BTreeMap::new();
    for name in hard.keys() {
        let resource = quota::resource_of(name);
        let entry = resources.entry(quota::count_name(&resource)).or_insert((resource, false));
        entry.1 |= quota::needs_objects(name, spec);
    }
    for (count, (resource, look)) in resources {
        let entries = snapshot.range(&Prefix::namespace(&resource, namespace), None);
        let mut total = Amounts::new();
        if look {
            for entry in entries {
                let object = entry.body.parse();
                if quota::in_scope(spec, &resource, &object) {
                    quota::add(&mut total, &quota::usage(&resource, &object));
                }
            }
        } else {
            let number = i64::try_from(entries.count()).unwrap_or(i64::MAX);
            let number = Quantity::new(number, crate::api::quantity::Format::DecimalSi);
            total.insert(resource.resource.clone(), number.clone());
            total.insert(count, number);
        }
        for (name, amount) in total {
            if let Some(own) = used.get_mut(&name) {
                *own = amount;
            }
        }
    }
    used
}

/// Whether an update frees or takes anything.
fn same_usage(resource: &GroupResource, old: &Entry, new: &Entry) -> bool {
    let looked_at = resource.group.is_empty()
        && matches!(resource.resource.as_str(), "pods" | "services" | "persistentvolumeclaims");
    if !looked_at {
        return true;
    }
    let (old, new) = (old.body.parse(), new.body.parse());
    let of = |object: &Value| {
        let scoped = (quota::is_terminating(object), object["spec"]["priorityClassName"].clone());
        (quota::usage(resource, object), scoped)
    };
    of(&old) == of(&new)
}
