//! Defaults of a spec: those of every PodSpec, and those of a Pod alone.

use super::pod_resources::aggregate;
use super::resource_requirements::{is_huge_pages, is_pod_level, may_overcommit};
use super::{CONTAINER_LISTS, volumes};
use crate::api::{Fields, FieldsMut, Quantity, quantity};
use crate::resources::core::persistent_volume_claim;
use serde_json::{Map, Value, json};

/// Names of repositories are no longer, their registry included.
const REFERENCE_LIMIT: usize = 255;
/// 0644
const VOLUME_MODE: i64 = 0o644;

/// Of a spec wherever it is: `SetDefaults_PodSpec` and all below it.
pub fn spec(spec: &mut Value) {
    // The old name of serviceAccountName is an alias, both ways.
    let account = spec.str_at("serviceAccountName");
    let account = if account.is_empty() { spec.str_at("serviceAccount") } else { account };
    if account.is_empty() {
        spec.clear("serviceAccount");
    } else {
        let account = account.to_owned();
        spec.set("serviceAccountName", account.as_str());
        spec.set("serviceAccount", account);
    }
    for volume in spec.items_mut("volumes") {
        self::volume(volume);
    }
    for (list, _) in CONTAINER_LISTS {
        for container in spec.items_mut(list) {
            self::container(container);
        }
    }
    spec.set_default_str("dnsPolicy", "ClusterFirst");
    spec.set_default_str("restartPolicy", "Always");
    spec.set_default("securityContext", json!({}));
    spec.set_default("terminationGracePeriodSeconds", 30);
    spec.set_default_str("schedulerName", "default-scheduler");
    if let Some(resources) = spec.get_mut("resources") {
        round_requirements(resources);
    }
    resource_list(spec, "overhead");
}

/// Of the spec of a Pod, after [`spec`].
pub fn pod(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in spec.items_mut(list) {
            if let Some(resources) = container.get_mut("resources") {
                requests_from_limits(resources);
            }
        }
    }
    huge_page_limits(spec);
    pod_requests(spec);
    spec.set_default("enableServiceLinks", true);
    if spec.bool_at("hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in spec.items_mut(list) {
                for port in container.items_mut("ports") {
                    let number = port.int_at("containerPort");
                    if number != 0 {
                        port.set_default_int("hostPort", number);
                    }
                }
            }
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let limits = resources.map_at("limits").clone();
    if limits.is_empty() {
        return;
    }
    let requests = resources.object_mut("requests");
    for (name, limit) in limits {
        requests.set_default(&name, limit);
    }
}

fn huge_page_limits(spec: &mut Value) {
    let Some(resources) = spec.get_set("resources") else { return };
    if resources.map_at("limits").is_empty() && resources.map_at("requests").is_empty() {
        return;
    }
    let missing: Vec<(String, Quantity)> = aggregate(spec, "limits")
        .into_iter()
        .filter(|(name, _)| is_huge_pages(name))
        .filter(|(name, _)| !["limits", "requests"].iter().any(|list| resources.at(list).has(name)))
        .collect();
    for (name, amount) in missing {
        spec["resources"].object_mut("limits").set(&name, amount.to_string());
    }
}

fn pod_requests(spec: &mut Value) {
    let Some(resources) = spec.get_set("resources") else { return };
    let limits = resources.map_at("limits").clone();
    if limits.is_empty() {
        return;
    }
    let mut requests: Map<String, Value> = resources.map_at("requests").clone();
    for (name, amount) in aggregate(spec, "requests") {
        if is_pod_level(&name) && may_overcommit(&name) {
            requests.entry(name).or_insert_with(|| amount.to_string().into());
        }
    }
    for (name, limit) in limits {
        if is_pod_level(&name) {
            requests.entry(name).or_insert(limit);
        }
    }
    if !requests.is_empty() {
        spec["resources"].set("requests", requests);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(container.str_at("image"));
    container.set_default_str("imagePullPolicy", policy);
    container.set_default_str("terminationMessagePath", "/dev/termination-log");
    container.set_default_str("terminationMessagePolicy", "File");
    for port in container.items_mut("ports") {
        port.set_default_str("protocol", "TCP");
    }
    for variable in container.items_mut("env") {
        if let Some(source) = variable.set_mut("valueFrom") {
            field_reference(source);
            if let Some(reference) = source.set_mut("resourceFieldRef") {
                reference.set_default("divisor", "0");
            }
            if let Some(reference) = source.set_mut("fileKeyRef") {
                reference.set_default("optional", false);
            }
        }
    }
    container.set_default("resources", json!({}));
    if let Some(resources) = container.get_mut("resources") {
        round_requirements(resources);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.set_mut(field) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = container.set_mut("lifecycle") {
        for field in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get_mut(field) {
                http_get(hook);
            }
        }
    }
}

/// A tag that moves is pulled always: `latest`, or none.
pub fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match tag {
        None if !digest && is_reference(image) => "Always",
        Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

/// What has no tag has none because it says so, not because it is no image reference at all.
fn is_reference(image: &str) -> bool {
    let name = image.split_once('/').map_or(image, |(_, rest)| rest);
    !image.is_empty()
        && "docker.io/library/".len() + image.len() <= REFERENCE_LIMIT
        && image.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'/' | b':'))
        && !name.bytes().any(|c| c.is_ascii_uppercase())
        && image.split('/').all(|part| {
            part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
                && part.bytes().last().is_some_and(|c| c.is_ascii_alphanumeric())
        })
}

