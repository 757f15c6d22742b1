//! The Service `default/kubernetes` and its endpoints: how pods reach the API server; and the
//! ServiceCIDR `kubernetes`, the range that its address comes from.
//!
//! The address follows the machine's: it is watched, not looked up. Source:
//! `pkg/controlplane/controller/{kubernetesservice,defaultservicecidr}`.

use super::context::{Config, Context, Running};
use super::endpoints::Endpoints;
use crate::api::time::seconds;
use crate::client::{Kind, Objects, is_already_exists, is_not_found, kinds};
use crate::runtime::views::{EndpointSlice, Service};
use crate::runtime::{Action, Controller, ObjectKey, Projection, WorkQueue};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: u16 = 443;

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let key = || ObjectKey::new(NAMESPACE, NAME);
    let services = context.informers.of::<Service>();
    let endpoints = context.informers.of::<Endpoints>();
    let slices = context.informers.of::<EndpointSlice>();
    macro_rules! follow {
        ($store:ident) => {
            $store.on_change({
                let queue = queue.clone();
                move |change| {
                    let changed = change.object().key();
                    if changed == key() {
                        queue.add(changed);
                    }
                }
            })
        };
    }
    follow!(services);
    follow!(endpoints);
    follow!(slices);
    queue.add(key());
    let controller = KubernetesService {
        // The API server's own object: no controller's role covers it.
        objects: Objects::new(context.informers.client().clone(), "kube-apiserver"),
        config: context.config.clone(),
    };
    let mut advertise = context.config.advertise.clone();
    let following = queue.clone();
    let mut running = Running::new(
        controller,
        queue,
        1,
        [services.until_synced(), endpoints.until_synced(), slices.until_synced()],
        move || vec![key()],
    );
    let work = running.task;
    running.task = Box::pin(async move {
        let follow = async {
            while advertise.changed().await.is_ok() {
                following.add(key());
            }
        };
        tokio::join!(work, follow);
    });
    running
}

/// The first address after the network's own.
fn first_address(config: &Config) -> Option<IpAddr> {
    Some(match config.service_cidrs.first()?.network() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() + 1).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() + 1).into(),
    })
}

struct KubernetesService {
    objects: Objects,
    config: Arc<Config>,
}

#[async_trait]
impl Controller for KubernetesService {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "kubernetes-service-controller"
    }

    async fn reconcile(&self, _key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(cluster_ip) = first_address(&self.config) else { return Ok(Action::Done) };
        self.ensure(&kinds::SERVICES, service(cluster_ip, self.config.secure_port), |_, _| false).await?;
        self.ensure_range().await?;
        let addresses: Vec<IpAddr> = self.config.advertise.borrow().clone();
        if addresses.is_empty() {
            return Ok(Action::Done);
        }
        let endpoints = endpoints(&addresses, self.config.secure_port);
        self.ensure(&kinds::ENDPOINTS, endpoints, |live, wanted| set(live, wanted, &["subsets"])).await?;
        let slice = slice(&addresses, cluster_ip, self.config.secure_port);
        self.ensure(&kinds::ENDPOINT_SLICES, slice, |live, wanted| set(live, wanted, &["endpoints", "ports"])).await?;
        Ok(Action::Done)
    }
}

/// Take these fields over; false: they are the same.
fn set(live: &mut Value, wanted: &Value, fields: &[&str]) -> bool {
    let mut changed = false;
    for field in fields {
        if live[*field] != wanted[*field] {
            live[*field] = wanted[*field].clone();
            changed = true;
        }
    }
    changed
}

impl KubernetesService {
    /// Make the default range known, and say that it is in use.
    async fn ensure_range(&self) -> anyhow::Result<()> {
        let ranges: Vec<String> = self.config.service_cidrs.iter().map(|range| range.canonical()).collect();
        let kind = &kinds::SERVICE_CIDRS;
        if self.objects.find(kind, "", NAME).await?.is_none() {
            let range = json!({ "metadata": { "name": NAME }, "spec": { "cidrs": ranges } });
            match self.objects.create(kind, "", range).await {
                Err(error) if !is_already_exists(&error) => return Err(error.into()),
                _ => {}
            }
        }
        self.objects.modify(kind, "", NAME, "status", |live| tell_ready(live, &ranges)).await?;
        Ok(())
    }

    async fn ensure(
        &self,
        kind: &Kind,
        wanted: Value,
        change: impl Fn(&mut Value, &Value) -> bool,
    ) -> anyhow::Result<()> {
        if self.objects.modify(kind, NAMESPACE, NAME, "", |live| change(live, &wanted)).await?.is_some() {
            return Ok(());
        }
        match self.objects.create(kind, NAMESPACE, wanted).await {
            Err(error) if !is_already_exists(&error) && !is_not_found(&error) => Err(error.into()),
            // The namespace is made at the same time as this: it is a moment away.
            Err(error) if is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Set the condition Ready of the default range; false: somebody did, or it is another range, or on
/// its way out.
fn tell_ready(live: &mut Value, ranges: &[String]) -> bool {
    let known = live["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] != "Unknown")
    });
    if known || live["spec"]["cidrs"] != json!(ranges) || !live["metadata"]["deletionTimestamp"].is_null() {
        return false;
    }
    live["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": seconds(Timestamp::now()),
    }]);
    true
}

fn service(cluster_ip: IpAddr, port: u16) -> Value {
    json!({
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip.to_string(),
            "clusterIPs": [cluster_ip.to_string()],
            "ipFamilies": [if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" }],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{ "name": "https", "protocol": "TCP", "port": PORT, "targetPort": port }],
        },
    })
}

fn endpoints(addresses: &[IpAddr], port: u16) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address.to_string() })).collect();
    json!({
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{ "addresses": addresses, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    })
}

fn slice(addresses: &[IpAddr], cluster_ip: IpAddr, port: u16) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .filter(|address| address.is_ipv4() == cluster_ip.is_ipv4())
        .map(|address| json!({ "addresses": [address.to_string()], "conditions": { "ready": true } }))
        .collect();
    json!({
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": NAME },
        },
        "addressType": if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints,
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_follow_the_address() {
        let old = slice(&["192.0.2.1".parse().expect("an address")], "10.43.0.1".parse().expect("an address"), 6443);
        let new = slice(&["192.0.2.9".parse().expect("an address")], "10.43.0.1".parse().expect("an address"), 6443);
        let mut live = old;
        assert!(set(&mut live, &new, &["endpoints", "ports"]));
        assert_eq!(live["endpoints"][0]["addresses"], json!(["192.0.2.9"]));
        assert!(!set(&mut live, &new, &["endpoints", "ports"]));
    }
}
