//! ServiceAccount: every pod has one that exists, with its token mounted and its pull secrets.

use super::{Attributes, Operation, Plugin, Sources, is_core, items, list_mut, text};
use crate::api::field::go_quote;
use crate::api::{GroupResource, GroupVersionResource, Status, names};
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Prefix, Storage};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A fresh namespace gets this account from a controller, in a moment.
const DEFAULT: &str = "default";
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";

/// One hour, and seven seconds that tell this default from a wish.
const TOKEN_SECONDS: i64 = 3607;

const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

pub struct ServiceAccount {
    storage: Arc<dyn Storage>,
    accounts: Projection<Account>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    metadata: Metadata,
    #[serde(default)]
    automount_service_account_token: Option<bool>,
    #[serde(default)]
    image_pull_secrets: Vec<Value>,
    #[serde(default)]
    secrets: Vec<Value>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

impl ServiceAccount {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone(), accounts: Projection::new(parse_json) }
    }

    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Account>, Status> {
        let namespace = attributes.namespace;
        let accounts = GroupResource::new("", "serviceaccounts");
        let key = Key::new(&accounts, namespace, name);
        let mut found = self.accounts.get(&*self.storage, &key);
        if found.is_none() && name == DEFAULT {
            self.wait_for(&key, Prefix::namespace(&accounts, namespace)).await;
            found = self.accounts.get(&*self.storage, &key);
        }
        found.ok_or_else(|| {
            let reason = match names::path_segment(name).is_empty() {
                true => format!("serviceaccount {} not found", go_quote(name)),
                false => names::refused(name),
            };
            attributes.forbidden(&format!("error looking up service account {namespace}/{name}: {reason}"))
        })
    }

    async fn wait_for(&self, key: &Key, prefix: Prefix) {
        let Ok(mut watch) = self.storage.watch(prefix, self.storage.revision()) else { return };
        if self.storage.get(key).is_some() {
            return;
        }
        let appears = async {
            while let Ok(change) = watch.next().await {
                if change.key == *key && change.new.is_some() {
                    return;
                }
            }
        };
        // Not in time: the caller looks once more and says so.
        let _ = tokio::time::timeout(DEFAULT_WAIT, appears).await;
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_core(resource, "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        if is_mirror(pod) {
            return validate_mirror(attributes);
        }
        let name = match text(pod, "/spec/serviceAccountName") {
            "" => DEFAULT.to_owned(),
            name => name.to_owned(),
        };
        let account = self.account(attributes, &name).await?;
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let spec = &mut pod["spec"];
        spec["serviceAccountName"] = name.as_str().into();
        // The deprecated name of the same.
        spec["serviceAccount"] = name.as_str().into();
        let wanted = spec["automountServiceAccountToken"].as_bool().or(account.automount_service_account_token);
        if wanted.unwrap_or(true) {
            mount_token(spec);
        }
        if items(&spec["imagePullSecrets"]).is_empty() && !account.image_pull_secrets.is_empty() {
            spec["imagePullSecrets"] = Value::Array(account.image_pull_secrets.clone());
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        if is_mirror(pod) {
            return validate_mirror(attributes);
        }
        let name = text(pod, "/spec/serviceAccountName");
        if name.is_empty() {
            let pod_name = text(pod, "/metadata/name");
            return Err(attributes
                .forbidden(&format!("no service account specified for pod {}/{pod_name}", attributes.namespace)));
        }
        let account = self.account(attributes, name).await?;
        if account.metadata.annotations.get(ENFORCE_SECRETS).is_some_and(|value| value == "true") {
            limit_secrets(&pod["spec"], name, &account).map_err(|reason| attributes.forbidden(&reason))?;
        }
        Ok(())
    }
}

pub fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// A node's own pod must not pull other objects in.
fn validate_mirror(attributes: &Attributes<'_>) -> Result<(), Status> {
    let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
    let spec = &pod["spec"];
    let projected = || items(&spec["volumes"]).iter().flat_map(|volume| items(&volume["projected"]["sources"]));
    let reason = if !text(spec, "/serviceAccountName").is_empty() {
        "a mirror pod may not reference service accounts"
    } else if references(spec, SECRETS) {
        "a mirror pod may not reference secrets"
    } else if projected().any(|source| source.get("serviceAccountToken").is_some()) {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(attributes.forbidden(reason))
}

/// The fields by which pods name objects of a kind.
pub struct ReferenceFields {
    volumes: &'static [&'static str],
    projected: &'static str,
    key: &'static str,
    from: &'static str,
}

