//! Endpoints of Services that select pods: the older form, which `kubectl get endpoints` and old
//! clients read. Source: `pkg/controller/endpoint`.

mod plan;

use super::context::{Context, Running};
use super::endpoint_slice::pod_changed;
use super::service_pods::{LAST_CHANGE, labels, last_change, selects};
use crate::client::{DeleteOptions, Objects, is_not_found, kinds};
use crate::runtime::views::{Pod, Service};
use crate::runtime::{Action, Controller, Meta, ObjectKey, Store, WorkQueue, whole};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "endpoint-controller";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// An Endpoints object, its subsets as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    #[serde(rename = "metadata")]
    pub meta: Meta,
    pub subsets: Option<Vec<Value>>,
}

whole!(Endpoints, kinds::ENDPOINTS);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let endpoints = context.informers.of::<Endpoints>();
    services.feed(&queue);
    pods.on_change({
        let (queue, services) = (queue.clone(), services.clone());
        move |change| pod_changed(change, &services, &queue)
    });
    endpoints.feed(&queue);
    let controller = Controlled {
        objects: context.objects(NAME),
        services: services.clone(),
        pods: pods.clone(),
        endpoints: endpoints.clone(),
    };
    Running::new(
        controller,
        queue,
        4,
        [services.until_synced(), pods.until_synced(), endpoints.until_synced()],
        move || services.keys(),
    )
}

struct Controlled {
    objects: Objects,
    services: Arc<Store<Service>>,
    pods: Arc<Store<Pod>>,
    endpoints: Arc<Store<Endpoints>>,
}

#[async_trait]
impl Controller for Controlled {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let existing = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            if let Some(existing) = existing {
                self.delete(&existing.meta).await?;
            }
            return Ok(Action::Done);
        };
        if service.selector.is_none() || &*service.kind == "ExternalName" || service.meta.is_deleting() {
            return Ok(Action::Done);
        }
        let pods: Vec<Arc<Pod>> =
            self.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selects(&service, pod)).collect();
        let (subsets, cut) = plan::subsets(&service, &pods);
        let mut labels = labels(&service, &[MANAGED_BY_LABEL]);
        labels.insert(MANAGED_BY_LABEL.to_owned(), NAME.to_owned());
        if let Some(existing) = &existing {
            let same = existing.subsets.as_deref().unwrap_or_default() == subsets
                && existing.meta.labels == labels
                && existing.meta.annotations.contains_key(OVER_CAPACITY) == cut;
            if same {
                return Ok(Action::Done);
            }
        }
        let mut metadata = json!({ "name": &*key.name, "namespace": &*key.namespace, "labels": labels });
        let mut annotations = existing.as_ref().map(|existing| existing.meta.annotations.clone()).unwrap_or_default();
        if let Some(trigger) = last_change(&service, &pods) {
            annotations.insert(LAST_CHANGE.to_owned(), trigger);
        }
        annotations.remove(OVER_CAPACITY);
        if cut {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        metadata["annotations"] = json!(annotations);
        let mut object = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata });
        if !subsets.is_empty() {
            object["subsets"] = subsets.into();
        }
        let written = match &existing {
            None => self.objects.create(&kinds::ENDPOINTS, &key.namespace, object).await,
            Some(existing) => {
                object["metadata"]["resourceVersion"] = (*existing.meta.resource_version).into();
                object["metadata"]["uid"] = (*existing.meta.uid).into();
                self.objects.update(&kinds::ENDPOINTS, &key.namespace, &key.name, "", &object).await
            }
        };
        match written {
            Ok(_) => Ok(Action::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Controlled {
    /// Of a Service that is gone; a live look says whether it is.
    async fn delete(&self, endpoints: &Meta) -> anyhow::Result<()> {
        // Those that others keep (leader locks of old, the API server's own) have no such label.
        if endpoints.label(MANAGED_BY_LABEL) != Some(NAME) {
            return Ok(());
        }
        if self.objects.find(&kinds::SERVICES, &endpoints.namespace, &endpoints.name).await?.is_some() {
            return Ok(());
        }
        let options = DeleteOptions::of(&endpoints.uid);
        match self.objects.delete(&kinds::ENDPOINTS, &endpoints.namespace, &endpoints.name, &options).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
