//! Static pods: manifests in a directory, run without the API; the API gets an image of each.
//!
//! The directory is watched through inotify. A pod's UID is the hash of its manifest and node, so
//! a changed manifest is another pod and an unchanged one is found again after a restart.

use super::context::Context;
use super::pod::{self, HASH_ANNOTATION, MIRROR_ANNOTATION, SOURCE_ANNOTATION};
use crate::api::yaml;
use crate::client::{self, DeleteOptions, kinds};
use crate::runtime::directory_watch::{DirectoryWatch, WatchFlags};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A larger manifest is not a pod.
const MAX_MANIFEST: u64 = 10 << 20;

pub enum Change {
    Applied(Arc<Pod>),
    /// By UID.
    Removed(String),
}

/// The directory's pods.
pub struct StaticPods {
    watch: Option<Watch>,
    node_name: String,
    known: HashMap<String, Arc<Pod>>,
    pending: VecDeque<Change>,
}

struct Watch {
    directory: PathBuf,
    events: DirectoryWatch,
}

impl StaticPods {
    pub fn start(context: &Context) -> anyhow::Result<Self> {
        let config = &context.config;
        let watch = config.static_pod_directory.as_deref().map(watch_directory).transpose()?;
        let mut pods =
            Self { watch, node_name: config.node_name.clone(), known: HashMap::new(), pending: VecDeque::new() };
        pods.scan();
        Ok(pods)
    }

    /// The next change; never returns where there is no directory. Cancel-safe.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return change;
            }
            let Some(watch) = &self.watch else { return std::future::pending().await };
            if let Err(error) = watch.events.changed().await {
                tracing::error!(%error, "watch {}", watch.directory.display());
                return std::future::pending().await;
            }
            self.scan();
        }
    }

    fn scan(&mut self) {
        let Some(watch) = &self.watch else { return };
        let found = read_directory(&watch.directory, &self.node_name);
        for uid in self.known.keys().filter(|uid| !found.contains_key(*uid)) {
            self.pending.push_back(Change::Removed(uid.clone()));
        }
        for (uid, pod) in &found {
            if !self.known.contains_key(uid) {
                self.pending.push_back(Change::Applied(pod.clone()));
            }
        }
        self.known = found;
    }
}

fn watch_directory(directory: &Path) -> anyhow::Result<Watch> {
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    let events = DirectoryWatch::new(directory, what).with_context(|| format!("watch {}", directory.display()))?;
    Ok(Watch { directory: directory.to_owned(), events })
}

fn read_directory(directory: &Path, node_name: &str) -> HashMap<String, Arc<Pod>> {
    let mut out = HashMap::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "read {}", directory.display());
            return out;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let manifest = path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        if hidden || !manifest || !path.is_file() {
            continue;
        }
        match read_manifest(&path, node_name) {
            Ok(pod) => {
                out.insert(pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod));
            }
            Err(error) => tracing::error!("static pod {}: {error:#}", path.display()),
        }
    }
    out
}

fn read_manifest(path: &Path, node_name: &str) -> anyhow::Result<Pod> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= MAX_MANIFEST, "the manifest has {size} bytes, {MAX_MANIFEST} are allowed");
    parse_manifest(&std::fs::read_to_string(path)?, node_name)
}

/// A manifest as this node's pod: named for the node, bound to it, tolerating everything.
pub fn parse_manifest(text: &str, node_name: &str) -> anyhow::Result<Pod> {
    let mut value: Value = yaml::read::typed(text).map_err(|error| anyhow::anyhow!("parse the manifest: {error}"))?;
    yaml::read::whole(&mut value);
    let mut pod: Pod = client::typed(&value).context("it is not a v1 Pod")?;
    let digest = Sha256::new_with_prefix(node_name).chain_update([0]).chain_update(text).finalize();
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let metadata = &mut pod.metadata;
    let name = metadata.name.take().filter(|name| !name.is_empty()).context("metadata.name is not set")?;
    metadata.name = Some(format!("{name}-{node_name}"));
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.uid = Some(hash.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE_ANNOTATION.to_owned(), "file".to_owned());
    annotations.insert(HASH_ANNOTATION.to_owned(), hash);
    let spec = pod.spec.as_mut().context("it has no spec")?;
    anyhow::ensure!(!spec.containers.is_empty(), "spec.containers is empty");
    spec.node_name = Some(node_name.to_owned());
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    default_spec(&mut pod);
    Ok(pod)
}

