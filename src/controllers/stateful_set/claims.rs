//! The claims of a pod's volumes, and who owns them: nobody, the set or the pod, by the retention
//! policy. Pure.

use super::identity::{in_range, is_member, pod_name};
use crate::client::{Kind, kinds};
use crate::controllers::ownership::controller_reference;
use crate::runtime::views::{PersistentVolumeClaim, StatefulSet};
use crate::runtime::{Meta, ObjectKey, OwnerReference, Store};
use serde_json::{Value, json};
use std::sync::Arc;

/// The claims that are there.
pub trait Claims {
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
}

impl Claims for Store<PersistentVolumeClaim> {
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.get(&ObjectKey::new(namespace, name))
    }
}

pub fn claim_name(set: &StatefulSet, template: &Value, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template["metadata"]["name"].as_str().unwrap_or_default(), set.meta.name)
}

/// Whether a claim of this name is one of a set's.
pub fn is_of(set: &StatefulSet, claim: &str) -> bool {
    set.spec.volume_claim_templates.iter().any(|template| {
        let prefix = template["metadata"]["name"].as_str().unwrap_or_default();
        let pod = claim.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        pod.is_some_and(|pod| is_member(&set.meta.name, pod))
    })
}

/// The claim of a place, as it is made.
pub fn claim(set: &StatefulSet, template: &Value, ordinal: i32) -> Value {
    let mut claim = template.clone();
    claim["metadata"]["name"] = claim_name(set, template, ordinal).into();
    claim["metadata"]["namespace"] = (*set.meta.namespace).into();
    for (key, value) in &set.spec.selector.match_labels {
        claim["metadata"]["labels"][key] = value.as_str().into();
    }
    if let Some(claim) = claim.as_object_mut() {
        claim.remove("status");
    }
    claim
}

/// What a claim of a place needs.
#[derive(Debug, PartialEq)]
pub enum Need {
    Made,
    /// These `ownerReferences`; `conflict`: another controller has it, and the policy cannot be kept.
    Owners {
        references: Vec<Value>,
        conflict: bool,
    },
    /// It goes: its successor can only be made then.
    Gone,
}

/// None: nothing. `pod`: of the place, where there is one.
fn need(set: &StatefulSet, template: &Value, ordinal: i32, pod: Option<&Meta>, claims: &impl Claims) -> Option<Need> {
    let Some(claim) = claims.find(&set.meta.namespace, &claim_name(set, template, ordinal)) else {
        return Some(Need::Made);
    };
    if claim.meta.is_deleting() {
        return Some(Need::Gone);
    }
    owners(set, ordinal, pod, &claim.meta)
}

/// What the claims of a place need, by their templates.
pub fn needs<'a>(
    set: &'a StatefulSet,
    ordinal: i32,
    pod: Option<&Meta>,
    claims: &impl Claims,
) -> Vec<(&'a Value, Need)> {
    let templates = set.spec.volume_claim_templates.iter();
    templates.filter_map(|template| Some((template, need(set, template, ordinal, pod, claims)?))).collect()
}

/// Whether a claim of a place is still owned by an earlier pod, with which it goes.
pub fn is_stale(set: &StatefulSet, ordinal: i32, claims: &impl Claims) -> bool {
    &*set.spec.persistent_volume_claim_retention_policy.when_scaled == "Delete"
        && set.spec.volume_claim_templates.iter().any(|template| {
            let claim = claims.find(&set.meta.namespace, &claim_name(set, template, ordinal));
            let pod = pod_name(set, ordinal);
            claim.is_some_and(|claim| claim.meta.owner_references.iter().any(|owner| names(owner, &kinds::PODS, &pod)))
        })
}

fn names(reference: &OwnerReference, kind: &Kind, name: &str) -> bool {
    reference.kind == kind.kind && reference.api_version == kind.api_version() && reference.name == name
}

/// Whether the policy cannot be kept: another controller has the claim, or an earlier set or pod of the same name.
pub fn is_contested(set: &StatefulSet, ordinal: i32, pod: Option<&Meta>, claim: &Meta) -> bool {
    let policy = &set.spec.persistent_volume_claim_retention_policy;
    let pod_name = pod_name(set, ordinal);
    let ours = [
        (&kinds::STATEFUL_SETS, &*set.meta.name, &*set.meta.uid),
        (&kinds::PODS, &*pod_name, pod.map_or("", |pod| &*pod.uid)),
    ];
    (&*policy.when_scaled == "Delete" || &*policy.when_deleted == "Delete")
        && claim.owner_references.iter().any(|reference| {
            match ours.iter().find(|(kind, name, _)| names(reference, kind, name)) {
                Some((.., uid)) => *uid != &*reference.uid,
                None => reference.controller,
            }
        })
}

/// None: they are right, or not to be touched.
pub fn owners(set: &StatefulSet, ordinal: i32, pod: Option<&Meta>, claim: &Meta) -> Option<Need> {
    let pod_name = pod_name(set, ordinal);
    let pod_uid = pod.map_or("", |pod| &*pod.uid);
    // The two that the policy may name: kind, name, uid, whether it is to own.
    let policy = &set.spec.persistent_volume_claim_retention_policy;
    let (on_scaling, on_deletion) = (&*policy.when_scaled == "Delete", &*policy.when_deleted == "Delete");
    let scaled_down = !in_range(set, ordinal);
    let candidates = [
        (&kinds::STATEFUL_SETS, &*set.meta.name, &*set.meta.uid, on_deletion && !(on_scaling && scaled_down)),
        (&kinds::PODS, &*pod_name, pod_uid, on_scaling && scaled_down),
    ];
    let of = |reference: &OwnerReference| candidates.into_iter().find(|(kind, name, ..)| names(reference, kind, name));
    let is_stale = |reference: &OwnerReference| of(reference).is_some_and(|(_, _, uid, _)| uid != &*reference.uid);
    if claim.owner_references.iter().any(is_stale) {
        // Of an earlier set or pod, with which the claim may go: not touched.
        return None;
    }
    let others = claim.owner_references.iter().filter(|reference| of(reference).is_none());
    let conflict = is_contested(set, ordinal, pod, claim);
    let is_right = candidates.iter().all(|(.., uid, wanted)| {
        let mut found = claim.owner_references.iter().filter(|reference| &*reference.uid == *uid);
        let found = found.next();
        found.is_some() == (*wanted && !conflict) && found.is_none_or(|reference| reference.controller)
    });
    if is_right {
        return None;
    }
    let mut references: Vec<Value> = others.map(reference).collect();
    for (kind, name, uid, wanted) in candidates {
        if wanted && !conflict && !uid.is_empty() {
            let meta = Meta { name: name.into(), uid: uid.into(), ..Meta::default() };
            references.push(controller_reference(kind, &meta));
        }
    }
    Some(Need::Owners { references, conflict })
}

/// Give a claim the owners that the policy asks for. Whether it had others.
pub fn give_owners(set: &StatefulSet, ordinal: i32, pod: Option<&Meta>, claim: &mut Value) -> bool {
    let Ok(meta) = serde_json::from_value::<Meta>(claim["metadata"].clone()) else { return false };
    let Some(Need::Owners { references, .. }) = owners(set, ordinal, pod, &meta) else { return false };
    claim["metadata"]["ownerReferences"] = references.into();
    true
}

fn reference(owner: &OwnerReference) -> Value {
    let mut reference =
        json!({ "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": &*owner.uid });
    for (field, value) in [("controller", owner.controller), ("blockOwnerDeletion", owner.block_owner_deletion)] {
        if value {
            reference[field] = true.into();
        }
    }
    reference
}
