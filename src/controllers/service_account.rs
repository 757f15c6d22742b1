//! The `default` service account of every namespace. Source: `pkg/controller/serviceaccount`.

use super::context::{Context, Running};
use crate::client::{Objects, is_already_exists, is_namespace_terminating, is_not_found, kinds};
use crate::runtime::views::{Namespace, ServiceAccount};
use crate::runtime::{Action, Change, Controller, ObjectKey, Store, WorkQueue};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;

const NAME: &str = "service-account-controller";
const ACCOUNT: &str = "default";

/// Keys are namespaces.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let namespaces = context.informers.of::<Namespace>();
    let accounts = context.informers.of::<ServiceAccount>();
    namespaces.feed(&queue);
    accounts.on_change({
        let queue = queue.clone();
        move |change| {
            if let Change::Deleted(account) = change
                && &*account.meta.name == ACCOUNT
            {
                queue.add(ObjectKey::new("", &account.meta.namespace));
            }
        }
    });
    let controller =
        ServiceAccounts { objects: context.objects(NAME), namespaces: namespaces.clone(), accounts: accounts.clone() };
    Running::new(controller, queue, 1, [namespaces.until_synced(), accounts.until_synced()], move || namespaces.keys())
}

struct ServiceAccounts {
    objects: Objects,
    namespaces: Arc<Store<Namespace>>,
    accounts: Arc<Store<ServiceAccount>>,
}

#[async_trait]
impl Controller for ServiceAccounts {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let active = self.namespaces.get(key).is_some_and(|namespace| !namespace.meta.is_deleting());
        if !active || self.accounts.find(&key.name, ACCOUNT).is_some() {
            return Ok(Action::Done);
        }
        let account = json!({ "metadata": { "name": ACCOUNT, "namespace": &*key.name } });
        match self.objects.create(&kinds::SERVICE_ACCOUNTS, &key.name, account).await {
            Ok(_) => {}
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) || is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Action::Done)
    }
}
