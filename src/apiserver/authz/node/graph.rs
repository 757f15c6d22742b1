//! Which node's pods use which objects.

use crate::apiserver::follow::{Update, parse_json};
use crate::storage::{Entry, Key};
use serde::Deserialize;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
    PersistentVolume,
    VolumeAttachment,
    ResourceSlice,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Object {
    kind: Kind,
    namespace: Box<str>,
    name: Box<str>,
}

/// Pods on nodes, and how many pods of each node use an object.
#[derive(Default)]
pub struct Graph {
    pods: HashMap<Key, Pod>,
    users: HashMap<Object, SmallVec<[(Box<str>, u32); 1]>>,
}

struct Pod {
    node: Box<str>,
    uses: BTreeSet<Object>,
}

impl Graph {
    pub fn has(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let object = Object { kind, namespace: namespace.into(), name: name.into() };
        self.users.get(&object).is_some_and(|nodes| nodes.iter().any(|(known, _)| &**known == node))
    }

    pub fn apply(&mut self, update: Update<'_>) {
        match update {
            Update::Reset(entries) => {
                *self = Self::default();
                entries.iter().for_each(|entry| self.put(entry));
            }
            Update::Put(entry) => self.put(entry),
            Update::Delete(key) => self.remove(key),
        }
    }

    fn put(&mut self, entry: &Entry) {
        match read(entry) {
            Some(pod) => {
                if self.pods.get(&entry.key).is_some_and(|old| old.node == pod.node && old.uses == pod.uses) {
                    return;
                }
                self.remove(&entry.key);
                for object in &pod.uses {
                    let nodes = self.users.entry(object.clone()).or_default();
                    match nodes.iter_mut().find(|(node, _)| *node == pod.node) {
                        Some((_, count)) => *count += 1,
                        None => nodes.push((pod.node.clone(), 1)),
                    }
                }
                self.pods.insert(entry.key.clone(), pod);
            }
            None => self.remove(&entry.key),
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        for object in pod.uses {
            let Some(nodes) = self.users.get_mut(&object) else { continue };
            nodes.retain(|(node, count)| {
                if *node == pod.node {
                    *count -= 1;
                }
                *count > 0
            });
            if nodes.is_empty() {
                self.users.remove(&object);
            }
        }
    }
}

/// None: not on a node.
fn read(entry: &Entry) -> Option<Pod> {
    let stored: StoredPod = parse_json(entry.body.stored())?;
    if stored.spec.node_name.is_empty() {
        return None;
    }
    let namespace = entry.key.namespace();
    let mut uses = BTreeSet::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            uses.insert(Object { kind, namespace: namespace.into(), name: name.into() });
        }
    };
    add(Kind::Pod, entry.key.name());
    // A node must not get at anything through a pod that it made up.
    if !stored.metadata.annotations.contains_key("kubernetes.io/config.mirror") {
        stored.spec.visit(entry.key.name(), &mut add);
        for claim in &stored.status.resource_claims {
            add(Kind::ResourceClaim, &claim.name);
        }
    }
    Some(Pod { node: stored.spec.node_name.into(), uses })
}

#[derive(Deserialize)]
struct StoredPod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: StoredStatus,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: HashMap<String, serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredStatus {
    resource_claims: Vec<ClaimStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimStatus {
    #[serde(rename = "resourceClaimName")]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    volumes: Vec<Volume>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    resource_claims: Vec<PodClaim>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodClaim {
    resource_claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<Env>,
    env_from: Vec<EnvFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    secret_ref: Option<Named>,
    config_map_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    azure_file: Option<AzureFile>,
    cephfs: Option<WithSecretRef>,
    cinder: Option<WithSecretRef>,
    flex_volume: Option<WithSecretRef>,
    rbd: Option<WithSecretRef>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<WithSecretRef>,
    iscsi: Option<WithSecretRef>,
    storageos: Option<WithSecretRef>,
    csi: Option<Csi>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AzureFile {
    secret_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WithSecretRef {
    secret_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Csi {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<Source>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    secret: Option<Named>,
    config_map: Option<Named>,
}

impl Spec {
    fn visit(&self, pod: &str, add: &mut impl FnMut(Kind, &str)) {
        add(Kind::ServiceAccount, &self.service_account_name);
        let mut named = |kind: Kind, reference: &Option<Named>| {
            if let Some(reference) = reference {
                add(kind, &reference.name);
            }
        };
        let containers = self.containers.iter().chain(&self.init_containers).chain(&self.ephemeral_containers);
        for container in containers {
            for source in container.env.iter().filter_map(|env| env.value_from.as_ref()) {
                named(Kind::Secret, &source.secret_key_ref);
                named(Kind::ConfigMap, &source.config_map_key_ref);
            }
            for source in &container.env_from {
                named(Kind::Secret, &source.secret_ref);
                named(Kind::ConfigMap, &source.config_map_ref);
            }
        }
        for volume in &self.volumes {
            named(Kind::ConfigMap, &volume.config_map);
            for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
                named(Kind::Secret, &source.secret);
                named(Kind::ConfigMap, &source.config_map);
            }
            let with_secret = [
                &volume.cephfs,
                &volume.cinder,
                &volume.flex_volume,
                &volume.rbd,
                &volume.scale_io,
                &volume.iscsi,
                &volume.storageos,
            ];
            for source in with_secret.into_iter().flatten() {
                named(Kind::Secret, &source.secret_ref);
            }
            if let Some(csi) = &volume.csi {
                named(Kind::Secret, &csi.node_publish_secret_ref);
            }
        }
        for secret in &self.image_pull_secrets {
            add(Kind::Secret, &secret.name);
        }
        for volume in &self.volumes {
            if let Some(secret) = &volume.secret {
                add(Kind::Secret, &secret.secret_name);
            }
            if let Some(source) = &volume.azure_file {
                add(Kind::Secret, &source.secret_name);
            }
            if let Some(claim) = &volume.persistent_volume_claim {
                add(Kind::Claim, &claim.claim_name);
            }
            if volume.ephemeral.is_some() {
                add(Kind::Claim, &format!("{pod}-{}", volume.name));
            }
        }
        for claim in &self.resource_claims {
            add(Kind::ResourceClaim, &claim.resource_claim_name);
        }
    }
}
