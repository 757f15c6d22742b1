//! Changing an object that a cache showed, and never another one that has taken its name since.

use crate::client::{Kind, Objects, is_not_found};
use crate::runtime::Meta;
use anyhow::Context as _;
use serde_json::Value;

/// As [`Objects::modify`]. None: the object is gone.
pub async fn modify(
    objects: &Objects,
    kind: &Kind,
    seen: &Meta,
    subresource: &str,
    mut change: impl FnMut(&mut Value) -> bool,
) -> anyhow::Result<Option<Value>> {
    let mut same = true;
    let change = |live: &mut Value| {
        same = live["metadata"]["uid"].as_str() == Some(&*seen.uid);
        same && change(live)
    };
    let found = objects.modify(kind, &seen.namespace, &seen.name, subresource, change).await;
    let found = found.with_context(|| match subresource {
        "" => format!("write {} {}", kind.kind, seen.key()),
        subresource => format!("write the {subresource} of {} {}", kind.kind, seen.key()),
    })?;
    Ok(found.filter(|_| same))
}

/// The same where only this counts: whether it was changed.
pub async fn change(
    objects: &Objects,
    kind: &Kind,
    seen: &Meta,
    subresource: &str,
    mut change: impl FnMut(&mut Value) -> bool,
) -> anyhow::Result<bool> {
    let mut changed = false;
    let change = |live: &mut Value| {
        changed = change(live);
        changed
    };
    let found = modify(objects, kind, seen, subresource, change).await?;
    Ok(found.is_some() && changed)
}

/// The whole status, if it is another than before.
pub async fn write_status(objects: &Objects, kind: &Kind, seen: &Meta, status: &Value) -> anyhow::Result<()> {
    let replace = |live: &mut Value| std::mem::replace(&mut live["status"], status.clone()) != *status;
    modify(objects, kind, seen, "status", replace).await.map(drop)
}

/// Take a finalizer off.
pub async fn release(objects: &Objects, kind: &Kind, seen: &Meta, finalizer: &str) -> anyhow::Result<()> {
    let change = |live: &mut Value| {
        let Some(list) = live["metadata"]["finalizers"].as_array_mut() else { return false };
        let before = list.len();
        list.retain(|name| name != finalizer);
        list.len() != before
    };
    match modify(objects, kind, seen, "", change).await {
        Err(error) if !error.downcast_ref().is_some_and(is_not_found) => Err(error),
        _ => Ok(()),
    }
}
