//! The node's lease in `kube-node-lease`: proof of life.

use crate::client::{self, Patch, kinds};
use crate::kubelet::context::Context;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const NAMESPACE: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);

pub struct Lease {
    context: Arc<Context>,
    due: Instant,
    failures: u32,
    known: bool,
}

impl Lease {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, due: Instant::now(), failures: 0, known: false }
    }

    /// When the next renewal is due. Cancel-safe.
    pub async fn due(&self) {
        tokio::time::sleep_until(self.due).await;
    }

    pub async fn renew(&mut self) {
        let duration = self.context.config.node_lease_duration;
        // A connection whose other end is gone says nothing for long: another try may get a new one.
        let written = tokio::time::timeout(duration / 4, self.write()).await;
        match written.map_err(|_| "no answer".to_owned()).and_then(|written| written.map_err(|error| error.to_string()))
        {
            Ok(()) => {
                self.failures = 0;
                self.due = Instant::now() + duration / 4;
            }
            Err(error) => {
                tracing::warn!(%error, "renew the node's lease");
                self.known = false;
                let delay = (RETRY * 2u32.pow(self.failures.min(6))).min(RETRY_MAX);
                self.failures += 1;
                self.due = Instant::now() + delay;
            }
        }
    }

    async fn write(&mut self) -> Result<(), kube::Error> {
        let objects = &self.context.client;
        let name = &self.context.config.node_name;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        if self.known {
            // Only the time: the store takes it as a heartbeat.
            let patch = json!({"spec": {"renewTime": now}});
            return match objects.patch(&kinds::LEASES, NAMESPACE, name, "", Patch::Merge, &patch).await {
                Ok(_) => Ok(()),
                Err(error) if client::is_not_found(&error) => self.create(&now).await,
                Err(error) => Err(error),
            };
        }
        self.create(&now).await
    }

    async fn create(&mut self, now: &str) -> Result<(), kube::Error> {
        let objects = &self.context.client;
        let name = &self.context.config.node_name;
        let seconds = self.context.config.node_lease_duration.as_secs();
        let node = objects.find(&kinds::NODES, "", name).await?;
        let uid = node.as_ref().and_then(|node| node["metadata"]["uid"].as_str()).map(str::to_owned);
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now});
        if objects.find(&kinds::LEASES, NAMESPACE, name).await?.is_some() {
            objects.patch(&kinds::LEASES, NAMESPACE, name, "", Patch::Merge, &json!({"spec": spec})).await?;
        } else {
            let mut lease = json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
            if let Some(uid) = uid {
                lease["metadata"]["ownerReferences"] =
                    json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
            }
            objects.create(&kinds::LEASES, NAMESPACE, lease).await?;
        }
        self.known = true;
        Ok(())
    }
}