/// What the API server would have filled in and the kubelet reads.
fn default_spec(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    let containers = spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut());
    for container in containers {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
        container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    }
}

pub fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    mirror.metadata.deletion_timestamp.is_none()
        && pod::annotation(mirror, MIRROR_ANNOTATION) == pod::annotation(pod, HASH_ANNOTATION)
}

/// Tell the API of a static pod. Fire and forget: the informer shows whether it is there.
pub fn create_mirror(context: &Arc<Context>, pod: &Arc<Pod>) {
    let mut mirror = Pod::clone(pod);
    let hash = pod::annotation(pod, HASH_ANNOTATION).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR_ANNOTATION.to_owned(), hash);
    mirror.metadata.uid = None;
    let context = context.clone();
    tokio::spawn(async move {
        let namespace = mirror.metadata.namespace.clone().unwrap_or_default();
        let mut backoff =
            crate::runtime::Backoff::new(std::time::Duration::from_secs(1), std::time::Duration::from_secs(60));
        loop {
            let result = async {
                let owned =
                    serde_json::to_value(with_owner(&context, &mirror).await?).map_err(kube::Error::SerdeError)?;
                context.client.create(&kinds::PODS, &namespace, owned).await
            };
            match result.await {
                Ok(_) => return,
                Err(error) if client::is_already_exists(&error) || client::is_forbidden(&error) => {
                    tracing::debug!(%error, "create a mirror pod");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "create a mirror pod: trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    });
}

/// A node may create mirror pods only as its own.
async fn with_owner(context: &Context, mirror: &Pod) -> Result<Pod, kube::Error> {
    let name = &context.config.node_name;
    let node = context.client.get(&kinds::NODES, "", name).await?;
    let mut mirror = mirror.clone();
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    Ok(mirror)
}

/// Remove an image whose static pod is gone or another one.
pub fn delete_mirror(context: &Arc<Context>, mirror: &Arc<Pod>) {
    let (context, mirror) = (context.clone(), mirror.clone());
    tokio::spawn(async move {
        let metadata = &mirror.metadata;
        let (namespace, name) =
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let options = DeleteOptions::of(metadata.uid.as_deref().unwrap_or_default()).grace_period(0);
        if let Err(error) = context.client.delete(&kinds::PODS, &namespace, &name, &options).await
            && !client::is_not_found(&error)
        {
            tracing::warn!(pod = %format!("{namespace}/{name}"), %error, "delete a mirror pod");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: busybox\n";

    #[test]
    fn a_manifest_becomes_this_nodes_pod() {
        let pod = parse_manifest(MANIFEST, "n1").expect("a pod");
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert!(pod::is_static(&pod) && pod::is_critical(&pod));
        let again = parse_manifest(MANIFEST, "n1").expect("a pod");
        assert_eq!(pod.metadata.uid, again.metadata.uid);
        let other = parse_manifest(&MANIFEST.replace("busybox", "nginx"), "n1").expect("a pod");
        assert_ne!(pod.metadata.uid, other.metadata.uid);
        for broken in ["", "kind: Pod", "{", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}"] {
            assert!(parse_manifest(broken, "n1").is_err(), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn files_that_come_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let watch = watch_directory(directory.path()).expect("watched");
        let mut pods =
            StaticPods { watch: Some(watch), node_name: "n1".into(), known: HashMap::new(), pending: VecDeque::new() };
        let path = directory.path().join("web.yaml");
        std::fs::write(&path, MANIFEST).expect("written");
        let Change::Applied(pod) = pods.next().await else { panic!("a pod came") };
        std::fs::remove_file(&path).expect("removed");
        let Change::Removed(uid) = pods.next().await else { panic!("the pod went") };
        assert_eq!(Some(uid), pod.metadata.uid);
    }
}
