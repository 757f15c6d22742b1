//! A ReplicaSet while a plan changes it, and the annotations a Deployment keeps on it.

use crate::runtime::views::{Deployment, ReplicaSet};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Of a Deployment, but not for its ReplicaSets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];
const HISTORY_LIMIT: usize = 2000;

/// What the plan makes of one ReplicaSet; compared with the original at the end.
#[derive(Clone, Debug)]
pub struct Working {
    pub set: Arc<ReplicaSet>,
    pub replicas: i32,
    pub annotations: BTreeMap<String, String>,
    pub min_ready_seconds: i32,
    /// Not in the store yet.
    pub is_new: bool,
}

impl Working {
    pub fn of(set: &Arc<ReplicaSet>) -> Self {
        Self {
            replicas: set.replicas(),
            annotations: set.meta.annotations.clone(),
            min_ready_seconds: set.spec.min_ready_seconds,
            set: set.clone(),
            is_new: false,
        }
    }

    pub fn is_changed(&self) -> bool {
        self.is_new
            || self.replicas != self.set.replicas()
            || self.annotations != self.set.meta.annotations
            || self.min_ready_seconds != self.set.spec.min_ready_seconds
    }

    pub fn name(&self) -> &str {
        &self.set.meta.name
    }

    pub fn revision(&self) -> i64 {
        revision_of(&self.annotations)
    }

    pub fn created(&self) -> (Option<Timestamp>, &str) {
        // One that is yet to be made is the youngest.
        let time = if self.is_new { Some(Timestamp::MAX) } else { self.set.meta.creation_timestamp };
        (time, self.name())
    }

    /// What the Deployment asked for when it last sized this set.
    pub fn desired(&self) -> Option<i32> {
        self.annotations.get(DESIRED)?.parse().ok()
    }

    pub fn maximum(&self) -> Option<i32> {
        self.annotations.get(MAXIMUM)?.parse().ok()
    }

    /// Size it, and note what it was sized for.
    pub fn scale(&mut self, replicas: i32, desired: i32, maximum: i32) -> bool {
        let changed = self.replicas != replicas;
        self.replicas = replicas;
        self.note_size(desired, maximum);
        changed
    }

    pub fn note_size(&mut self, desired: i32, maximum: i32) {
        self.annotations.insert(DESIRED.to_owned(), desired.to_string());
        self.annotations.insert(MAXIMUM.to_owned(), maximum.to_string());
    }

    /// Take over the Deployment's annotations and, when it becomes the newest, the next revision.
    pub fn annotate(&mut self, deployment: &Deployment, next_revision: i64) {
        for (key, value) in &deployment.meta.annotations {
            if !NOT_COPIED.contains(&key.as_str()) {
                self.annotations.insert(key.clone(), value.clone());
            }
        }
        let old = self.annotations.get(REVISION).cloned();
        if self.revision() >= next_revision {
            return;
        }
        self.annotations.insert(REVISION.to_owned(), next_revision.to_string());
        if let Some(old) = old.filter(|old| !old.is_empty()) {
            let history = match self.annotations.get(REVISION_HISTORY) {
                Some(history) if history.len() + old.len() + 1 <= HISTORY_LIMIT => format!("{history},{old}"),
                Some(history) => {
                    // The oldest makes room.
                    let rest = history.split_once(',').map_or("", |(_, rest)| rest);
                    if rest.is_empty() { old } else { format!("{rest},{old}") }
                }
                None => old,
            };
            self.annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
}

pub fn revision_of(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or_default()
}
