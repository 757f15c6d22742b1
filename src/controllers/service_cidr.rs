//! ServiceCIDRs: a range is ready as soon as it is known, and stays as long as addresses of it have
//! no other range. Source: `pkg/controller/servicecidrs`.

use super::context::{Context, Running};
use super::seen::{modify, release};
use super::service_address_repair::IpAddress;
use crate::api::ip::Cidr;
use crate::api::time::seconds;
use crate::client::{self, Objects, Patch, is_not_found, kinds};
use crate::runtime::{
    Action, Change, Condition, Controller, EventType, Meta, ObjectKey, Projection, Recorder, Store, Subject, WorkQueue,
    whole,
};
use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Its service account.
const ACCOUNT: &str = "service-cidrs-controller";
const NAME: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Until then everybody who hands out addresses knows that a range is on its way out.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    #[serde(rename = "metadata")]
    meta: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Spec {
    cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

whole!(ServiceCidr, kinds::SERVICE_CIDRS);

impl ServiceCidr {
    fn ranges(&self) -> impl Iterator<Item = Cidr> {
        self.spec.cidrs.iter().filter_map(|range| Cidr::parse_sloppy(range))
    }

    /// Whether a Service of this range can have the address: not the network's own, nor the broadcast address.
    fn serves(&self, address: IpAddr) -> bool {
        self.ranges().any(|range| {
            let last = match (range.network(), address) {
                (IpAddr::V4(first), IpAddr::V4(address)) => {
                    let hosts = u32::MAX.checked_shr(u32::from(range.prefix)).unwrap_or_default();
                    first.to_bits() | hosts == address.to_bits()
                }
                _ => false,
            };
            range.contains(address) && range.network() != address && !last
        })
    }

    fn contains(&self, inner: &Cidr) -> bool {
        self.ranges().any(|range| range.prefix <= inner.prefix && range.contains(inner.network()))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.ranges().any(|range| other.contains(&range)) || other.ranges().any(|range| self.contains(&range))
    }
}

/// Whether a range can go: each address of it has another one.
fn can_go(range: &ServiceCidr, all: &[Arc<ServiceCidr>], addresses: impl IntoIterator<Item = IpAddr>) -> bool {
    let others = || all.iter().filter(|other| other.meta.name != range.meta.name);
    if range.ranges().all(|inner| others().any(|other| other.contains(&inner))) {
        return true;
    }
    addresses.into_iter().all(|address| !range.serves(address) || others().any(|other| other.serves(address)))
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let ranges = context.informers.of::<ServiceCidr>();
    let addresses = context.informers.of::<IpAddress>();
    ranges.on_change({
        let (queue, ranges) = (queue.clone(), ranges.clone());
        move |change| {
            let range = change.object();
            queue.add(range.key());
            if !matches!(change, Change::Updated { .. }) {
                for other in ranges.all().iter().filter(|other| other.overlaps(range)) {
                    queue.add(other.key());
                }
            }
        }
    });
    addresses.on_change({
        let (queue, ranges) = (queue.clone(), ranges.clone());
        move |change| {
            if matches!(change, Change::Updated { .. }) {
                return;
            }
            let Some(address) = change.object().allocated() else { return };
            // Only one on its way out waits for addresses.
            for range in ranges.all().iter().filter(|range| range.meta.is_deleting() && range.serves(address)) {
                queue.add(range.key());
            }
        }
    });
    let objects = context.objects(ACCOUNT);
    let controller = ServiceCidrs {
        recorder: Recorder::new(objects.clone(), NAME, ""),
        objects,
        ranges: ranges.clone(),
        addresses: addresses.clone(),
    };
    let all = ranges.clone();
    Running::new(controller, queue, 1, [ranges.until_synced(), addresses.until_synced()], move || all.keys())
}

struct ServiceCidrs {
    objects: Objects,
    recorder: Recorder,
    ranges: Arc<Store<ServiceCidr>>,
    addresses: Arc<Store<IpAddress>>,
}

#[async_trait]
impl Controller for ServiceCidrs {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(range) = self.ranges.get(key) else { return Ok(Action::Done) };
        if range.meta.is_deleting() {
            return self.let_go(&range).await;
        }
        if !range.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            let patch = json!({ "metadata": { "uid": &*range.meta.uid, "finalizers": [FINALIZER] } });
            match self.objects.patch(&kinds::SERVICE_CIDRS, "", &key.name, "", Patch::Strategic, &patch).await {
                Err(error) if is_not_found(&error) => return Ok(Action::Done),
                done => done?,
            };
        }
        if let Err(error) = self.tell(&range, "True", "", "Kubernetes Service CIDR is ready").await {
            let subject = Subject::of(&kinds::SERVICE_CIDRS, &range.meta);
            let text = "The ServiceCIDR Status can not be set to Ready=True";
            self.recorder.event(&subject, EventType::Warning, "KubernetesServiceCIDRError", text);
            return Err(error);
        }
        Ok(Action::Done)
    }
}

