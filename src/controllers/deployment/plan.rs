//! What a Deployment does next: pure.
//!
//! One call is one sync of `pkg/controller/deployment`: find or make the ReplicaSet of the current
//! template, move replicas between it and the old ones within the bounds of the strategy, clean up
//! history, and say how far it got.

use super::scaling::{max_surge, max_unavailable, new_set_size, proportional};
use super::status::{self, conditions};
use super::working::{REVISION, Working};
use crate::controllers::template_hash::{LABEL, same_template, template_hash};
use crate::runtime::Condition;
use crate::runtime::views::{Deployment, DeploymentStatus, ReplicaSet};
use jiff::Timestamp;
use std::sync::Arc;

/// One write.
#[derive(Clone, Debug)]
pub enum Change {
    /// Make the ReplicaSet of the current template.
    Create(Working),
    /// Another size, annotations or minReadySeconds.
    Update(Working),
    /// Old history.
    Delete(Arc<ReplicaSet>),
    /// `deployment.kubernetes.io/revision` of the Deployment itself.
    Revision(String),
}

#[derive(Debug)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub status: DeploymentStatus,
}

/// `sets`: those the Deployment owns. `old_pods`: whether pods of an old template are still there
/// (for Recreate).
pub fn plan(deployment: &Deployment, sets: &[Arc<ReplicaSet>], old_pods: bool, now: Timestamp) -> Plan {
    let mut planner = Planner::new(deployment, sets, now);
    if deployment.meta.is_deleting() {
        planner.find_new(false);
        let status = status::calculate(deployment, &planner.sets, planner.new, planner.conditions, now);
        return Plan { changes: Vec::new(), status };
    }
    planner.check_paused();
    if deployment.spec.paused {
        planner.find_new(false);
        planner.resize();
        planner.clean_up();
        return planner.finish(false);
    }
    if planner.is_scaling() {
        planner.find_new(false);
        planner.resize();
        return planner.finish(false);
    }
    if &*deployment.spec.strategy.kind == "Recreate" {
        planner.recreate(old_pods);
    } else {
        planner.roll();
    }
    planner.finish(true)
}

struct Planner<'a> {
    deployment: &'a Deployment,
    /// All of them, oldest first.
    sets: Vec<Working>,
    /// Which of `sets` has the current template.
    new: Option<usize>,
    deleted: Vec<Arc<ReplicaSet>>,
    revision: Option<String>,
    conditions: Vec<Condition>,
    now: Timestamp,
}

impl<'a> Planner<'a> {
    fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Self {
        let mut sets: Vec<Working> = sets.iter().map(Working::of).collect();
        sets.sort_by(|one, two| one.created().cmp(&two.created()));
        let conditions = deployment.status.conditions.clone();
        Self { deployment, sets, new: None, deleted: Vec::new(), revision: None, conditions, now }
    }

