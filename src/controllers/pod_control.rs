//! Making and deleting the pods of a workload, with the events that tell of it.

use super::ownership::controller_reference;
use crate::client::{DeleteOptions, Kind, Objects, kinds};
use crate::runtime::views::Pod;
use crate::runtime::{EventType, Expectations, Meta, Recorder, Subject};
use futures::future::join_all;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Creates and deletes pods for one kind of owner.
#[derive(Clone)]
pub struct PodControl {
    pub objects: Objects,
    pub recorder: Recorder,
    /// Of the owners.
    pub kind: Kind,
    /// The caller says what it expects; what fails is expected no more.
    pub expectations: Arc<Expectations>,
}

/// A pod made from a template: its labels, annotations, finalizers and spec, owned by `owner`.
pub fn pod_from_template(kind: &Kind, owner: &Meta, template: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("generateName".to_owned(), format!("{}-", owner.name).into());
    metadata.insert("ownerReferences".to_owned(), json!([controller_reference(kind, owner)]));
    json!({ "metadata": metadata, "spec": template["spec"] })
}

/// The message of an API error as events and conditions quote it.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl PodControl {
    pub async fn create(&self, owner: &Meta, pod: Value) -> Result<Value, kube::Error> {
        let subject = Subject::of(&self.kind, owner);
        match self.objects.create(&kinds::PODS, &owner.namespace, pod).await {
            Ok(pod) => {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                self.recorder.event(&subject, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(pod)
            }
            Err(error) => {
                if !crate::client::is_namespace_terminating(&error) {
                    let text = format!("Error creating: {}", message(&error));
                    self.recorder.event(&subject, EventType::Warning, "FailedCreate", text);
                }
                Err(error)
            }
        }
    }

    /// In batches that double as long as all of one are made: a quota or a broken webhook is asked a few times,
    /// not a thousand. The error comes with how many pods were not made.
    pub async fn create_slowly(
        &self,
        owner: &Meta,
        pods: impl ExactSizeIterator<Item = Value>,
    ) -> Result<(), (kube::Error, usize)> {
        let mut pods = pods;
        let mut batch = 1;
        while pods.len() > 0 {
            let creations = pods.by_ref().take(batch).map(|pod| self.create(owner, pod));
            let errors: Vec<kube::Error> = join_all(creations).await.into_iter().filter_map(Result::err).collect();
            let failed = errors.len();
            if let Some(error) = errors.into_iter().next() {
                // What was not tried will not be seen either.
                let missing = failed + pods.len();
                self.expectations.created(&owner.key(), missing);
                return Err((error, missing));
            }
            batch *= 2;
        }
        Ok(())
    }

    /// The first error.
    pub async fn delete_all(&self, owner: &Meta, pods: &[Arc<Pod>]) -> Option<kube::Error> {
        let deletions = pods.iter().map(|pod| self.delete(owner, &pod.meta));
        join_all(deletions).await.into_iter().find_map(Result::err)
    }

    /// Of this very pod; one that is gone already is no error.
    pub async fn delete(&self, owner: &Meta, pod: &Meta) -> Result<(), kube::Error> {
        let subject = Subject::of(&self.kind, owner);
        let options = DeleteOptions::of(&pod.uid);
        let deleted = self.objects.delete_as_seen(&kinds::PODS, &pod.namespace, &pod.name, &options).await;
        if !matches!(deleted, Ok(true)) {
            self.expectations.deleted(&owner.key(), &pod.uid);
        }
        match deleted {
            Ok(true) => {
                let text = format!("Deleted pod: {}", pod.name);
                self.recorder.event(&subject, EventType::Normal, "SuccessfulDelete", text);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => {
                let text = format!("Error deleting: {}", message(&error));
                self.recorder.event(&subject, EventType::Warning, "FailedDelete", text);
                Err(error)
            }
        }
    }
}
