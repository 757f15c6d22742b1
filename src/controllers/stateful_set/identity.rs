//! What makes a pod the one of its place: name, labels, host name, claims. Pure.

use super::claims::claim_name;
use crate::client::kinds;
use crate::controllers::history::HASH_LABEL;
use crate::controllers::pod_control::pod_from_template;
use crate::runtime::views::{Pod, StatefulSet};
use serde_json::{Value, json};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The name of the set that a pod is of, and its place in it, by the pod's name.
fn split(pod: &str) -> Option<(&str, i32)> {
    let (set, digits) = pod.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(|ordinal| (set, ordinal))
}

pub fn ordinal(pod: &str) -> Option<i32> {
    split(pod).map(|(_, ordinal)| ordinal)
}

pub fn is_member(set: &str, pod: &str) -> bool {
    split(pod).is_some_and(|(parent, _)| parent == set)
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.meta.name)
}

pub fn in_range(set: &StatefulSet, ordinal: i32) -> bool {
    let start = set.spec.ordinals.start;
    (start..start.saturating_add(set.spec.replicas.unwrap_or(1))).contains(&ordinal)
}

/// Whether a member has the labels and the claims of its place.
pub fn is_itself(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(&pod.meta.name) else { return false };
    has_claims(set, pod, ordinal)
        && pod.meta.label(NAME_LABEL) == Some(&*pod.meta.name)
        && *pod.meta.name == *pod_name(set, ordinal)
}

/// Whether its volumes are the claims of its place.
pub fn has_claims(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    set.spec.volume_claim_templates.iter().all(|template| {
        let name = claim_name(set, template, ordinal);
        pod.claims.iter().any(|claim| **claim == *name)
    })
}

/// The labels and volumes of a place, as a patch of a pod.
pub fn patch(set: &StatefulSet, ordinal: i32) -> Value {
    let mut patch = json!({ "metadata": { "labels": labels(set, ordinal) } });
    if !set.spec.volume_claim_templates.is_empty() {
        patch["spec"] = json!({ "volumes": volumes(set, ordinal) });
    }
    patch
}

fn labels(set: &StatefulSet, ordinal: i32) -> [(&'static str, String); 2] {
    [(NAME_LABEL, pod_name(set, ordinal)), (INDEX_LABEL, ordinal.to_string())]
}

fn volumes(set: &StatefulSet, ordinal: i32) -> Vec<Value> {
    let volume = |template: &Value| {
        json!({
            "name": template["metadata"]["name"],
            "persistentVolumeClaim": { "claimName": claim_name(set, template, ordinal) },
        })
    };
    set.spec.volume_claim_templates.iter().map(volume).collect()
}

/// The pod of a place, of one version of the template.
pub fn pod(set: &StatefulSet, template: &Value, revision: &str, ordinal: i32) -> Value {
    let mut pod = pod_from_template(&kinds::STATEFUL_SETS, &set.meta, template);
    let name = pod_name(set, ordinal);
    for (label, value) in labels(set, ordinal) {
        pod["metadata"]["labels"][label] = value.into();
    }
    pod["metadata"]["labels"][HASH_LABEL] = revision.into();
    pod["metadata"]["name"] = name.as_str().into();
    let mut volumes = volumes(set, ordinal);
    let others = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let is_claimed = |volume: &&Value| {
        set.spec.volume_claim_templates.iter().any(|template| template["metadata"]["name"] == volume["name"])
    };
    let others: Vec<Value> = others.filter(|volume| !is_claimed(volume)).cloned().collect();
    volumes.extend(others);
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = volumes.into();
    }
    pod["spec"]["hostname"] = name.into();
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = (*set.spec.service_name).into();
    }
    pod
}
