//! How many pods the owners of pods ask for.

use crate::client::Objects;
use crate::controllers::discovery;
use crate::runtime::views::{Deployment, Pod, ReplicaSet, ReplicationController};
use crate::runtime::{OwnerReference, Store};
use anyhow::bail;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where owners are found: in caches, others by their `scale`.
pub struct Owners {
    pub objects: Objects,
    pub sets: Arc<Store<ReplicaSet>>,
    pub deployments: Arc<Store<Deployment>>,
    pub controllers: Arc<Store<ReplicationController>>,
}

#[derive(Debug, Default)]
pub struct Scale {
    pub replicas: i32,
    /// Names of pods without an owner.
    pub unmanaged: Vec<Arc<str>>,
}

impl Owners {
    /// The sum over all owners of the pods.
    pub async fn scale(&self, pods: &[Arc<Pod>]) -> anyhow::Result<Scale> {
        let mut scales: BTreeMap<Arc<str>, i32> = BTreeMap::new();
        let mut unmanaged = Vec::new();
        for pod in pods {
            let Some(owner) = pod.meta.controller() else {
                unmanaged.push(pod.meta.name.clone());
                continue;
            };
            if scales.contains_key(&owner.uid) {
                continue;
            }
            let Some((uid, replicas)) = self.find(owner, &pod.meta.namespace).await? else {
                bail!("found no controllers for pod {:?}", &*pod.meta.name);
            };
            scales.insert(uid, replicas);
        }
        Ok(Scale { replicas: scales.values().sum(), unmanaged })
    }

    /// The UID and the size of what looks after the pods: of a ReplicaSet, its Deployment.
    async fn find(&self, owner: &OwnerReference, namespace: &str) -> anyhow::Result<Option<(Arc<str>, i32)>> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (&*owner.kind, group) {
            ("ReplicaSet", "apps" | "extensions") => {
                let Some(set) = self.sets.find(namespace, &owner.name).filter(|set| set.meta.uid == owner.uid) else {
                    return Ok(None);
                };
                let Some(above) = set.meta.controller().filter(|above| above.kind == "Deployment") else {
                    return Ok(Some((set.meta.uid.clone(), set.replicas())));
                };
                let deployment = self.deployments.find(namespace, &above.name);
                let deployment = deployment.filter(|deployment| deployment.meta.uid == above.uid);
                Ok(deployment.map(|deployment| (deployment.meta.uid.clone(), deployment.replicas())))
            }
            ("ReplicationController", "") => {
                let found = self.controllers.find(namespace, &owner.name).filter(|found| found.0.meta.uid == owner.uid);
                Ok(found.map(|found| (found.0.meta.uid.clone(), found.0.replicas())))
            }
            _ => self.by_subresource(owner, namespace).await,
        }
    }

    async fn by_subresource(&self, owner: &OwnerReference, namespace: &str) -> anyhow::Result<Option<(Arc<str>, i32)>> {
        let served = discovery::served(self.objects.client()).await?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(found) = served.into_iter().find(|one| one.kind.group == group && one.kind.kind == owner.kind) else {
            bail!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version);
        };
        if !found.scales {
            bail!("{} does not implement the scale subresource", found.kind);
        }
        let path = format!("{}/scale", owner.name);
        let Some(scale) = self.objects.find(&found.kind, namespace, &path).await? else { return Ok(None) };
        let same = scale["metadata"]["uid"].as_str() == Some(&*owner.uid);
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        Ok(same.then(|| (owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
    }
}
