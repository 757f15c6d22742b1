//! Events go an hour after their last write.
//!
//! Kubernetes leaves that to its store; here a controller does it, a few minutes' worth at a time,
//! so that it seldom wakes.

use super::context::{Context, Running};
use crate::client::{DeleteOptions, Kind, Objects, kinds};
use crate::runtime::{Action, Controller, Informer, InformerOptions, Meta, ObjectKey, Projection, WorkQueue};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A service account that may delete anything.
const NAME: &str = "generic-garbage-collector";
const TTL: Duration = Duration::from_secs(60 * 60);
/// Deadlines are rounded up to this.
const BATCH: Duration = Duration::from_secs(5 * 60);

/// An event, without what it says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Meta,
    #[serde(rename = "lastTimestamp")]
    last_timestamp: Option<Timestamp>,
}

struct Event {
    meta: Meta,
    /// Since when it was there already when this process first saw it, and when that was.
    age: Duration,
    seen: Instant,
}

impl Projection for Event {
    type Object = Wire;

    const KIND: Kind = kinds::EVENTS;

    fn project(wire: Wire) -> Self {
        let last = wire.last_timestamp.or(wire.metadata.creation_timestamp);
        let age = last.map(|last| Timestamp::now().duration_since(last).as_secs());
        let age = age.and_then(|age| u64::try_from(age).ok()).unwrap_or_default();
        Self { meta: wire.metadata, age: Duration::from_secs(age), seen: Instant::now() }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Event {
    fn left(&self) -> Duration {
        TTL.saturating_sub(self.age + self.seen.elapsed())
    }
}

/// Up to the next multiple of [`BATCH`] on a clock of this process.
fn rounded(left: Duration, since_start: Duration) -> Duration {
    let due = since_start + left;
    let batches = due.as_secs().div_ceil(BATCH.as_secs()).max(1);
    (BATCH * u32::try_from(batches).unwrap_or(u32::MAX)).saturating_sub(since_start)
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let events = Informer::<Event>::start(context.informers.client().clone(), InformerOptions::default());
    let began = Instant::now();
    events.store().on_change({
        let queue = queue.clone();
        move |change| {
            // One that is counted up is found younger when its first deadline comes.
            if let (None, Some(event)) = (change.old(), change.new()) {
                queue.add_after(event.key(), rounded(event.left(), began.elapsed()));
            }
        }
    });
    let store = events.store().clone();
    let controller = EventTtl { objects: context.objects(NAME), events, began };
    Running::new(controller, queue, 1, [store.until_synced()], move || store.keys())
}

struct EventTtl {
    objects: Objects,
    events: Informer<Event>,
    began: Instant,
}

#[async_trait]
impl Controller for EventTtl {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "event-ttl-controller"
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(event) = self.events.store().get(key) else { return Ok(Action::Done) };
        let left = event.left();
        if !left.is_zero() {
            return Ok(Action::After(rounded(left, self.began.elapsed())));
        }
        let options = DeleteOptions::of(&event.meta.uid).resource_version(&event.meta.resource_version);
        self.objects.delete_as_seen(&kinds::EVENTS, &key.namespace, &key.name, &options).await?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_together() {
        let seconds = Duration::from_secs;
        assert_eq!(rounded(seconds(3600), seconds(0)), seconds(3600));
        assert_eq!(rounded(seconds(3600), seconds(1)), seconds(3899));
        assert_eq!(rounded(seconds(3600), seconds(299)), seconds(3601));
        assert_eq!(rounded(seconds(0), seconds(10)), seconds(290));
    }
}
