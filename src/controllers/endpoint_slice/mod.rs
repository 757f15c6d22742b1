//! EndpointSlices of Services that select pods. Source: `pkg/controller/endpointslice`.

mod plan;

use super::context::{Context, Running};
use super::ownership::controller_reference;
use super::pod_control::message;
use super::service_pods::{HEADLESS, LAST_CHANGE, is_relevant, labels, last_change, selects};
use super::slices::{Change, Slices};
use crate::client::{is_conflict, is_namespace_terminating, kinds};
use crate::runtime::views::{EndpointSlice, Node, Pod, Service};
use crate::runtime::{
    Action, Change as Seen, Controller, EventType, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue,
};
use async_trait::async_trait;
use plan::Content;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "endpointslice-controller";

/// As its events name it.
const EVENT_SOURCE: &str = "endpoint-slice-controller";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let slices = context.informers.of::<EndpointSlice>();
    let nodes = context.informers.of::<Node>();
    services.feed(&queue);
    pods.on_change({
        let (queue, services) = (queue.clone(), services.clone());
        move |change| pod_changed(change, &services, &queue)
    });
    let objects = context.objects(NAME);
    let recorder = Recorder::new(objects.clone(), EVENT_SOURCE, "");
    let slices = Slices { objects, store: slices, manager: MANAGED_BY, expectations: Arc::default() };
    slices.feed(&queue);
    let synced = [services.until_synced(), pods.until_synced(), slices.store.until_synced(), nodes.until_synced()];
    let controller = EndpointSlices { recorder, services: services.clone(), pods, slices, nodes };
    Running::new(controller, queue, 4, synced, move || services.keys())
}

/// The Services that select a pod, before or after the change.
pub fn pod_changed(change: Seen<'_, Pod>, services: &Store<Service>, queue: &WorkQueue<ObjectKey>) {
    if !is_relevant(change.old().map(|pod| &**pod), change.new().map(|pod| &**pod)) {
        return;
    }
    for service in services.in_namespace(&change.object().meta.namespace) {
        if change.states().any(|pod| selects(&service, pod)) {
            queue.add(service.key());
        }
    }
}

struct EndpointSlices {
    recorder: Recorder,
    services: Arc<Store<Service>>,
    pods: Arc<Store<Pod>>,
    slices: Slices,
    nodes: Arc<Store<Node>>,
}

#[async_trait]
impl Controller for EndpointSlices {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(service) = self.services.get(key) else {
            // The garbage collector deletes the slices with their owner.
            self.slices.expectations.forget(key);
            return Ok(Action::Done);
        };
        let done = service.selector.is_none() || &*service.kind == "ExternalName" || service.meta.is_deleting();
        if done || !self.slices.are_settled(key) {
            return Ok(Action::Done);
        }
        let pods: Vec<Arc<Pod>> =
            self.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selects(&service, pod)).collect();
        let existing = self.slices.of(key);
        let labels = slice_labels(&service);
        let mut changes = Vec::new();
        let families: Vec<&str> = if service.ip_families.is_empty() {
            vec!["IPv4"]
        } else {
            service.ip_families.iter().map(|family| &**family).collect()
        };
        for family in &families {
            let own: Vec<_> = existing.iter().filter(|slice| *slice.address_type == **family).cloned().collect();
            let desired = plan::desired(&service, &pods, |node| self.nodes.find("", node), family);
            changes.extend(plan::plan(family, &labels, desired, &own));
        }
        let foreign = existing.iter().filter(|slice| !families.contains(&&*slice.address_type));
        changes.extend(foreign.map(|slice| Change::Delete(slice.clone())));
        let trigger = last_change(&service, &pods);
        let object = |content, old: Option<&EndpointSlice>| object(&service, content, old, trigger.as_deref());
        let changes = changes.into_iter().map(|change| match change {
            Change::Create(content) => Change::Create(object(content, None)),
            Change::Update(old, content) => Change::Update(old.clone(), object(content, Some(&old))),
            Change::Delete(old) => Change::Delete(old),
        });
        self.slices.write(key, changes.collect()).await.inspect_err(|error| self.tell(&service, error))?;
        Ok(Action::Done)
    }
}

impl EndpointSlices {
    fn tell(&self, service: &Service, error: &kube::Error) {
        if is_namespace_terminating(error) || is_conflict(error) {
            return;
        }
        let (key, error) = (service.key(), message(error));
        let text = format!("Error updating Endpoint Slices for Service {key}: {error}");
        let subject = Subject::of(&kinds::SERVICES, &service.meta);
        self.recorder.event(&subject, EventType::Warning, "FailedToUpdateEndpointSlices", text);
    }
}

fn slice_labels(service: &Service) -> BTreeMap<String, String> {
    let reserved = [EndpointSlice::SERVICE_LABEL, EndpointSlice::MANAGED_BY_LABEL, HEADLESS];
    let mut labels = labels(service, &reserved);
    labels.insert(EndpointSlice::SERVICE_LABEL.to_owned(), service.meta.name.to_string());
    labels.insert(EndpointSlice::MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// A slice as it is written, in the place of an old one.
fn object(service: &Service, content: Content, old: Option<&EndpointSlice>, trigger: Option<&str>) -> Value {
    let mut annotations = old.map(|old| old.meta.annotations.clone()).unwrap_or_default();
    annotations.extend(trigger.map(|trigger| (LAST_CHANGE.to_owned(), trigger.to_owned())));
    json!({
        "metadata": {
            "generateName": format!("{}-", service.meta.name),
            "namespace": &*service.meta.namespace,
            "labels": content.labels,
            "annotations": annotations,
            "ownerReferences": [controller_reference(&kinds::SERVICES, &service.meta)],
        },
        "addressType": content.address_type,
        "endpoints": content.endpoints,
        "ports": content.ports,
    })
}
