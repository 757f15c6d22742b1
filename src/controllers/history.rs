//! The versions of a workload's template, kept as ControllerRevisions: what DaemonSets and
//! StatefulSets roll to and back from.
//!
//! A revision is never changed but for its number and labels: going back to an old template gives
//! its revision the highest number. Source: `pkg/controller/history`.

use super::ownership::{claim_all, controller_reference};
use super::seen::modify;
use crate::client::{self, DeleteOptions, Kind, Objects, is_already_exists, kinds};
use crate::runtime::views::ControllerRevision;
use crate::runtime::{LabelSelector, Meta, Projection, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// On pods and revisions: which revision a pod was made from.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// The revisions of one kind of owner.
pub struct History {
    pub objects: Objects,
    pub revisions: Arc<Store<ControllerRevision>>,
    /// Of the owners.
    pub kind: Kind,
    /// Where a revision keeps its hash.
    pub label: &'static str,
}

/// A revision to be made.
pub struct NewRevision {
    pub hash: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub data: Value,
    pub number: i64,
}

/// The strategic merge patch that brings an owner's template back.
pub fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

/// The template that a revision's [`data`] brings back.
pub fn template(revision: &ControllerRevision) -> Value {
    let mut template = revision.data["spec"]["template"].clone();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    template
}

/// The hash a revision is known by on pods.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    revision.meta.label(HASH_LABEL).unwrap_or_default()
}

/// The number of what comes after these.
pub fn next_number(revisions: &[Arc<ControllerRevision>]) -> i64 {
    revisions.iter().map(|revision| revision.revision).max().unwrap_or_default() + 1
}

/// Those of `old` beyond the limit, the oldest first; one that pods still run is kept.
pub fn surplus(
    mut old: Vec<Arc<ControllerRevision>>,
    limit: usize,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let count = old.len().saturating_sub(limit);
    sort(&mut old);
    old.into_iter().filter(|revision| !is_live(revision)).take(count).collect()
}

/// An owner's name may leave no room for the hash.
fn name(owner: &str, hash: &str) -> String {
    const LONGEST: usize = 223;
    format!("{}-{hash}", &owner[..owner.len().min(LONGEST)])
}

fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|one, two| {
        one.revision.cmp(&two.revision).then_with(|| one.meta.age_order().cmp(&two.meta.age_order()))
    });
}

impl History {
    /// The owner's revisions, oldest first, after adopting and releasing.
    pub async fn of(&self, owner: &Meta, selector: &LabelSelector) -> anyhow::Result<Vec<Arc<ControllerRevision>>> {
        let mut owned = claim_all(&self.objects, &self.kind, owner, Some(selector), &self.revisions, |_| true).await?;
        sort(&mut owned);
        Ok(owned)
    }

    /// None: another revision has the name; the owner's collision count must grow.
    pub async fn create(&self, owner: &Meta, new: NewRevision) -> anyhow::Result<Option<Arc<ControllerRevision>>> {
        let name = name(&owner.name, &new.hash);
        let mut labels = new.labels;
        labels.insert(self.label.to_owned(), new.hash);
        let object = json!({
            "metadata": {
                "name": name,
                "namespace": &*owner.namespace,
                "labels": labels,
                "annotations": new.annotations,
                "ownerReferences": [controller_reference(&self.kind, owner)],
            },
            "data": new.data,
            "revision": new.number,
        });
        match self.objects.create(&kinds::CONTROLLER_REVISIONS, &owner.namespace, object).await {
            Ok(made) => Ok(Some(read(&made)?)),
            Err(error) if is_already_exists(&error) => {
                // Perhaps made by us a moment ago, and not in the cache yet.
                let Some(live) = self.objects.find(&kinds::CONTROLLER_REVISIONS, &owner.namespace, &name).await? else {
                    return Err(error.into());
                };
                let live = read(&live)?;
                Ok((*live.data == new.data).then_some(live))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub async fn renumber(&self, revision: &ControllerRevision, number: i64) -> anyhow::Result<()> {
        self.change(revision, |live| live["revision"] = number.into()).await
    }

    pub async fn label(&self, revision: &ControllerRevision, hash: &str) -> anyhow::Result<()> {
        self.change(revision, |live| live["metadata"]["labels"][self.label] = hash.into()).await
    }

    pub async fn delete(&self, revision: &ControllerRevision) -> anyhow::Result<()> {
        let meta = &revision.meta;
        let options = DeleteOptions::of(&meta.uid);
        self.objects.delete_as_seen(&kinds::CONTROLLER_REVISIONS, &meta.namespace, &meta.name, &options).await?;
        Ok(())
    }

    async fn change(&self, revision: &ControllerRevision, change: impl Fn(&mut Value)) -> anyhow::Result<()> {
        let change = |live: &mut Value| {
            let before = live.clone();
            change(live);
            *live != before
        };
        modify(&self.objects, &kinds::CONTROLLER_REVISIONS, &revision.meta, "", change).await.map(drop)
    }
}

fn read(object: &Value) -> anyhow::Result<Arc<ControllerRevision>> {
    Ok(Arc::new(ControllerRevision::project(client::typed(object)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64) -> Arc<ControllerRevision> {
        let object = json!({ "metadata": { "name": name, "labels": { HASH_LABEL: name } }, "revision": number });
        read(&object).expect("a revision")
    }

    #[test]
    fn the_oldest_go_first_and_those_in_use_stay() {
        let all = vec![revision("c", 3), revision("a", 1), revision("d", 4), revision("b", 2)];
        assert_eq!(next_number(&all), 5);
        let names = |limit: usize, live: &str| -> Vec<String> {
            let gone = surplus(all.clone(), limit, |revision| hash_of(revision) == live);
            gone.iter().map(|revision| revision.meta.name.to_string()).collect()
        };
        assert_eq!(names(4, ""), Vec::<String>::new());
        assert_eq!(names(2, ""), ["a", "b"]);
        assert_eq!(names(2, "a"), ["b", "c"]);
        assert_eq!(names(0, "d"), ["a", "b", "c"]);
    }

    #[test]
    fn a_long_name_leaves_room_for_the_hash() {
        assert_eq!(name("web", "86f8"), "web-86f8");
        let cut = name(&"a".repeat(253), "86f8fbc6f9");
        assert_eq!((cut.len(), &cut[220..]), (234, "aaa-86f8fbc6f9"));
    }

    #[test]
    fn the_data_replaces_the_template() {
        let template = json!({ "metadata": { "labels": { "app": "a" } }, "spec": {} });
        let expected = json!({ "spec": { "template": {
            "$patch": "replace", "metadata": { "labels": { "app": "a" } }, "spec": {},
        } } });
        assert_eq!(data(&template), expected);
        assert_eq!(next_number(&[]), 1);
    }
}
