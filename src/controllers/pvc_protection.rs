//! Claims that pods use are not deleted under them. Source: `pkg/controller/volume/pvcprotection`.

use super::context::{Context, Running};
use super::seen::release;
use crate::client::{Objects, kinds};
use crate::runtime::views::{PersistentVolumeClaim, Pod};
use crate::runtime::{Action, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use kube::api::ListParams;
use std::sync::Arc;

const NAME: &str = "pvc-protection-controller";
pub const FINALIZER: &str = "kubernetes.io/pvc-protection";

/// A pod as a list has it.
type Live = <Pod as Projection>::Object;

/// Keys are claims.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    claims.feed_if(&queue, is_waiting);
    pods.on_change({
        let queue = queue.clone();
        move |change| {
            // A pod that lets go of its claims.
            if let Some(pod) = change.old().filter(|_| change.new().is_none_or(|pod| pod.is_terminal())) {
                pod.claims.iter().for_each(|claim| queue.add(ObjectKey::new(&pod.meta.namespace, claim)));
            }
        }
    });
    let controller = PvcProtection { objects: context.objects(NAME), claims: claims.clone(), pods: pods.clone() };
    let all = claims.clone();
    Running::new(controller, queue, 1, [claims.until_synced(), pods.until_synced()], move || {
        all.all().iter().filter(|claim| is_waiting(claim)).map(|claim| claim.key()).collect()
    })
}

fn is_waiting(claim: &PersistentVolumeClaim) -> bool {
    claim.meta.is_deleting() && claim.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// Whether a pod holds on to a claim: it is bound to a node and has not finished.
fn uses(pod: &Pod, claim: &str) -> bool {
    !pod.node.is_empty() && !pod.is_terminal() && pod.claims.iter().any(|name| &**name == claim)
}

struct PvcProtection {
    objects: Objects,
    claims: Arc<Store<PersistentVolumeClaim>>,
    pods: Arc<Store<Pod>>,
}

#[async_trait]
impl Controller for PvcProtection {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(claim) = self.claims.get(key).filter(|claim| is_waiting(claim)) else { return Ok(Action::Done) };
        if self.pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod, &key.name)) {
            return Ok(Action::Done);
        }
        // The cache may be behind: what the server says decides.
        let list = self.objects.list(&kinds::PODS, &key.namespace, &ListParams::default()).await?;
        let live: Vec<Live> = serde_json::from_value(list["items"].clone())?;
        if live.into_iter().map(Pod::project).any(|pod| uses(&pod, &key.name)) {
            return Ok(Action::Done);
        }
        release(&self.objects, &kinds::PERSISTENT_VOLUME_CLAIMS, &claim.meta, FINALIZER).await?;
        Ok(Action::Done)
    }
}