fn probe(probe: &mut Value) {
    probe.set_default_int("timeoutSeconds", 1);
    probe.set_default_int("periodSeconds", 10);
    probe.set_default_int("successThreshold", 1);
    probe.set_default_int("failureThreshold", 3);
    http_get(probe);
    if let Some(action) = probe.set_mut("grpc") {
        action.set_default("service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(action) = handler.set_mut("httpGet") {
        action.set_default_str("path", "/");
        action.set_default_str("scheme", "HTTP");
    }
}

fn field_reference(holder: &mut Value) {
    if let Some(reference) = holder.set_mut("fieldRef") {
        reference.set_default_str("apiVersion", "v1");
    }
}

fn volume(volume: &mut Value) {
    if !volumes::has_source(volume) {
        volume.set("emptyDir", json!({}));
    }
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.set_mut(field) {
            source.set_default("defaultMode", VOLUME_MODE);
        }
    }
    volume_sources(volume);
}

/// Of the sources that a volume, or a PersistentVolume's spec, has among its fields.
pub fn volume_sources(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    for (name, source) in fields.iter_mut().filter(|(_, source)| source.is_object()) {
        match name.as_str() {
            "hostPath" => source.set_default("type", ""),
            "downwardAPI" => files(source),
            "projected" => {
                for projection in source.items_mut("sources") {
                    if let Some(api) = projection.get_mut("downwardAPI") {
                        files(api);
                    }
                    if let Some(token) = projection.set_mut("serviceAccountToken") {
                        token.set_default("expirationSeconds", 3600);
                    }
                }
            }
            "iscsi" => source.set_default_str("iscsiInterface", "default"),
            "rbd" => {
                source.set_default_str("pool", "rbd");
                source.set_default_str("user", "admin");
                source.set_default_str("keyring", "/etc/ceph/keyring");
            }
            "azureDisk" => {
                source.set_default("cachingMode", "ReadWrite");
                source.set_default("kind", "Shared");
                source.set_default("fsType", "ext4");
                source.set_default("readOnly", false);
            }
            "scaleIO" => {
                source.set_default_str("storageMode", "ThinProvisioned");
                source.set_default_str("fsType", "xfs");
            }
            "image" => {
                let policy = pull_policy(source.str_at("reference"));
                source.set_default_str("pullPolicy", policy);
            }
            "ephemeral" => {
                if let Some(template) = source.set_mut("volumeClaimTemplate") {
                    persistent_volume_claim::default_spec(template.object_mut("spec"));
                }
            }
            _ => {}
        }
    }
}

fn files(source: &mut Value) {
    for file in source.items_mut("items") {
        field_reference(file);
        if let Some(reference) = file.set_mut("resourceFieldRef") {
            reference.set_default("divisor", "0");
        }
    }
}

pub fn round_requirements(resources: &mut Value) {
    resource_list(resources, "limits");
    resource_list(resources, "requests");
}

/// Amounts are kept to the thousandth: `SetDefaults_ResourceList`.
pub fn resource_list(holder: &mut Value, field: &str) {
    let Some(list) = holder.get_mut(field).and_then(Value::as_object_mut) else { return };
    for amount in list.values_mut() {
        let mut parsed = Quantity::of(amount);
        parsed.round_up(quantity::MILLI);
        let text = parsed.to_string();
        if amount.as_str() != Some(text.as_str()) {
            *amount = text.into();
        }
    }
}
