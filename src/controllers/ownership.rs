//! Owning objects: adopt orphans that match, release what matches no more.
//!
//! A cache never justifies an adoption: before the first one the owner is read live and its UID
//! compared. Patches carry the UID of the object they are for.

use crate::client::{Kind, Objects, Patch, is_conflict, is_invalid, is_not_found};
use crate::runtime::views::Selecting;
use crate::runtime::{Change, Expectations, LabelSelector, Meta, ObjectKey, Projection, Store, WorkQueue};
use serde_json::{Value, json};
use std::sync::Arc;

/// The ownerReference of a controlling owner.
pub fn controller_reference(kind: &Kind, owner: &Meta) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "name": &*owner.name,
        "uid": &*owner.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The controlling owner of an object, if it is of this kind.
pub fn owner_key(kind: &Kind, object: &Meta) -> Option<ObjectKey> {
    let owner = object.controller().filter(|owner| owner.kind == kind.kind)?;
    Some(ObjectKey { namespace: object.namespace.clone(), name: owner.name.as_str().into() })
}

/// Whose affair a change is: the owners' before and after it; of what nobody controls (any more), any that selects it.
pub fn owners<P: Projection, O: Selecting>(change: Change<'_, P>, candidates: &Store<O>) -> Vec<ObjectKey> {
    let mut owners: Vec<ObjectKey> = change.states().filter_map(|object| owner_key(&O::KIND, object.meta())).collect();
    if let Some(orphan) = change.new().map(|new| new.meta()).filter(|meta| meta.controller().is_none()) {
        let candidates = candidates.in_namespace(&orphan.namespace);
        let selecting = candidates.iter().filter(|candidate| candidate.selector().matches(&orphan.labels));
        owners.extend(selecting.map(|candidate| candidate.key()));
    }
    owners
}

/// Put the owners that a change is news for on their queue, and take note of what they expect.
pub fn follow<P: Projection, O: Selecting>(
    objects: &Store<P>,
    candidates: &Arc<Store<O>>,
    queue: &Arc<WorkQueue<ObjectKey>>,
    expectations: &Arc<Expectations>,
) {
    let (candidates, queue, expectations) = (candidates.clone(), queue.clone(), expectations.clone());
    objects.on_change(move |change| {
        if let Some(owner) = owner_key(&O::KIND, change.object().meta()) {
            expectations.observe(&owner, change);
        }
        owners(change, &candidates).into_iter().for_each(|owner| queue.add(owner));
    });
}

/// What to do about one object that could be owned.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Owned and matching.
    Keep,
    Adopt,
    Release,
    /// Not this owner's affair.
    Leave,
}

/// `selector`: None matches nothing.
pub fn claim(owner: &Meta, selector: Option<&LabelSelector>, object: &Meta) -> Claim {
    let matches = selector.is_some_and(|selector| selector.matches(&object.labels));
    match object.controller() {
        Some(reference) if *reference.uid == *owner.uid => {
            if matches {
                Claim::Keep
            } else if owner.is_deleting() {
                Claim::Leave
            } else {
                Claim::Release
            }
        }
        Some(_) => Claim::Leave,
        None if matches && !owner.is_deleting() && !object.is_deleting() => Claim::Adopt,
        None => Claim::Leave,
    }
}

/// What an owner claims.
pub struct Claims<'a> {
    pub owner_kind: &'a Kind,
    /// None matches nothing.
    pub selector: Option<&'a LabelSelector>,
    /// What is adopted gets it.
    pub finalizer: Option<&'a str>,
    /// Whether an object can be the owner's, by its name.
    pub is_member: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

/// [`claim_with`] for owners whose objects have no finalizer.
pub async fn claim_all<P: Projection>(
    objects: &Objects,
    owner_kind: &Kind,
    owner: &Meta,
    selector: Option<&LabelSelector>,
    store: &Store<P>,
    eligible: impl Fn(&P) -> bool,
) -> anyhow::Result<Vec<Arc<P>>> {
    claim_with(objects, &Claims { owner_kind, selector, finalizer: None, is_member: &|_| true }, owner, store, eligible)
        .await
}

