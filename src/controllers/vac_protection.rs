//! Classes of attributes that volumes or claims name are not deleted under them. Source:
//! `pkg/controller/volume/vacprotection`.

use super::context::{Context, Running};
use super::seen::release;
use crate::client::{Objects, kinds};
use crate::runtime::views::{PersistentVolume, PersistentVolumeClaim, VolumeAttributesClass};
use crate::runtime::{Action, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use kube::api::ListParams;
use std::sync::Arc;

const NAME: &str = "volumeattributesclass-protection-controller";
const FINALIZER: &str = "kubernetes.io/vac-protection";

/// Keys are classes.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let classes = context.informers.of::<VolumeAttributesClass>();
    let volumes = context.informers.of::<PersistentVolume>();
    let claims = context.informers.of::<PersistentVolumeClaim>();
    classes.feed_if(&queue, is_waiting);
    // Who names a class no longer lets go of it.
    let let_go = |queue: &WorkQueue<ObjectKey>, old: &[Box<str>], new: &[Box<str>]| {
        old.iter().filter(|class| !new.contains(class)).for_each(|class| queue.add(ObjectKey::new("", class)));
    };
    volumes.on_change({
        let queue = queue.clone();
        move |change| {
            let classes =
                |volume: Option<&Arc<PersistentVolume>>| volume.map_or(Vec::new(), |volume| volume.classes.clone());
            let_go(&queue, &classes(change.old()), &classes(change.new()));
        }
    });
    claims.on_change({
        let queue = queue.clone();
        move |change| {
            let classes =
                |claim: Option<&Arc<PersistentVolumeClaim>>| claim.map_or(Vec::new(), |claim| claim.classes.clone());
            let_go(&queue, &classes(change.old()), &classes(change.new()));
        }
    });
    let waits = [classes.until_synced(), volumes.until_synced(), claims.until_synced()];
    let all = classes.clone();
    let controller = VacProtection { objects: context.objects(NAME), classes, volumes, claims };
    Running::new(controller, queue, 1, waits, move || {
        all.all().iter().filter(|class| is_waiting(class)).map(|class| class.key()).collect()
    })
}

fn is_waiting(class: &VolumeAttributesClass) -> bool {
    class.meta.is_deleting() && class.meta.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

fn names(classes: &[Box<str>], class: &str) -> bool {
    classes.iter().any(|name| &**name == class)
}

struct VacProtection {
    objects: Objects,
    classes: Arc<Store<VolumeAttributesClass>>,
    volumes: Arc<Store<PersistentVolume>>,
    claims: Arc<Store<PersistentVolumeClaim>>,
}

impl VacProtection {
    /// The caches may be behind: what the server says decides.
    async fn is_used(&self, class: &str) -> anyhow::Result<bool> {
        if self.volumes.all().iter().any(|volume| names(&volume.classes, class))
            || self.claims.all().iter().any(|claim| names(&claim.classes, class))
        {
            return Ok(true);
        }
        let list = self.objects.list(&kinds::PERSISTENT_VOLUMES, "", &ListParams::default()).await?;
        let volumes: Vec<<PersistentVolume as Projection>::Object> = serde_json::from_value(list["items"].clone())?;
        if volumes.into_iter().map(PersistentVolume::project).any(|volume| names(&volume.classes, class)) {
            return Ok(true);
        }
        let list = self.objects.list(&kinds::PERSISTENT_VOLUME_CLAIMS, "", &ListParams::default()).await?;
        let claims: Vec<<PersistentVolumeClaim as Projection>::Object> = serde_json::from_value(list["items"].clone())?;
        Ok(claims.into_iter().map(PersistentVolumeClaim::project).any(|claim| names(&claim.classes, class)))
    }
}

#[async_trait]
impl Controller for VacProtection {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(class) = self.classes.get(key).filter(|class| is_waiting(class)) else { return Ok(Action::Done) };
        if !self.is_used(&key.name).await? {
            release(&self.objects, &kinds::VOLUME_ATTRIBUTES_CLASSES, &class.meta, FINALIZER).await?;
        }
        Ok(Action::Done)
    }
}