impl ServiceCidrs {
    async fn let_go(&self, range: &ServiceCidr) -> anyhow::Result<Action> {
        let all = self.ranges.all();
        let known = self.addresses.all();
        if !can_go(range, &all, known.iter().filter_map(|address| address.allocated())) {
            return self.hold(range).await;
        }
        let since = range.meta.deletion_timestamp.map(|since| Timestamp::now().duration_since(since).unsigned_abs());
        let left = GRACE.saturating_sub(since.unwrap_or_default());
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        // The cache may be behind: what the server says decides.
        let list = self.objects.list(&kinds::IP_ADDRESSES, "", &ListParams::default()).await?;
        let live: Vec<IpAddress> = client::typed(&list["items"])?;
        if !can_go(range, &all, live.iter().filter_map(IpAddress::allocated)) {
            return self.hold(range).await;
        }
        release(&self.objects, &kinds::SERVICE_CIDRS, &range.meta, FINALIZER).await?;
        Ok(Action::Done)
    }

    async fn hold(&self, range: &ServiceCidr) -> anyhow::Result<Action> {
        let text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                    ServiceCIDR";
        self.tell(range, "False", "Terminating", text).await?;
        Ok(Action::Done)
    }

    /// Set the condition Ready.
    async fn tell(&self, range: &ServiceCidr, status: &str, reason: &str, message: &str) -> anyhow::Result<()> {
        let same = |condition: &Condition| {
            &*condition.status == status && &*condition.reason == reason && &*condition.message == message
        };
        if Condition::find(&range.status.conditions, "Ready").is_some_and(same) {
            return Ok(());
        }
        let next = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": seconds(Timestamp::now()),
        });
        let change = |live: &mut Value| {
            if !live["status"]["conditions"].is_array() {
                live["status"]["conditions"] = json!([]);
            }
            let Some(conditions) = live["status"]["conditions"].as_array_mut() else { return false };
            conditions.retain(|condition: &Value| condition["type"] != "Ready");
            conditions.push(next.clone());
            true
        };
        modify(&self.objects, &kinds::SERVICE_CIDRS, &range.meta, "status", change).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidrs: &[&str]) -> Arc<ServiceCidr> {
        let object = json!({ "metadata": { "name": name }, "spec": { "cidrs": cidrs } });
        Arc::new(serde_json::from_value(object).expect("a range"))
    }

    #[test]
    fn a_range_goes_when_nobody_needs_it() {
        let (wide, narrow) = (range("wide", &["10.96.0.0/16"]), range("narrow", &["10.96.1.0/24"]));
        let check = |going: &Arc<ServiceCidr>, all: &[&Arc<ServiceCidr>], address: &str, expected: bool| {
            let all: Vec<Arc<ServiceCidr>> = all.iter().map(|range| Arc::clone(range)).collect();
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(can_go(going, &all, [address]), expected, "{address}");
        };
        check(&narrow, &[&wide, &narrow], "10.96.1.5", true);
        check(&wide, &[&wide, &narrow], "10.96.1.5", true);
        check(&wide, &[&wide, &narrow], "10.96.2.5", false);
        check(&narrow, &[&narrow], "10.96.1.5", false);
        check(&narrow, &[&narrow], "10.97.1.5", true);
        check(&narrow, &[&narrow], "10.96.1.0", true);
        check(&narrow, &[&narrow], "10.96.1.255", true);
        let both = range("both", &["10.98.0.0/24", "2001:db8::/112"]);
        check(&both, &[&both], "2001:db8::9", false);
        check(&both, &[&both, &range("six", &["2001:db8::/64"])], "2001:db8::9", true);
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide) && !narrow.overlaps(&both));
    }
}
