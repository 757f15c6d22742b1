//! Volumes as a pod finds them: contents, modes, live updates, what is missing.

use super::*;
use crate::kubelet::env::LookupError;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

struct Objects(Value);

impl Lookup for Objects {
    fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, LookupError> {
        match self.0.get(name) {
            Some(object) => Ok(Arc::new(serde_json::from_value(object.clone()).expect("a config map"))),
            None => Err(LookupError::NotFound(format!("configmap \"{name}\" not found"))),
        }
    }

    fn secret(&self, name: &str) -> Result<Arc<Secret>, LookupError> {
        match self.0.get(name) {
            Some(object) => Ok(Arc::new(serde_json::from_value(object.clone()).expect("a secret"))),
            None => Err(LookupError::NotFound(format!("secret \"{name}\" not found"))),
        }
    }
}

/// A client that no test here calls.
fn no_client() -> kube::Client {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, std::io::Error>(std::io::Error::other("there is no API here"))
    });
    kube::Client::new(service, "default")
}

async fn set_up_in(directory: &TempDir, volume: Value, objects: Value) -> Result<PathBuf, String> {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u",
        "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}))
    .expect("a pod");
    let volume: Volume = serde_json::from_value(volume).expect("a volume");
    let mounter: Arc<dyn Mounter> = Arc::new(NoMounts);
    let setup = Setup {
        pod: &pod,
        volume: &volume,
        pod_directory: directory.path(),
        mounter: &mounter,
        lookup: &Objects(objects),
        tokens: &Tokens::new(no_client()),
        addresses: &Addresses::default(),
        allocatable: &ResourceList::new(),
    };
    set_up(&setup).await.map(|ready| ready.path)
}

/// Visible files with mode and content.
fn files(root: &Path) -> String {
    let mut out = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("listed") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            if name.starts_with("..") {
                continue;
            }
            let metadata = std::fs::metadata(&path).expect("it leads somewhere");
            if metadata.is_dir() {
                pending.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("read");
                out.push(format!("{name} {:o} {text}", metadata.permissions().mode() & 0o777));
            }
        }
    }
    out.sort();
    out.join(", ")
}

#[tokio::test]
async fn a_config_map_as_files_that_follow_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let volume = json!({"name": "v", "configMap": {"name": "m"}});
    let first = json!({"m": {"data": {"a": "1", "b": "2"}, "binaryData": {"c": "Mw=="}}});
    let path = set_up_in(&directory, volume.clone(), first.clone()).await.expect("ready");
    assert!(path.ends_with("volumes/kubernetes.io~configmap/v"));
    assert_eq!(files(&path), "a 644 1, b 644 2, c 644 3");
    let data = std::fs::read_link(path.join("..data")).expect("a link");
    set_up_in(&directory, volume.clone(), first).await.expect("ready");
    assert_eq!(std::fs::read_link(path.join("..data")).expect("a link"), data, "unchanged files are left alone");
    set_up_in(&directory, volume, json!({"m": {"data": {"a": "9", "d": "4"}}})).await.expect("ready");
    assert_eq!(files(&path), "a 644 9, d 644 4");
    assert!(!path.join(&data).exists(), "the old version is gone");
}

#[tokio::test]
async fn items_modes_and_what_is_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let objects = json!({"m": {"data": {"a": "1", "b": "2"}}});
    let with = |source: Value| json!({"name": "v", "configMap": source});
    let items = with(json!({"name": "m", "defaultMode": 0o400, "items": [
        {"key": "a", "path": "deep/er/a"}, {"key": "b", "path": "b", "mode": 0o600}]}));
    let path = set_up_in(&directory, items, objects.clone()).await.expect("ready");
    assert_eq!(files(&path), "b 600 2, deep/er/a 400 1");
    let error = |volume: Value| {
        let objects = objects.clone();
        async { set_up_in(&tempfile::tempdir().expect("a directory"), volume, objects).await.expect_err("an error") }
    };
    assert_eq!(
        error(with(json!({"name": "none"}))).await,
        "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found"
    );
    assert_eq!(
        error(with(json!({"name": "m", "items": [{"key": "x", "path": "x"}]}))).await,
        "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config key: x"
    );
    let escape = error(with(json!({"name": "m", "items": [{"key": "a", "path": "../x"}]}))).await;
    assert!(escape.contains("invalid path"), "{escape}");
    let optional = with(json!({"name": "none", "optional": true}));
    let path = set_up_in(&directory, optional, objects).await.expect("ready");
    assert_eq!(files(&path), "");
}

#[tokio::test]
async fn projected_sources_share_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let objects = json!({"m": {"data": {"a": "1"}}, "s": {"data": {"k": "dg=="}}});
    let volume = json!({"name": "v", "projected": {"sources": [
        {"configMap": {"name": "m"}},
        {"secret": {"name": "s", "items": [{"key": "k", "path": "secret/k", "mode": 0o440}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}});
    let path = set_up_in(&directory, volume, objects).await.expect("ready");
    assert_eq!(files(&path), "a 644 1, labels 644 app=\"web\", secret/k 440 v");
    let broken =
        json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]}});
    assert_eq!(
        set_up_in(&directory, broken, json!({})).await,
        Err("MountVolume.SetUp failed for volume \"v\" : [configmap \"x\" not found, secret \"y\" not found]".into())
    );
}

#[tokio::test]
async fn empty_directories_live_as_long_as_the_pod() {
    let directory = tempfile::tempdir().expect("a directory");
    let volume = json!({"name": "v", "emptyDir": {}});
    let path = set_up_in(&directory, volume.clone(), json!({})).await.expect("ready");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o777);
    std::fs::write(path.join("kept"), "x").expect("written");
    // Explicitly: the process's umask is not this test's.
    std::fs::set_permissions(path.join("kept"), std::fs::Permissions::from_mode(0o644)).expect("changed");
    set_up_in(&directory, volume, json!({})).await.expect("ready");
    assert_eq!(files(&path), "kept 644 x");
    tear_down(directory.path(), &NoMounts).expect("removed");
    assert!(!directory.path().exists());
    let unknown = json!({"name": "v", "nfs": {"server": "a", "path": "/"}});
    let directory = tempfile::tempdir().expect("a directory");
    let error = set_up_in(&directory, unknown, json!({})).await.expect_err("no such plugin");
    assert_eq!(error, "MountVolume.SetUp failed for volume \"v\" : no volume plugin matched");
}
