//! EndpointSlices for Endpoints that somebody keeps by hand, so that the proxy and DNS, which read
//! slices only, know them. Source: `pkg/controller/endpointslicemirroring`.

mod plan;

use super::context::{Context, Running};
use super::endpoints::Endpoints;
use super::slices::{Change, Slices};
use crate::client::kinds;
use crate::runtime::views::{EndpointSlice, Service};
use crate::runtime::{Action, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue};
use async_trait::async_trait;
use plan::{CAPACITY, Desired, MANAGED_BY, desired, plan};
use std::sync::Arc;

/// Its service account; its row and its events name it otherwise.
const ACCOUNT: &str = "endpointslicemirroring-controller";
const NAME: &str = "endpointslice-mirroring-controller";
const EVENT_SOURCE: &str = "endpoint-slice-mirroring-controller";

const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let services = context.informers.of::<Service>();
    let endpoints = context.informers.of::<Endpoints>();
    let slices = context.informers.of::<EndpointSlice>();
    services.on_change({
        let queue = queue.clone();
        move |change| {
            let selects = |service: Option<&Arc<Service>>| service.map(|service| service.selector.is_some());
            let (old, new) = (selects(change.old()), selects(change.new()));
            if old != new && (old == Some(false) || new == Some(false)) {
                queue.add(change.object().key());
            }
        }
    });
    endpoints.on_change({
        let queue = queue.clone();
        move |change| {
            if change.states().any(|endpoints| is_mirrored(endpoints)) {
                queue.add(change.object().key());
            }
        }
    });
    let objects = context.objects(ACCOUNT);
    let recorder = Recorder::new(objects.clone(), EVENT_SOURCE, "");
    let slices = Slices { objects, store: slices, manager: MANAGED_BY, expectations: Arc::default() };
    slices.feed(&queue);
    let synced = [services.until_synced(), endpoints.until_synced(), slices.store.until_synced()];
    let controller = Mirrors { recorder, services, endpoints: endpoints.clone(), slices };
    Running::new(controller, queue, 2, synced, move || endpoints.keys())
}

/// Locks of leaders and what says that it is not for slices are left alone.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.meta.label(SKIP_LABEL) != Some("true") && endpoints.meta.annotation(LEADER).is_none()
}

struct Mirrors {
    recorder: Recorder,
    services: Arc<Store<Service>>,
    endpoints: Arc<Store<Endpoints>>,
    slices: Slices,
}

#[async_trait]
impl Controller for Mirrors {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if !self.slices.are_settled(key) {
            return Ok(Action::Done);
        }
        let existing = self.slices.of(key);
        let served = self.services.get(key).is_some_and(|service| service.selector.is_none());
        let Some(endpoints) = self.endpoints.get(key).filter(|endpoints| served && is_mirrored(endpoints)) else {
            let changes = existing.into_iter().map(Change::Delete).collect();
            self.slices.write(key, changes).await?;
            return Ok(Action::Done);
        };
        let Desired { slices, invalid, skipped } = desired(endpoints.subsets.as_deref().unwrap_or_default());
        let subject = Subject::of(&kinds::ENDPOINTS, &endpoints.meta);
        if invalid > 0 {
            let text = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            self.recorder.event(&subject, EventType::Warning, "InvalidIPAddress", text);
        }
        if skipped > invalid {
            let text = format!(
                "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} \
                 addresses were skipped"
            );
            self.recorder.event(&subject, EventType::Warning, "TooManyAddressesToMirror", text);
        }
        let mut changes = plan(&endpoints, slices, &existing);
        if endpoints.meta.is_deleting() {
            changes.retain(|change| !matches!(change, Change::Create(_)));
        }
        self.slices.write(key, changes).await?;
        Ok(Action::Done)
    }
}
