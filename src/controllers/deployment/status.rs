//! The status of a Deployment: pure.

use super::scaling::max_unavailable;
use super::working::Working;
use crate::runtime::Condition;
use crate::runtime::views::{Deployment, DeploymentStatus};
use jiff::Timestamp;
use std::time::Duration;

/// Conditions with Deployment's rules of change.
pub mod conditions {
    use crate::runtime::Condition;
    use jiff::Timestamp;

    pub fn new(kind: &str, status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> Condition {
        Condition {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into().into(),
            last_transition_time: Some(now),
            last_update_time: Some(now),
            last_heartbeat_time: None,
        }
    }

    pub fn progressing(status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> Condition {
        new("Progressing", status, reason, message, now)
    }

    /// Same status and reason: nothing changes. Same status: it keeps its transition time.
    pub fn set(conditions: &mut Vec<Condition>, mut next: Condition) {
        if let Some(current) = Condition::find(conditions, &next.kind) {
            if current.status == next.status && current.reason == next.reason {
                return;
            }
            if current.status == next.status {
                next.last_transition_time = current.last_transition_time;
            }
        }
        remove(conditions, &next.kind);
        conditions.push(next);
    }

    pub fn remove(conditions: &mut Vec<Condition>, kind: &str) {
        conditions.retain(|condition| &*condition.kind != kind);
    }
}

/// Counts and the condition Available.
pub fn calculate(
    deployment: &Deployment,
    sets: &[Working],
    new: Option<usize>,
    mut conditions: Vec<Condition>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |value: fn(&Working) -> i32| sets.iter().map(value).sum::<i32>();
    let asked = sum(|set| set.replicas);
    let available = sum(|set| set.set.status.available_replicas);
    let minimum = deployment.replicas() - max_unavailable(deployment);
    let next = if available >= minimum {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    conditions::set(&mut conditions, conditions::new("Available", next.0, next.1, next.2, now));
    let terminating =
        sets.iter().map(|set| set.set.status.terminating_replicas).try_fold(0, |sum, count| Some(sum + count?));
    DeploymentStatus {
        observed_generation: deployment.meta.generation,
        replicas: sum(|set| set.set.status.replicas),
        updated_replicas: new.map_or(0, |index| sets[index].set.status.replicas),
        ready_replicas: sum(|set| set.set.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (asked - available).max(0),
        terminating_replicas: terminating.or(Some(0)),
        collision_count: deployment.status.collision_count,
        conditions,
    }
}

fn has_deadline(deployment: &Deployment) -> Option<i64> {
    deployment.spec.progress_deadline_seconds.filter(|&seconds| seconds != i32::MAX).map(i64::from)
}

/// All pods are of the current template and available, and no old ones are left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.replicas();
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.meta.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn has_timed_out(deployment: &Deployment, conditions: &[Condition], now: Timestamp) -> bool {
    let Some(deadline) = has_deadline(deployment) else { return false };
    let Some(condition) = Condition::find(conditions, "Progressing") else { return false };
    match &*condition.reason {
        "NewReplicaSetAvailable" => false,
        "ProgressDeadlineExceeded" => true,
        _ => condition.last_update_time.is_some_and(|since| now.duration_since(since).as_secs() > deadline),
    }
}

/// The conditions Progressing and ReplicaFailure.
pub fn progress(
    deployment: &Deployment,
    sets: &[Working],
    new: Option<usize>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if has_deadline(deployment).is_none() {
        conditions::remove(&mut status.conditions, "Progressing");
    }
    let current = Condition::find(&deployment.status.conditions, "Progressing");
    let was_complete = status.replicas == status.updated_replicas
        && current.is_some_and(|condition| &*condition.reason == "NewReplicaSetAvailable");
    if has_deadline(deployment).is_some() && !was_complete {
        let subject = match new {
            Some(index) => format!("ReplicaSet \"{}\"", sets[index].name()),
            None => format!("Deployment \"{}\"", deployment.meta.name),
        };
        let conditions = &mut status.conditions.clone();
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            conditions::set(conditions, conditions::progressing("True", "NewReplicaSetAvailable", message, now));
        } else if has_progressed(&deployment.status, status) {
            let message = format!("{subject} is progressing.");
            let mut next = conditions::progressing("True", "ReplicaSetUpdated", message, now);
            if let Some(current) = current.filter(|current| &*current.status == "True") {
                next.last_transition_time = current.last_transition_time;
            }
            // The update time restarts the deadline.
            conditions::remove(conditions, "Progressing");
            conditions.push(next);
        } else if has_timed_out(deployment, conditions, now) {
            let message = format!("{subject} has timed out progressing.");
            conditions::set(conditions, conditions::progressing("False", "ProgressDeadlineExceeded", message, now));
        }
        status.conditions = std::mem::take(conditions);
    }
    let failure = new
        .into_iter()
        .chain((0..sets.len()).filter(|index| Some(*index) != new))
        .find_map(|index| Condition::find(&sets[index].set.status.conditions, "ReplicaFailure"));
    match failure {
        Some(failure) => {
            let next = conditions::new("ReplicaFailure", &failure.status, &failure.reason, &*failure.message, now);
            conditions::set(&mut status.conditions, next);
        }
        None => conditions::remove(&mut status.conditions, "ReplicaFailure"),
    }
}

/// When the deadline passes, so that somebody notices.
pub fn next_look(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = has_deadline(deployment)?;
    let condition = Condition::find(&status.conditions, "Progressing")?;
    let over = is_complete(deployment, status)
        || matches!(&*condition.reason, "ProgressDeadlineExceeded" | "NewReplicaSetAvailable");
    if over {
        return None;
    }
    let left = deadline - now.duration_since(condition.last_update_time?).as_secs() + 1;
    Some(Duration::from_secs(u64::try_from(left).unwrap_or_default().max(1)))
}