pub const SECRETS: &ReferenceFields = &ReferenceFields {
    volumes: &[
        "/secret",
        "/azureFile/secretName",
        "/cephfs/secretRef",
        "/cinder/secretRef",
        "/flexVolume/secretRef",
        "/rbd/secretRef",
        "/scaleIO/secretRef",
        "/iscsi/secretRef",
        "/storageos/secretRef",
        "/csi/nodePublishSecretRef",
    ],
    projected: "secret",
    key: "secretKeyRef",
    from: "secretRef",
};

pub const CONFIG_MAPS: &ReferenceFields =
    &ReferenceFields { volumes: &["/configMap"], projected: "configMap", key: "configMapKeyRef", from: "configMapRef" };

/// Whether a pod names any object of the kind.
pub fn references(spec: &Value, fields: &ReferenceFields) -> bool {
    let set = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    containers.iter().flat_map(|list| items(&spec[*list])).any(|container| {
        items(&container["env"]).iter().any(|env| set(env["valueFrom"].get(fields.key)))
            || items(&container["envFrom"]).iter().any(|env| set(env.get(fields.from)))
    }) || items(&spec["volumes"]).iter().any(|volume| {
        fields.volumes.iter().any(|path| set(volume.pointer(path)))
            || items(&volume["projected"]["sources"]).iter().any(|source| set(source.get(fields.projected)))
    }) || fields.projected == "secret" && !items(&spec["imagePullSecrets"]).is_empty()
}

/// Only secrets that the account lists.
fn limit_secrets(spec: &Value, name: &str, account: &Account) -> Result<(), String> {
    let listed = |list: &[Value], secret: &str| list.iter().any(|entry| text(entry, "/name") == secret);
    for volume in items(&spec["volumes"]) {
        let secret = text(volume, "/secret/secretName");
        if !secret.is_empty() && !listed(&account.secrets, secret) {
            return Err(format!(
                "volume with secret.secretName={} is not allowed because service account {name} does not reference \
                 that secret",
                go_quote(secret)
            ));
        }
    }
    for (list, what) in [("initContainers", "init container"), ("containers", "container")] {
        for container in items(&spec[list]) {
            for env in items(&container["env"]) {
                let secret = text(env, "/valueFrom/secretKeyRef/name");
                if !secret.is_empty() && !listed(&account.secrets, secret) {
                    return Err(format!(
                        "{what} {} with envVar {} referencing secret.secretName={} is not allowed because service \
                         account {name} does not reference that secret",
                        text(container, "/name"),
                        text(env, "/name"),
                        go_quote(secret)
                    ));
                }
            }
        }
    }
    for (at, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        let secret = text(secret, "/name");
        if !listed(&account.image_pull_secrets, secret) {
            return Err(format!(
                "imagePullSecrets[{at}].name={} is not allowed because service account {name} does not reference \
                 that imagePullSecret",
                go_quote(secret)
            ));
        }
    }
    Ok(())
}

/// A volume with the account's token, and a mount of it in every container that has none there.
fn mount_token(spec: &mut Value) {
    let existing = items(&spec["volumes"])
        .iter()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", random_suffix()));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        // Not by index: that would add what is not there.
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let there = |mount: &Value| text(mount, "/mountPath") == TOKEN_PATH;
            if items(&container["volumeMounts"]).iter().any(there) {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                mounted = true;
            }
        }
    }
    if mounted
        && existing.is_none()
        && let Some(volumes) = list_mut(spec, "volumes")
    {
        volumes.push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
            "defaultMode": 0o644,
        },
    })
}

/// Five letters that spell nothing.
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = rand::random::<u64>();
    std::iter::repeat_with(|| {
        let letter = LETTERS[(number % LETTERS.len() as u64) as usize];
        number /= LETTERS.len() as u64;
        char::from(letter)
    })
    .take(5)
    .collect()
}