    fn maximum(&self) -> i32 {
        self.deployment.replicas() + max_surge(self.deployment)
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |index| Some(*index) != new)
    }

    fn scale(&mut self, index: usize, replicas: i32) -> bool {
        let (desired, maximum) = (self.deployment.replicas(), self.maximum());
        self.sets[index].scale(replicas, desired, maximum)
    }

    /// The set of the current template; made when it is missing and `create` says so.
    fn find_new(&mut self, create: bool) {
        let template = &self.deployment.spec.template;
        self.new = self.sets.iter().position(|set| same_template(&set.set.spec.template, template));
        let newest_old = self.old().map(|index| self.sets[index].revision()).max().unwrap_or_default();
        let next = newest_old + 1;
        let tracked = self.deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX);
        if let Some(index) = self.new {
            let set = &mut self.sets[index];
            set.annotate(self.deployment, next);
            set.min_ready_seconds = self.deployment.spec.min_ready_seconds;
            let revision = set.annotations.get(REVISION).cloned();
            if tracked && Condition::find(&self.conditions, "Progressing").is_none() {
                let message = format!("Found new replica set \"{}\"", set.name());
                conditions::set(
                    &mut self.conditions,
                    conditions::progressing("True", "FoundNewReplicaSet", message, self.now),
                );
            }
            self.note_revision(revision);
        } else if create {
            let working = self.new_set(next);
            if tracked {
                let message = format!("Created new replica set \"{}\"", working.name());
                conditions::set(
                    &mut self.conditions,
                    conditions::progressing("True", "NewReplicaSetCreated", message, self.now),
                );
            }
            self.note_revision(Some(next.to_string()));
            self.new = Some(self.sets.len());
            self.sets.push(working);
        }
    }

    fn note_revision(&mut self, revision: Option<String>) {
        if revision.as_deref() != self.deployment.meta.annotation(REVISION) {
            self.revision = revision;
        }
    }

    fn new_set(&self, revision: i64) -> Working {
        let deployment = self.deployment;
        let hash = template_hash(&deployment.spec.template, deployment.status.collision_count);
        let mut template = (*deployment.spec.template).clone();
        template["metadata"]["labels"][LABEL] = hash.as_str().into();
        let mut set = ReplicaSet::default();
        set.meta.name = format!("{}-{hash}", deployment.meta.name).into();
        set.meta.namespace = deployment.meta.namespace.clone();
        set.meta.labels = template["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        set.spec.selector = deployment.spec.selector.clone();
        set.spec.selector.match_labels.insert(LABEL.to_owned(), hash);
        set.spec.template = Arc::new(template);
        set.spec.replicas = Some(0);
        let mut working = Working::of(&Arc::new(set));
        working.is_new = true;
        working.min_ready_seconds = deployment.spec.min_ready_seconds;
        working.annotate(deployment, revision);
        let total: i32 = self.sets.iter().map(|set| set.replicas).sum();
        working.replicas = new_set_size(deployment, total, 0);
        working.note_size(deployment.replicas(), self.maximum());
        working
    }

    fn check_paused(&mut self) {
        let spec = &self.deployment.spec;
        if spec.progress_deadline_seconds.is_none_or(|seconds| seconds == i32::MAX) {
            return;
        }
        let reason = Condition::find(&self.conditions, "Progressing").map(|condition| &*condition.reason);
        if reason == Some("ProgressDeadlineExceeded") {
            return;
        }
        let was_paused = reason == Some("DeploymentPaused");
        let next = match (spec.paused, was_paused) {
            (true, false) => conditions::progressing("Unknown", "DeploymentPaused", "Deployment is paused", self.now),
            (false, true) => conditions::progressing("Unknown", "DeploymentResumed", "Deployment is resumed", self.now),
            _ => return,
        };
        conditions::set(&mut self.conditions, next);
    }

    /// Whether the asked size is not the one that the active sets were sized for.
    fn is_scaling(&self) -> bool {
        self.sets
            .iter()
            .filter(|set| set.replicas > 0)
            .any(|set| set.desired().is_some_and(|desired| desired != self.deployment.replicas()))
    }

    /// Another number of replicas, without rolling on: the one active set takes all, or all active
    /// sets share it in proportion.
    fn resize(&mut self) {
        let wanted = self.deployment.replicas();
        let active: Vec<usize> = (0..self.sets.len()).filter(|&index| self.sets[index].replicas > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.old().last()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(index) = only {
            if self.sets[index].replicas != wanted {
                self.scale(index, wanted);
            }
            return;
        }
        if active.is_empty() {
            return;
        }
        let saturated = self.new.is_some_and(|index| {
            let set = &self.sets[index];
            set.replicas == wanted && set.desired() == Some(wanted) && set.set.status.available_replicas == wanted
        });
        if saturated {
            for index in self.old() {
                if self.sets[index].replicas > 0 {
                    self.scale(index, 0);
                }
            }
        } else if &*self.deployment.spec.strategy.kind != "Recreate" {
            for (index, size) in proportional(self.deployment, &self.sets, &active, self.maximum()) {
                self.scale(index, size);
            }
        }
    }

    fn roll(&mut self) {
        self.find_new(true);
        if self.size_new() || self.shrink_old() {
            return;
        }
        if status::is_complete(self.deployment, &self.deployment.status) {
            self.clean_up();
        }
    }

    fn size_new(&mut self) -> bool {
        let Some(index) = self.new.filter(|&index| !self.sets[index].is_new) else { return self.new.is_some() };
        let total = self.sets.iter().map(|set| set.replicas).sum();
        let size = new_set_size(self.deployment, total, self.sets[index].replicas);
        if size == self.sets[index].replicas {
            return false;
        }
        self.scale(index, size)
    }

    /// Take from the old sets what the bounds allow: first what is not available anyway.
    fn shrink_old(&mut self) -> bool {
        if self.old().map(|index| self.sets[index].replicas).sum::<i32>() == 0 {
            return false;
        }
        let Some(new) = self.new else { return false };
        let total: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let minimum = self.deployment.replicas() - max_unavailable(self.deployment);
        let new_unavailable = self.sets[new].replicas - self.sets[new].set.status.available_replicas;
        let most = total - minimum - new_unavailable;
        if most <= 0 {
            return false;
        }
        let mut unhealthy = 0;
        for index in self.old() {
            let set = &self.sets[index];
            let useless = set.replicas - set.set.status.available_replicas;
            let count = useless.min(most - unhealthy);
            if count > 0 {
                unhealthy += count;
                let size = set.replicas - count;
                self.scale(index, size);
            }
        }
        let available: i32 = self.sets.iter().map(|set| set.set.status.available_replicas).sum();
        let mut left = available - minimum;
        let mut healthy = 0;
        for index in self.old() {
            let count = self.sets[index].replicas.min(left);
            if count > 0 {
                left -= count;
                healthy += count;
                let size = self.sets[index].replicas - count;
                self.scale(index, size);
            }
        }
        unhealthy + healthy > 0
    }

    fn recreate(&mut self, old_pods: bool) {
        self.find_new(false);
        let mut scaled = false;
        for index in self.old() {
            if self.sets[index].replicas > 0 {
                scaled |= self.scale(index, 0);
            }
        }
        let running = old_pods || self.old().any(|index| self.sets[index].set.status.replicas > 0);
        if scaled || running {
            return;
        }
        if self.new.is_none() {
            self.find_new(true);
        }
        if let Some(index) = self.new.filter(|&index| self.sets[index].replicas != self.deployment.replicas()) {
            self.scale(index, self.deployment.replicas());
        }
        if status::is_complete(self.deployment, &self.deployment.status) {
            self.clean_up();
        }
    }

    /// Delete old sets beyond the history limit, lowest revision first.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok())
        else {
            return;
        };
        let mut old: Vec<&Working> =
            self.old().map(|index| &self.sets[index]).filter(|set| !set.set.meta.is_deleting()).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| (set.revision(), set.created().0));
        self.deleted = old
            .into_iter()
            .take(surplus)
            .filter(|working| {
                let set = &working.set;
                set.status.replicas == 0
                    && working.replicas == 0
                    && !working.is_changed()
                    && set.meta.generation <= set.status.observed_generation
            })
            .map(|working| working.set.clone())
            .collect();
    }

    fn finish(mut self, rolling: bool) -> Plan {
        let mut next =
            status::calculate(self.deployment, &self.sets, self.new, std::mem::take(&mut self.conditions), self.now);
        if rolling {
            status::progress(self.deployment, &self.sets, self.new, &mut next, self.now);
        }
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(self.revision.map(Change::Revision));
        changes.extend(self.deleted.into_iter().map(Change::Delete));
        for set in self.sets.into_iter().filter(Working::is_changed) {
            changes.push(if set.is_new { Change::Create(set) } else { Change::Update(set) });
        }
        Plan { changes, status: next }
    }
}
