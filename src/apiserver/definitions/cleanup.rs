//! A definition goes when the last object of its kind is gone: all are deleted, and waited for.

use super::status::is_true;
use super::{defined, resource};
use crate::api::{Fields, UserInfo};
use crate::apiserver::codec;
use crate::apiserver::state::State;
use crate::apiserver::verbs::delete::Deleter;
use crate::resources::api_extensions::custom_resource_definition::{FINALIZER, set_condition as set};
use crate::resources::pipeline::deletion::DeleteOptions;
use crate::resources::pipeline::{is_being_deleted, metadata, metadata_strings};
use crate::runtime::Backoff;
use crate::storage::{Durability, Entry, Error, Key, Prefix, WatchError};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Deletes what there is of a definition's kind, then takes the finalizer. Gives the definition's
/// name back; a failure stands in its status and is tried again.
pub async fn run(state: Weak<State>, name: String) -> String {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
    loop {
        let Some(server) = state.upgrade() else { return name };
        match step(&server, &name).await {
            Ok(()) => return name,
            Err(error) => tracing::warn!("clean up after custom resource definition {name}: {error}"),
        }
        drop(server);
        tokio::time::sleep(backoff.next()).await;
    }
}

fn key(name: &str) -> Key {
    Key::new(&resource(), "", name)
}

/// Changes the definition as it is now. None: it is gone.
async fn change(state: &State, name: &str, edit: impl Fn(&mut Value)) -> Result<Option<Value>, String> {
    let rows = state.registry.rows();
    let row = rows.preferred(&resource()).ok_or("definitions are not served")?;
    loop {
        let Some(entry) = state.storage.get(&key(name)) else { return Ok(None) };
        let before = entry.body.parse();
        let mut object = before.clone();
        edit(&mut object);
        let doomed = is_being_deleted(&object) && metadata_strings(&object, "finalizers").is_empty();
        let result = if doomed {
            state.storage.delete(key(name), entry.revision).await.map(|_| ())
        } else if object == before {
            Ok(())
        } else {
            codec::track(
                row,
                Some(&before),
                &mut object,
                &crate::schema::Write::new("kube-apiserver", "status", &["spec"]),
            )
            .map_err(|status| status.message)?;
            let body = codec::encode(state, row, &object).await.map_err(|status| status.message)?;
            state.storage.update(key(name), entry.revision, body, Durability::Durable).await.map(|_| ())
        };
        match result {
            Ok(()) => return Ok(Some(object)),
            Err(Error::Conflict { .. }) => {}
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
    }
}

const TERMINATING: &str = "Terminating";

async fn step(state: &Arc<State>, name: &str) -> Result<(), String> {
    let begun = |definition: &mut Value| {
        let message = "CustomResource deletion is in progress";
        set(definition, TERMINATING, "True", "InstanceDeletionInProgress", message, Timestamp::now());
    };
    let Some(definition) = change(state, name, begun).await? else { return Ok(()) };
    if !metadata_strings(&definition, "finalizers").contains(&FINALIZER) {
        return Ok(());
    }
    let (reason, message) = if is_true(&definition, "Established") {
        if let Err(error) = remove_all(state, &definition).await {
            let failed = |definition: &mut Value| {
                let message = format!("could not issue all deletes: {error}");
                set(definition, TERMINATING, "True", "InstanceDeletionFailed", &message, Timestamp::now());
            };
            change(state, name, failed).await?;
            return Err(error);
        }
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("NeverEstablished", "resource was never established")
    };
    let done = |definition: &mut Value| {
        set(definition, TERMINATING, "False", reason, message, Timestamp::now());
        let mut left = metadata_strings(definition, "finalizers");
        left.retain(|finalizer| *finalizer != FINALIZER);
        let left = json!(left);
        let metadata = metadata(definition);
        match left.as_array().is_some_and(Vec::is_empty) {
            true => metadata.remove("finalizers"),
            false => metadata.insert("finalizers".to_owned(), left),
        };
    };
    change(state, name, done).await.map(|_| ())
}

/// Deletes every object of the kind as any client would, and waits until they are gone: some may have
/// finalizers of their own.
async fn remove_all(state: &Arc<State>, definition: &Value) -> Result<(), String> {
    let defined = defined(definition);
    let row = state.registry.rows().preferred(&defined).cloned();
    let user = UserInfo::new("system:apiserver", &["system:masters"]);
    let options = DeleteOptions::default();
    let prefix = Prefix::resource(&defined);
    loop {
        let snapshot = state.storage.snapshot();
        let mut watch = match state.storage.watch(prefix.clone(), snapshot.revision()) {
            Ok(watch) => watch,
            Err(Error::Compacted { .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        let entries: Vec<Arc<Entry>> = snapshot.range(&prefix, None).cloned().collect();
        let mut left = entries.len();
        for entry in entries {
            let key = &entry.key;
            let result = match &row {
                Some(row) => {
                    let namespace = if row.namespaced { key.namespace() } else { "" };
                    let mut deleter = Deleter {
                        state,
                        row,
                        user: &user,
                        namespace,
                        options: &options,
                        collected: true,
                        admitted: true,
                        warnings: Vec::new(),
                    };
                    deleter.delete(key.name()).await.map(|_| ()).map_err(|status| status.message)
                }
                // No version of it is served any more.
                None => match state.storage.delete(key.clone(), entry.revision).await {
                    Ok(_) | Err(Error::NotFound) => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
            };
            if let Err(message) = result
                && state.storage.get(key).is_some()
            {
                return Err(format!("{} {}: {message}", definition.at("spec").at("names").str_at("kind"), key.name()));
            }
        }
        while left > 0 {
            match watch.next().await {
                Ok(change) => match (&change.old, &change.new) {
                    (Some(_), None) => left -= 1,
                    (None, Some(_)) => left += 1,
                    _ => {}
                },
                Err(WatchError::Lagged) => break,
                Err(WatchError::Closed) => return Err("the store closes".to_owned()),
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
}
