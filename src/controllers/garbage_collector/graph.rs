//! Who owns whom: what the watches of all kinds say, and what to look at after each change. Pure.

use crate::api::gvk::split_api_version;
use crate::client::Kind;
use crate::runtime::{Meta, ObjectKey};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub kind: Arc<Kind>,
    pub key: ObjectKey,
    pub uid: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub group: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Arc<str>,
    pub blocks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub identity: Identity,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    /// Has the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// Has the finalizer `orphan`.
    pub orphan: bool,
}

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

impl Node {
    pub fn new(kind: &Arc<Kind>, meta: &Meta) -> Self {
        let has = |finalizer: &str| meta.finalizers.iter().any(|own| own == finalizer);
        Self {
            identity: Identity { kind: kind.clone(), key: meta.key(), uid: meta.uid.clone() },
            owners: meta
                .owner_references
                .iter()
                .map(|owner| Owner {
                    group: split_api_version(&owner.api_version).0.into(),
                    kind: owner.kind.as_str().into(),
                    name: owner.name.as_str().into(),
                    uid: owner.uid.clone(),
                    blocks: owner.block_owner_deletion,
                })
                .collect(),
            deleting: meta.is_deleting(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    /// Waits for its dependents to go first.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Arc<str>, Node>,
    /// Owner to dependents; the owner need not be known.
    dependents: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> Vec<Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid).cloned()).collect()
    }

    /// Everything that could need work.
    pub fn all_with_owners(&self) -> Vec<Identity> {
        let owned = self.nodes.values().filter(|node| !node.owners.is_empty() || node.deleting);
        owned.map(|node| node.identity.clone()).collect()
    }

    /// Whether anything about a node asks for a live look.
    pub fn needs_look(&self, uid: &str) -> bool {
        let Some(node) = self.nodes.get(uid) else { return false };
        (node.deleting && (node.foreground || node.orphan))
            || node
                .owners
                .iter()
                .any(|owner| self.nodes.get(&owner.uid).is_none_or(|owner| owner.waits_for_dependents()))
    }

    /// An object was added or changed; what to look at now.
    pub fn apply(&mut self, node: Node) -> Vec<Identity> {
        let uid = node.identity.uid.clone();
        let old = self.nodes.insert(uid.clone(), node.clone());
        let mut look = Vec::new();
        if let Some(old) = &old {
            for owner in &old.owners {
                if !node.owners.iter().any(|new| new.uid == owner.uid) {
                    self.unlink(&owner.uid, &uid);
                }
            }
            // A dependent that blocks no more may free its owner.
            self.waiting_owners(old, &mut look);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if node.waits_for_dependents() {
            look.extend(self.dependents(&uid).into_iter().map(|dependent| dependent.identity));
        }
        if self.needs_look(&uid) {
            look.push(node.identity);
        }
        look
    }

    /// An object is gone; what to look at now.
    pub fn remove(&mut self, uid: &str) -> Vec<Identity> {
        let Some(old) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &old.owners {
            self.unlink(&owner.uid, uid);
        }
        let mut look: Vec<Identity> = self.dependents(uid).into_iter().map(|dependent| dependent.identity).collect();
        self.waiting_owners(&old, &mut look);
        look
    }

    /// The UIDs of a kind that are not in `seen`.
    pub fn missing(&self, kind: &Kind, seen: &HashSet<Arc<str>>) -> Vec<Arc<str>> {
        self.nodes
            .values()
            .filter(|node| *node.identity.kind == *kind && !seen.contains(&node.identity.uid))
            .map(|node| node.identity.uid.clone())
            .collect()
    }

    fn waiting_owners(&self, dependent: &Node, look: &mut Vec<Identity>) {
        let owners = dependent.owners.iter().filter_map(|owner| self.nodes.get(&owner.uid));
        look.extend(owners.filter(|owner| owner.waits_for_dependents()).map(|owner| owner.identity.clone()));
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// What becomes of an object whose owners were looked up.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Some owner is left: drop the references to those that are gone or wait for it.
    Detach(Vec<Arc<str>>),
    /// No owner is left.
    Delete,
    /// Only owners that wait for it are left: it goes first, and its own dependents before it.
    DeleteForeground,
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Solid,
    Gone,
    Waiting,
}

pub fn verdict(owners: &[(Arc<str>, Standing)], has_dependents: bool) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    let solid = owners.iter().any(|(_, standing)| *standing == Standing::Solid);
    let others: Vec<Arc<str>> =
        owners.iter().filter(|(_, standing)| *standing != Standing::Solid).map(|(uid, _)| uid.clone()).collect();
    if solid {
        return if others.is_empty() { Verdict::Keep } else { Verdict::Detach(others) };
    }
    let waiting = owners.iter().any(|(_, standing)| *standing == Standing::Waiting);
    if waiting && has_dependents { Verdict::DeleteForeground } else { Verdict::Delete }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::kinds;
    use serde_json::{Value, json};

    fn node(uid: &str, owners: &[&str], change: impl FnOnce(&mut Value)) -> Node {
        let owners: Vec<Value> = owners
            .iter()
            .map(
                |uid| json!({ "apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid, "blockOwnerDeletion": true }),
            )
            .collect();
        let mut meta = json!({ "name": uid, "uid": uid, "ownerReferences": owners });
        change(&mut meta);
        Node::new(&Arc::new(kinds::PODS), &serde_json::from_value(meta).expect("metadata"))
    }

    fn names(look: Vec<Identity>) -> Vec<String> {
        let mut names: Vec<String> = look.into_iter().map(|identity| identity.uid.to_string()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn foreground(meta: &mut Value) {
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        meta["finalizers"] = json!([FOREGROUND]);
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert!(graph.apply(node("owner", &[], |_| {})).is_empty());
        assert!(graph.apply(node("a", &["owner"], |_| {})).is_empty());
        graph.apply(node("b", &["owner"], |_| {}));
        assert_eq!(names(graph.remove("owner")), ["a", "b"]);
        assert!(graph.needs_look("a"));
    }

    #[test]
    fn an_object_with_an_unknown_owner_is_looked_at() {
        let mut graph = Graph::default();
        assert_eq!(names(graph.apply(node("a", &["nobody"], |_| {}))), ["a"]);
        graph.apply(node("nobody", &[], |_| {}));
        assert!(!graph.needs_look("a"), "the owner came later");
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[], |_| {}));
        graph.apply(node("a", &["owner"], |_| {}));
        assert_eq!(names(graph.apply(node("owner", &[], foreground))), ["a", "owner"]);
        assert_eq!(names(graph.remove("a")), ["owner"]);
    }

    #[test]
    fn verdicts() {
        use Standing::{Gone, Solid, Waiting};
        let owners = |standings: &[Standing]| -> Vec<(Arc<str>, Standing)> {
            standings.iter().enumerate().map(|(number, standing)| (number.to_string().into(), *standing)).collect()
        };
        assert_eq!(verdict(&[], false), Verdict::Keep);
        assert_eq!(verdict(&owners(&[Solid]), false), Verdict::Keep);
        assert_eq!(verdict(&owners(&[Solid, Gone]), false), Verdict::Detach(vec!["1".into()]));
        assert_eq!(verdict(&owners(&[Gone]), true), Verdict::Delete);
        assert_eq!(verdict(&owners(&[Gone, Waiting]), true), Verdict::DeleteForeground);
        assert_eq!(verdict(&owners(&[Waiting]), false), Verdict::Delete);
    }
}
