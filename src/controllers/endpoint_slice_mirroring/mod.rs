//! EndpointSlices for Endpoints that somebody keeps by hand, so that the proxy and DNS, which read
//! slices only, know them. Source: `pkg/controller/endpointslicemirroring`.

mod plan;

use super::context::{Context, Running};
use super::endpoints::Endpoints;
use crate::client::{DeleteOptions, Objects, is_namespace_terminating, kinds};
use crate::runtime::views::{EndpointSlice, Service};
use crate::runtime::{
    Action, Change as Seen, Controller, EventType, Expectations, ObjectKey, Projection, Recorder, Store, Subject,
    WorkQueue,
};
use async_trait::async_trait;
use plan::{CAPACITY, Change, Desired, MANAGED_BY, desired, plan};
use std::sync::Arc;

/// Its service account; its row and its events name it otherwise.
const ACCOUNT: &str = "endpointslicemirroring-controller";
const NAME: &str = "endpointslice-mirroring-controller";
const EVENT_SOURCE: &str = "endpoint-slice-mirroring-controller";

const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let expectations = Arc::new(Expectations::default());
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
            if change.old().into_iter().chain(change.new()).any(|endpoints| is_mirrored(endpoints)) {
                queue.add(change.object().key());
            }
        }
    });
    slices.on_change({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |change| slice_changed(change, &queue, &expectations)
    });
    let objects = context.objects(ACCOUNT);
    let controller = Mirrors {
        recorder: Recorder::new(objects.clone(), EVENT_SOURCE, ""),
        objects,
        expectations,
        services: services.clone(),
        endpoints: endpoints.clone(),
        slices: slices.clone(),
    };
    let all = endpoints.clone();
    Running::new(
        controller,
        queue,
        2,
        [services.until_synced(), endpoints.until_synced(), slices.until_synced()],
        move || all.all().iter().map(|endpoints| endpoints.key()).collect(),
    )
}

/// Locks of leaders and what says that it is not for slices are left alone.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.meta.label(SKIP_LABEL) != Some("true") && endpoints.meta.annotation(LEADER).is_none()
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.meta.label(EndpointSlice::MANAGED_BY_LABEL) == Some(MANAGED_BY)
}

fn slice_changed(change: Seen<'_, EndpointSlice>, queue: &WorkQueue<ObjectKey>, expectations: &Expectations) {
    let key = |slice: &EndpointSlice| {
        let name = slice.meta.label(EndpointSlice::SERVICE_LABEL)?;
        Some(ObjectKey { namespace: slice.meta.namespace.clone(), name: name.into() })
    };
    for slice in change.old().into_iter().chain(change.new()).filter(|slice| is_ours(slice)) {
        let Some(key) = key(slice) else { continue };
        match change {
            Seen::Added(_) => expectations.created(&key, 1),
            Seen::Deleted(_) => expectations.deleted(&key, &slice.meta.uid),
            Seen::Updated { .. } => {}
        }
        queue.add(key);
    }
}

struct Mirrors {
    objects: Objects,
    recorder: Recorder,
    expectations: Arc<Expectations>,
    services: Arc<Store<Service>>,
    endpoints: Arc<Store<Endpoints>>,
    slices: Arc<Store<EndpointSlice>>,
}

#[async_trait]
impl Controller for Mirrors {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if !self.expectations.satisfied(key) {
            return Ok(Action::Done);
        }
        let slices = self.slices.by_index(EndpointSlice::SERVICE, &key.to_string());
        let existing: Vec<Arc<EndpointSlice>> =
            slices.into_iter().filter(|slice| is_ours(slice) && !slice.meta.is_deleting()).collect();
        let served = self.services.get(key).is_some_and(|service| service.selector.is_none());
        let Some(endpoints) = self.endpoints.get(key).filter(|endpoints| served && is_mirrored(endpoints)) else {
            let changes = existing.into_iter().map(Change::Delete).collect();
            return self.apply(key, changes).await;
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
        self.apply(key, changes).await
    }
}

impl Mirrors {
    async fn apply(&self, key: &ObjectKey, changes: Vec<Change>) -> anyhow::Result<Action> {
        if changes.is_empty() {
            return Ok(Action::Done);
        }
        let creations = changes.iter().filter(|change| matches!(change, Change::Create(_))).count();
        let deletions = changes.iter().filter_map(|change| match change {
            Change::Delete(slice) => Some(slice.meta.uid.clone()),
            _ => None,
        });
        self.expectations.expect(key, creations, deletions.collect::<Vec<_>>());
        for change in changes {
            if let Err(error) = self.write(&key.namespace, change).await {
                // What was not written will not be seen; the next try plans anew.
                self.expectations.forget(key);
                if is_namespace_terminating(&error) {
                    return Ok(Action::Done);
                }
                return Err(error.into());
            }
        }
        Ok(Action::Done)
    }

    async fn write(&self, namespace: &str, change: Change) -> Result<(), kube::Error> {
        let kind = &kinds::ENDPOINT_SLICES;
        match change {
            Change::Create(slice) => {
                self.objects.create(kind, namespace, slice).await?;
            }
            Change::Update(old, mut slice) => {
                slice["apiVersion"] = kind.api_version().into();
                slice["kind"] = "EndpointSlice".into();
                slice["metadata"]["name"] = (*old.meta.name).into();
                slice["metadata"]["uid"] = (*old.meta.uid).into();
                slice["metadata"]["resourceVersion"] = (*old.meta.resource_version).into();
                self.objects.update(kind, namespace, &old.meta.name, "", &slice).await?;
            }
            Change::Delete(old) => {
                let options = DeleteOptions::of(&old.meta.uid);
                self.objects.delete_as_seen(kind, namespace, &old.meta.name, &options).await?;
            }
        }
        Ok(())
    }
}
