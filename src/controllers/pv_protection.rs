//! Volumes that are bound to a claim are not deleted under it. Source:
//! `pkg/controller/volume/pvprotection`.

use super::context::{Context, Running};
use super::seen::release;
use crate::client::{Objects, kinds};
use crate::runtime::views::PersistentVolume;
use crate::runtime::{Action, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use std::sync::Arc;

const NAME: &str = "pv-protection-controller";
const FINALIZER: &str = "kubernetes.io/pv-protection";

/// Keys are volumes.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let volumes = context.informers.of::<PersistentVolume>();
    volumes.feed_if(&queue, is_waiting);
    let controller = PvProtection { objects: context.objects(NAME), volumes: volumes.clone() };
    let all = volumes.clone();
    Running::new(controller, queue, 1, [volumes.until_synced()], move || {
        all.all().iter().filter(|volume| is_waiting(volume)).map(|volume| volume.key()).collect()
    })
}

/// To be deleted, and bound to nothing any more.
fn is_waiting(volume: &PersistentVolume) -> bool {
    volume.meta.is_deleting()
        && &*volume.phase != "Bound"
        && volume.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

struct PvProtection {
    objects: Objects,
    volumes: Arc<Store<PersistentVolume>>,
}

#[async_trait]
impl Controller for PvProtection {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if let Some(volume) = self.volumes.get(key).filter(|volume| is_waiting(volume)) {
            release(&self.objects, &kinds::PERSISTENT_VOLUMES, &volume.meta, FINALIZER).await?;
        }
        Ok(Action::Done)
    }
}
