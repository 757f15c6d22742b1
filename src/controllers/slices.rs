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

impl<C> Change<C> {
    /// What the cache will show of it: so many new slices, the UID of one that goes.
    fn expected(&self) -> (usize, Option<Arc<str>>) {
        match self {
            Self::Create(_) => (1, None),
            Self::Update(..) => (0, None),
            Self::Delete(slice) => (0, Some(slice.meta.uid.clone())),
        }
    }
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
        let created = changes.iter().map(|change| change.expected().0).sum();
        self.expectations.expect(service, created, changes.iter().filter_map(|change| change.expected().1));
        let mut left = changes.into_iter();
        while let Some(change) = left.next() {
            let expected = change.expected();
            if let Err(error) = self.write_one(service, change).await {
                // What was not written will not be seen. What was must be, before the next try plans anew.
                for (created, deleted) in std::iter::once(expected).chain(left.map(|change| change.expected())) {
                    self.expectations.created(service, created);
                    deleted.iter().for_each(|uid| self.expectations.deleted(service, uid));
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A try after one that failed midway would make again what the cache does not show yet.
    #[tokio::test]
    async fn what_was_made_before_a_failure_must_be_seen() {
        let calls = Arc::new(AtomicUsize::new(0));
        let answer = move |_: http::Request<kube::client::Body>| {
            let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
            let code = if first { http::StatusCode::CREATED } else { http::StatusCode::FORBIDDEN };
            async move {
                Ok::<_, Infallible>(http::Response::builder().status(code).body(Body::from("{}")).expect("an answer"))
            }
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let store = Arc::new(Store::default());
        let objects = Objects::new(client, "test");
        let slices = Slices { objects, store, manager: "test", expectations: Arc::default() };
        let service = ObjectKey::new("default", "web");
        let create = || Change::Create(serde_json::json!({}));
        slices.write(&service, vec![create(), create(), create()]).await.expect_err("forbidden");
        assert!(!slices.are_settled(&service), "one was made");
        slices.expectations.created(&service, 1);
        assert!(slices.are_settled(&service), "the others were not");
    }
}
