//! EndpointSlices of Services that select pods. Source: `pkg/controller/endpointslice`.

mod plan;

use super::context::{Context, Running};
use super::ownership::controller_reference;
use super::service_pods::{HEADLESS, LAST_CHANGE, is_relevant, labels, last_change, selects};
use crate::client::{DeleteOptions, Objects, is_namespace_terminating, is_not_found, kinds};
use crate::runtime::views::{EndpointSlice, Node, Pod, Service};
use crate::runtime::{
    Action, Change as Seen, Controller, EventType, Expectations, ObjectKey, Projection, Recorder, Store, Subject,
    WorkQueue,
};
use async_trait::async_trait;
use plan::{Change, Content};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "endpointslice-controller";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let expectations = Arc::new(Expectations::default());
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let slices = context.informers.of::<EndpointSlice>();
    let nodes = context.informers.of::<Node>();
    services.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.object().key())
    });
    pods.on_change({
        let (queue, services) = (queue.clone(), services.clone());
        move |change| pod_changed(change, &services, &queue)
    });
    slices.on_change({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |change| {
            let slice = change.object();
            let ours = slice.meta.label(EndpointSlice::MANAGED_BY_LABEL) == Some(MANAGED_BY);
            let Some(service) = slice.meta.label(EndpointSlice::SERVICE_LABEL).filter(|_| ours) else { return };
            let key = ObjectKey { namespace: slice.meta.namespace.clone(), name: service.into() };
            match change {
                Seen::Added(_) => expectations.created(&key, 1),
                Seen::Deleted(_) => expectations.deleted(&key, &slice.meta.uid),
                Seen::Updated { .. } => {}
            }
            queue.add(key);
        }
    });
    let controller = EndpointSlices {
        objects: context.objects(NAME),
        recorder: context.recorder(NAME),
        expectations,
        services: services.clone(),
        pods: pods.clone(),
        slices: slices.clone(),
        nodes: nodes.clone(),
    };
    Running::new(
        controller,
        queue,
        4,
        [services.until_synced(), pods.until_synced(), slices.until_synced(), nodes.until_synced()],
        move || services.all().iter().map(|service| service.key()).collect(),
    )
}

/// The Services that select a pod, before or after the change.
pub fn pod_changed(change: Seen<'_, Pod>, services: &Store<Service>, queue: &WorkQueue<ObjectKey>) {
    if !is_relevant(change.old().map(|pod| &**pod), change.new().map(|pod| &**pod)) {
        return;
    }
    for service in services.in_namespace(&change.object().meta.namespace) {
        if change.old().into_iter().chain(change.new()).any(|pod| selects(&service, pod)) {
            queue.add(service.key());
        }
    }
}

struct EndpointSlices {
    objects: Objects,
    recorder: Recorder,
    expectations: Arc<Expectations>,
    services: Arc<Store<Service>>,
    pods: Arc<Store<Pod>>,
    slices: Arc<Store<EndpointSlice>>,
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
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let done = service.selector.is_none() || &*service.kind == "ExternalName" || service.meta.is_deleting();
        if done || !self.expectations.satisfied(key) {
            return Ok(Action::Done);
        }
        let pods: Vec<Arc<Pod>> =
            self.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selects(&service, pod)).collect();
        let existing: Vec<Arc<EndpointSlice>> = self
            .slices
            .by_index(EndpointSlice::SERVICE, &key.to_string())
            .into_iter()
            .filter(|slice| slice.meta.label(EndpointSlice::MANAGED_BY_LABEL) == Some(MANAGED_BY))
            .filter(|slice| !slice.meta.is_deleting())
            .collect();
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
        if changes.is_empty() {
            return Ok(Action::Done);
        }
        let creations = changes.iter().filter(|change| matches!(change, Change::Create(_))).count();
        let deletions: Vec<Arc<str>> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Delete(slice) => Some(slice.meta.uid.clone()),
                _ => None,
            })
            .collect();
        self.expectations.expect(key, creations, deletions);
        let trigger = last_change(&service, &pods);
        for change in changes {
            if let Err(error) = self.apply(&service, change, trigger.as_deref()).await {
                // What was not written will not be seen; the next try plans anew.
                self.expectations.forget(key);
                if is_namespace_terminating(&error) {
                    return Ok(Action::Done);
                }
                let text = format!(
                    "Error updating Endpoint Slices for Service {key}: {}",
                    super::pod_control::message(&error)
                );
                let subject = Subject::of(&kinds::SERVICES, &service.meta);
                if !crate::client::is_conflict(&error) {
                    self.recorder.event(&subject, EventType::Warning, "FailedToUpdateEndpointSlices", text);
                }
                return Err(error.into());
            }
        }
        Ok(Action::Done)
    }
}

fn slice_labels(service: &Service) -> BTreeMap<String, String> {
    let reserved = [EndpointSlice::SERVICE_LABEL, EndpointSlice::MANAGED_BY_LABEL, HEADLESS];
    let mut labels = labels(service, &reserved);
    labels.insert(EndpointSlice::SERVICE_LABEL.to_owned(), service.meta.name.to_string());
    labels.insert(EndpointSlice::MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

fn fill(object: &mut Value, content: &Content, trigger: Option<&str>) {
    object["addressType"] = (*content.address_type).into();
    object["endpoints"] = json!(content.endpoints);
    object["ports"] = json!(content.ports);
    object["metadata"]["labels"] = json!(content.labels);
    if let Some(trigger) = trigger {
        object["metadata"]["annotations"][LAST_CHANGE] = trigger.into();
    }
}

impl EndpointSlices {
    async fn apply(&self, service: &Service, change: Change, trigger: Option<&str>) -> Result<(), kube::Error> {
        let namespace = &*service.meta.namespace;
        match change {
            Change::Create(content) => {
                let mut object = json!({ "metadata": {
                    "generateName": format!("{}-", service.meta.name),
                    "namespace": namespace,
                    "ownerReferences": [controller_reference(&kinds::SERVICES, &service.meta)],
                } });
                fill(&mut object, &content, trigger);
                self.objects.create(&kinds::ENDPOINT_SLICES, namespace, object).await?;
            }
            Change::Update(slice, content) => {
                let mut object = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {
                    "name": &*slice.meta.name,
                    "namespace": namespace,
                    "uid": &*slice.meta.uid,
                    "resourceVersion": &*slice.meta.resource_version,
                    "generateName": format!("{}-", service.meta.name),
                    "annotations": slice.meta.annotations,
                    "ownerReferences": [controller_reference(&kinds::SERVICES, &service.meta)],
                } });
                fill(&mut object, &content, trigger);
                self.objects.update(&kinds::ENDPOINT_SLICES, namespace, &slice.meta.name, "", &object).await?;
            }
            Change::Delete(slice) => {
                let options = DeleteOptions::of(&slice.meta.uid);
                match self.objects.delete(&kinds::ENDPOINT_SLICES, namespace, &slice.meta.name, &options).await {
                    Err(error) if !is_not_found(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
