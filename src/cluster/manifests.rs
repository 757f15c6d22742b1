//! Manifests that the server applies by itself: its own, and those in `<data>/server/manifests`, at
//! the start, when one changes, and ever more seldom while one does not apply.

use crate::api::yaml;
use crate::runtime::directory_watch::{DirectoryWatch, WatchFlags};
use anyhow::{Context, Result, anyhow, bail};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The field manager of what is applied here.
const MANAGER: &str = "orch-manifests";

/// A manifest is no bigger than this: bytes.
const LIMIT: u64 = 10 << 20;

/// Files that are copied one after the other come together.
const SETTLE: Duration = Duration::from_millis(200);

/// What failed is tried again after this, then ever later.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// The Service that owns the address of the cluster's DNS; each node answers for itself.
pub fn cluster_dns(address: Ipv4Addr) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "targetPort": 53, "protocol": protocol});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": address.to_string(),
            "clusterIPs": [address.to_string()],
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    })
}

/// Who may read `metrics.k8s.io`, and that this server serves it; where an extension server does, its objects stay.
pub fn resource_metrics() -> [Value; 2] {
    let aggregate = |role: &str| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), json!("true"));
    let labels: serde_json::Map<String, Value> = ["admin", "edit", "view"].map(aggregate).into_iter().collect();
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": "system:aggregated-metrics-reader", "labels": labels },
            "rules": [{
                "apiGroups": ["metrics.k8s.io"],
                "resources": ["pods", "nodes"],
                "verbs": ["get", "list", "watch"],
            }],
        }),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": "v1beta1.metrics.k8s.io" },
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        }),
    ]
}

/// Makes an object that is not there yet.
pub async fn create(client: &kube::Client, object: &Value) -> Result<()> {
    let (api, name) = find(client, object).await?;
    let given: DynamicObject = serde_json::from_value(object.clone()).context("read the object")?;
    match api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &given).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop).with_context(|| format!("create {name}")),
    }
}

/// Server-side apply of one object.
pub async fn apply(client: &kube::Client, object: &Value) -> Result<()> {
    let (api, name) = find(client, object).await?;
    let parameters = PatchParams::apply(MANAGER).force();
    let kind = object["kind"].as_str().unwrap_or_default();
    api.patch(name, &parameters, &Patch::Apply(object)).await.with_context(|| format!("apply {kind} {name}"))?;
    Ok(())
}

/// Where an object belongs, and its name.
async fn find<'a>(client: &kube::Client, object: &'a Value) -> Result<(Api<DynamicObject>, &'a str)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    if api_version.is_empty() || kind.is_empty() || name.is_empty() {
        bail!("an object needs apiVersion, kind and metadata.name");
    }
    let (group, version) = crate::api::gvk::split_api_version(api_version);
    let found = discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, kind)).await;
    let (resource, capabilities) = found.with_context(|| format!("kind {kind} of {api_version} is not served"))?;
    let namespace = Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    Ok((api, name))
}

/// Apply the directory until the shutdown. What does not apply is reported once, and tried again: what it waits
/// for may come, a kind that another manifest defines.
pub async fn run(directory: PathBuf, client: kube::Client, shutdown: CancellationToken) -> Result<()> {
    let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
    let changes = DirectoryWatch::new(&directory, flags).with_context(|| format!("watch {}", directory.display()))?;
    let mut failed: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut retry = FIRST_RETRY;
    let mut all = true;
    loop {
        failed.retain(|file, _| file.exists());
        let due = match files(&directory) {
            _ if !all => failed.keys().cloned().collect(),
            Ok(files) => files,
            Err(error) => {
                tracing::error!("{error:#}");
                Vec::new()
            }
        };
        for file in due {
            let errors = apply_file(&client, &file).await;
            let told = failed.remove(&file).unwrap_or_default();
            for error in errors.iter().filter(|error| !told.contains(error)) {
                tracing::error!("manifest {}: {error}", file.display());
            }
            if errors.is_empty() {
                if !told.is_empty() {
                    tracing::info!("manifest {} is applied now", file.display());
                }
            } else {
                failed.insert(file, errors);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(retry), if !failed.is_empty() => {
                (retry, all) = ((retry * 2).min(LONGEST_RETRY), false);
            }
            changed = changes.changed() => {
                changed.context("watch the manifests")?;
                tokio::time::sleep(SETTLE).await;
                (retry, all) = (FIRST_RETRY, true);
            }
        }
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Every object of a file that can be; what is wrong with the others.
async fn apply_file(client: &kube::Client, file: &Path) -> Vec<String> {
    let documents = match read(file) {
        Ok(documents) => documents,
        Err(error) => return vec![format!("{error:#}")],
    };
    let mut errors = Vec::new();
    for object in documents.iter().flat_map(items) {
        if let Err(error) = apply(client, object).await {
            errors.push(format!("{error:#}"));
        }
    }
    errors
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let size = std::fs::metadata(file).context("read it")?.len();
    if size > LIMIT {
        bail!("{size} bytes, at most {LIMIT} are allowed");
    }
    let text = std::fs::read_to_string(file).context("read it")?;
    yaml::read::documents(&text).map_err(|error| anyhow!("parse it: {error}"))
}

/// The objects of a document: its own, those of a List, none of an empty one.
fn items(document: &Value) -> Vec<&Value> {
    match document {
        Value::Null => Vec::new(),
        list if list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && list["items"].is_array() => {
            list["items"].as_array().into_iter().flatten().collect()
        }
        object => vec![object],
    }
}
