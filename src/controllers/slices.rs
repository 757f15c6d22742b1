//! The EndpointSlices that one controller keeps for Services: finding, following and writing them.

use crate::client::{DeleteOptions, Objects, kinds};
use crate::runtime::views::EndpointSlice;
use crate::runtime::{Expectations, ObjectKey, Store, WorkQueue};
use serde_json::Value;
use std::sync::Arc;

/// `C`: what a slice is to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<C> {
    Create(C),
    Update(Arc<EndpointSlice>, C),
    Delete(Arc<EndpointSlice>),
}

pub struct Slices {
    pub objects: Objects,
    pub store: Arc<Store<EndpointSlice>>,
    /// How its slices name the controller.
    pub manager: &'static str,
    pub expectations: Arc<Expectations>,
}

impl Slices {
    /// Put the Services whose slices change on a queue.
    pub fn feed(&self, queue: &Arc<WorkQueue<ObjectKey>>) {
        let (queue, expectations, manager) = (queue.clone(), self.expectations.clone(), self.manager);
        self.store.on_change(move |change| {
            let own = change.states().filter(|slice| slice.is_managed_by(manager));
            for service in own.filter_map(|slice| slice.service()) {
                expectations.observe(&service, change);
                queue.add(service);
            }
        });
    }

    /// Those of a Service that stay.
    pub fn of(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.store.by_index(EndpointSlice::SERVICE, &service.to_string());
        slices.retain(|slice| slice.is_managed_by(self.manager) && !slice.meta.is_deleting());
        slices
    }

    /// Whether the cache shows what was written for a Service.
    pub fn are_settled(&self, service: &ObjectKey) -> bool {
        self.expectations.satisfied(service)
    }

    /// Up to the first that fails.
    pub async fn write(&self, service: &ObjectKey, changes: Vec<Change<Value>>) -> Result<(), kube::Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let created = changes.iter().filter(|change| matches!(change, Change::Create(_))).count();
        let deleted = changes.iter().filter_map(|change| match change {
            Change::Delete(slice) => Some(slice.meta.uid.clone()),
            _ => None,
        });
        self.expectations.expect(service, created, deleted);
        for change in changes {
            if let Err(error) = self.write_one(service, change).await {
                // What was not written will not be seen; the next try plans anew.
                self.expectations.forget(service);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_one(&self, service: &ObjectKey, change: Change<Value>) -> Result<(), kube::Error> {
        let (kind, namespace) = (&kinds::ENDPOINT_SLICES, &service.namespace);
        match change {
            Change::Create(slice) => self.objects.create(kind, namespace, slice).await.map(drop),
            Change::Update(old, mut slice) => {
                slice["apiVersion"] = kind.api_version().into();
                slice["kind"] = (*kind.kind).into();
                slice["metadata"]["name"] = (*old.meta.name).into();
                slice["metadata"]["uid"] = (*old.meta.uid).into();
                slice["metadata"]["resourceVersion"] = (*old.meta.resource_version).into();
                self.objects.update(kind, namespace, &old.meta.name, "", &slice).await.map(drop)
            }
            Change::Delete(old) => {
                let options = DeleteOptions::of(&old.meta.uid);
                if !self.objects.delete_as_seen(kind, namespace, &old.meta.name, &options).await? {
                    self.expectations.deleted(service, &old.meta.uid);
                }
                Ok(())
            }
        }
    }
}