/// The objects of `store` that belong to `owner`, after adopting and releasing. `eligible` says
/// which orphans may be adopted at all.
pub async fn claim_with<P: Projection>(
    objects: &Objects,
    claims: &Claims<'_>,
    owner: &Meta,
    store: &Store<P>,
    eligible: impl Fn(&P) -> bool,
) -> anyhow::Result<Vec<Arc<P>>> {
    let Claims { owner_kind, selector, finalizer, is_member } = *claims;
    let claim = |object: &Meta| claim(owner, selector.filter(|_| is_member(&object.name)), object);
    let mut owned = Vec::new();
    for object in store.controlled_by(&owner.uid) {
        match claim(object.meta()) {
            Claim::Keep => owned.push(object),
            Claim::Release => release(objects, &P::KIND, owner, object.meta()).await?,
            Claim::Adopt | Claim::Leave => {}
        }
    }
    let mut checked = false;
    for object in store.orphans(&owner.namespace) {
        if !eligible(&object) || claim(object.meta()) != Claim::Adopt {
            continue;
        }
        if !checked {
            if !is_alive(objects, owner_kind, owner).await? {
                break;
            }
            checked = true;
        }
        if adopt(objects, &P::KIND, owner_kind, owner, finalizer, object.meta()).await? {
            owned.push(object);
        }
    }
    Ok(owned)
}

/// Whether the very owner is there and stays.
async fn is_alive(objects: &Objects, kind: &Kind, owner: &Meta) -> anyhow::Result<bool> {
    let Some(live) = objects.find(kind, &owner.namespace, &owner.name).await? else { return Ok(false) };
    Ok(live["metadata"]["uid"].as_str() == Some(&*owner.uid) && live["metadata"]["deletionTimestamp"].is_null())
}

async fn adopt(
    objects: &Objects,
    kind: &Kind,
    owner_kind: &Kind,
    owner: &Meta,
    finalizer: Option<&str>,
    object: &Meta,
) -> anyhow::Result<bool> {
    let mut patch = json!({ "metadata": {
        "uid": &*object.uid,
        "ownerReferences": [controller_reference(owner_kind, owner)],
    } });
    if let Some(finalizer) = finalizer {
        patch["metadata"]["finalizers"] = json!([finalizer]);
    }
    gone_is_fine(objects.patch(kind, &object.namespace, &object.name, "", Patch::Strategic, &patch).await)
}

async fn release(objects: &Objects, kind: &Kind, owner: &Meta, object: &Meta) -> anyhow::Result<()> {
    let patch = json!({ "metadata": {
        "uid": &*object.uid,
        "ownerReferences": [{ "$patch": "delete", "uid": &*owner.uid }],
    } });
    gone_is_fine(objects.patch(kind, &object.namespace, &object.name, "", Patch::Strategic, &patch).await)?;
    Ok(())
}

/// False: the object is gone, or another took its name, or someone else owns it by now.
fn gone_is_fine(result: Result<Value, kube::Error>) -> anyhow::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) || is_conflict(&error) || is_invalid(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(json: Value) -> Meta {
        serde_json::from_value(json).expect("metadata")
    }

    #[test]
    fn claims() {
        let owner = meta(json!({ "name": "rs", "uid": "u1" }));
        let leaving = meta(json!({ "name": "rs", "uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z" }));
        let selector: LabelSelector =
            serde_json::from_value(json!({ "matchLabels": { "app": "a" } })).expect("selector");
        let object = |labels: Value, owner: Value, deleting: bool| {
            let mut object = json!({ "labels": labels, "ownerReferences": owner });
            if deleting {
                object["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            meta(object)
        };
        let own = json!([{ "uid": "u1", "controller": true }]);
        let other = json!([{ "uid": "u2", "controller": true }]);
        let (matching, different) = (json!({ "app": "a" }), json!({ "app": "b" }));
        let check = |owner: &Meta, object: Meta, expected| assert_eq!(claim(owner, Some(&selector), &object), expected);
        check(&owner, object(matching.clone(), own.clone(), false), Claim::Keep);
        check(&owner, object(different.clone(), own.clone(), false), Claim::Release);
        check(&leaving, object(different.clone(), own, false), Claim::Leave);
        check(&owner, object(matching.clone(), other, false), Claim::Leave);
        check(&owner, object(matching.clone(), json!([]), false), Claim::Adopt);
        check(&owner, object(matching.clone(), json!([]), true), Claim::Leave);
        check(&leaving, object(matching, json!([]), false), Claim::Leave);
        check(&owner, object(different, json!([]), false), Claim::Leave);
    }
}
