//! IPAddress objects and Services agree: what a crash between two writes leaves is mended.
//! Source: `pkg/registry/core/service/ipallocator/controller/repairip`.

use super::context::{Context, Running};
use crate::client::{self, DeleteOptions, Objects, is_already_exists, kinds};
use crate::runtime::views::Service;
use crate::runtime::{Action, Controller, Meta, ObjectKey, Projection, Store, WorkQueue, whole};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An address is written before its Service: a young one may still be waited for.
const GRACE: Duration = Duration::from_secs(60);
const MANAGED_BY: &str = "ipallocator.k8s.io";
const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpAddress {
    #[serde(rename = "metadata")]
    meta: Meta,
    spec: IpAddressSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IpAddressSpec {
    parent_ref: Parent,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Parent {
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

whole!(IpAddress, kinds::IP_ADDRESSES);

impl IpAddress {
    /// The address, where it was handed out for a Service.
    pub fn allocated(&self) -> Option<IpAddr> {
        let ours = self.meta.label(MANAGED_BY_LABEL) == Some(MANAGED_BY);
        ours.then(|| self.meta.name.parse().ok()).flatten()
    }
}

/// Keys: an address (no namespace), or a Service.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let services = context.informers.of::<Service>();
    let addresses = context.informers.of::<IpAddress>();
    services.on_change({
        let queue = queue.clone();
        move |change| {
            let ips = |service: Option<&Arc<Service>>| service.map(|service| service.cluster_ips.clone());
            if ips(change.old()) != ips(change.new()) {
                queue.add(change.object().key());
                for ip in ips(change.old()).into_iter().flatten() {
                    queue.add_after(ObjectKey::new("", &ip), GRACE);
                }
            }
        }
    });
    addresses.on_change({
        let queue = queue.clone();
        move |change| {
            let address = change.object();
            queue.add_after(address.key(), GRACE);
            if change.new().is_none() {
                let parent = &address.spec.parent_ref;
                queue.add_after(ObjectKey::new(&parent.namespace, &parent.name), GRACE);
            }
        }
    });
    let controller = Repair {
        objects: Objects::new(context.informers.client().clone(), "kube-apiserver"),
        services: services.clone(),
        addresses: addresses.clone(),
    };
    Running::new(controller, queue, 1, [services.until_synced(), addresses.until_synced()], move || {
        let services = services.all();
        let addresses = addresses.all();
        services.iter().map(|service| service.key()).chain(addresses.iter().map(|address| address.key())).collect()
    })
}

struct Repair {
    objects: Objects,
    services: Arc<Store<Service>>,
    addresses: Arc<Store<IpAddress>>,
}

fn uses(service: &Service, address: &str) -> bool {
    service.cluster_ips.iter().any(|ip| &**ip == address)
}

#[async_trait]
impl Controller for Repair {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "service-address-repair-controller"
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if key.namespace.is_empty() {
            return self.address(key).await;
        }
        let Some(service) = self.services.get(key).filter(|service| !service.meta.is_deleting()) else {
            return Ok(Action::Done);
        };
        for ip in &service.cluster_ips {
            let Ok(address) = ip.parse::<IpAddr>() else { continue };
            if self.addresses.find("", ip).is_none() {
                self.create(&service, address).await?;
            }
        }
        Ok(Action::Done)
    }
}

impl Repair {
    /// An address that no Service has is given back.
    async fn address(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(address) = self.addresses.get(key) else { return Ok(Action::Done) };
        let parent = &address.spec.parent_ref;
        let ours = address.meta.label(MANAGED_BY_LABEL) == Some(MANAGED_BY) && parent.resource == "services";
        let cached = self.services.find(&parent.namespace, &parent.name);
        if !ours || cached.is_some_and(|service| uses(&service, &key.name)) {
            return Ok(Action::Done);
        }
        let live = self.objects.find(&kinds::SERVICES, &parent.namespace, &parent.name).await?;
        if let Some(live) = live {
            let live = Service::project(client::typed(&live)?);
            if uses(&live, &key.name) {
                return Ok(Action::Done);
            }
        }
        let options = DeleteOptions::of(&address.meta.uid).resource_version(&address.meta.resource_version);
        self.objects.delete_as_seen(&kinds::IP_ADDRESSES, "", &key.name, &options).await?;
        tracing::warn!("gave back service address {key}: no Service has it");
        Ok(Action::Done)
    }

    async fn create(&self, service: &Service, address: IpAddr) -> anyhow::Result<()> {
        let object = json!({
            "metadata": {
                "name": address.to_string(),
                "labels": { MANAGED_BY_LABEL: MANAGED_BY, FAMILY_LABEL: if address.is_ipv4() { "IPv4" } else { "IPv6" } },
            },
            "spec": { "parentRef": {
                "group": "", "resource": "services",
                "namespace": &*service.meta.namespace, "name": &*service.meta.name,
            } },
        });
        match self.objects.create(&kinds::IP_ADDRESSES, "", object).await {
            Err(error) if !is_already_exists(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
