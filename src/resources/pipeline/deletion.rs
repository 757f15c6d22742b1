//! Deletion in steps: grace periods, finalizers, propagation; `rest.BeforeDelete` and the
//! decisions of `registry.Store.Delete` as pure functions.

use super::{generation, is_being_deleted, metadata, metadata_str, metadata_strings};
use crate::api::{FieldError, GroupResource, GroupVersionKind, Path, Status, time};
use crate::resources::Row;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const ORPHAN_FINALIZER: &str = "orphan";
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`, as far as a deletion depends on them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
}

impl DeleteOptions {
    /// `ValidateDeleteOptions`.
    pub fn validate(&self) -> Result<(), Status> {
        let mut errors = Vec::new();
        let path = Path::new("propagationPolicy");
        if let (Some(policy), Some(_)) = (&self.propagation_policy, self.orphan_dependents) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy.as_str(), detail));
        }
        if let Some(policy) = &self.propagation_policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&path, policy.as_str(), &supported));
        }
        if self.dry_run.iter().any(|value| value != "All") {
            errors.push(FieldError::not_supported(&Path::new("dryRun"), json!(self.dry_run), &["All"]));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions"), "", &errors))
    }

    /// The 409 of a precondition that does not hold.
    pub fn check_preconditions(&self, row: &Row, object: &Value, resource_version: &str) -> Result<(), Status> {
        // The kind stands where the resource should: Kubernetes does so, too.
        let conflict = |detail: String| {
            let kind = GroupResource::new(&row.stored.group, &row.kind);
            Err(Status::conflict(&kind, metadata_str(object, "name"), &detail))
        };
        let uid = metadata_str(object, "uid");
        if let Some(wanted) = &self.uid
            && wanted != uid
        {
            return conflict(format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ));
        }
        if let Some(wanted) = &self.resource_version
            && wanted != resource_version
        {
            return conflict(format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({resource_version}). The object might have been modified"
            ));
        }
        Ok(())
    }
}

/// What a deletion does to the object now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes as it is.
    Remove,
    /// The changed object is stored, then goes.
    UpdateThenRemove,
    /// The changed object is stored and stays, until its finalizers are gone or its node says so.
    Update,
    /// It is being deleted already, and this request changes nothing.
    Pending,
}

/// Marks `object` as the options ask and says what comes next.
pub fn begin(row: &Row, object: &mut Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let graceful = match graceful(row, object, options, now) {
        Graceful::Pending => return Step::Pending,
        Graceful::No => None,
        Graceful::After(period) => Some(period),
    };
    let finalizers = finalizers(row, object, options);
    let pending = !finalizers.is_empty();
    let before: Vec<String> = metadata_strings(object, "finalizers").into_iter().map(str::to_owned).collect();
    let changes = before != finalizers;
    if changes {
        if finalizers.is_empty() {
            metadata(object).remove("finalizers");
        } else {
            metadata(object).insert("finalizers".to_owned(), json!(finalizers));
        }
    }
    match graceful {
        Some(0) if !pending => Step::UpdateThenRemove,
        Some(_) => Step::Update,
        None if pending => {
            mark(object, now);
            Step::Update
        }
        None => Step::Remove,
    }
}

enum Graceful {
    /// The kind knows no grace, or the object is past it.
    No,
    /// Deletion is under way, and this request does not shorten it.
    Pending,
    /// The object was marked to go after so many seconds.
    After(i64),
}

fn graceful(row: &Row, object: &mut Value, options: &DeleteOptions, now: Timestamp) -> Graceful {
    // A negative period is read as one second.
    let requested = options.grace_period_seconds.map(|period| if period < 0 { 1 } else { period });
    let Some(period) = row.strategy.grace_period_seconds(object, requested) else { return Graceful::No };
    if is_being_deleted(object) {
        let current = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        if current == 0 {
            return Graceful::No;
        }
        // Only a shorter period has an effect, counted from when the deletion began.
        let Some(shorter) = requested.filter(|&period| period < current) else { return Graceful::Pending };
        let end: Timestamp = metadata_str(object, "deletionTimestamp").parse().unwrap_or(now);
        let end = end.saturating_add(SignedDuration::from_secs(shorter - current)).unwrap_or(end);
        set_deletion(object, end, shorter);
        return Graceful::After(shorter);
    }
    let end = now.saturating_add(SignedDuration::from_secs(period)).unwrap_or(now);
    set_deletion(object, end, period);
    count_up(object);
    Graceful::After(period)
}

fn set_deletion(object: &mut Value, at: Timestamp, period: i64) {
    let metadata = metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), Value::String(time::seconds(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(period));
}

fn count_up(object: &mut Value) {
    let next = generation(object) + 1;
    if next > 1 {
        metadata(object).insert("generation".to_owned(), json!(next));
    }
}

/// A kind without grace that waits for finalizers: deletion began now.
fn mark(object: &mut Value, now: Timestamp) {
    if !is_being_deleted(object) {
        count_up(object);
    }
    let earlier = metadata_str(object, "deletionTimestamp").parse().ok().filter(|time: &Timestamp| *time <= now);
    set_deletion(object, earlier.unwrap_or(now), 0);
}

/// The finalizers once the propagation policy is among them.
fn finalizers(row: &Row, object: &Value, options: &DeleteOptions) -> Vec<String> {
    let current = metadata_strings(object, "finalizers");
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
        (None, None) => {
            let orphan = current.contains(&ORPHAN_FINALIZER);
            let foreground = current.contains(&FOREGROUND_FINALIZER);
            (orphan || (!foreground && row.strategy.orphans_dependents()), foreground)
        }
    };
    let mut finalizers: Vec<String> = current
        .iter()
        .filter(|name| !matches!(**name, ORPHAN_FINALIZER | FOREGROUND_FINALIZER))
        .map(|name| (*name).to_owned())
        .collect();
    if orphan {
        finalizers.push(ORPHAN_FINALIZER.to_owned());
    }
    if foreground {
        finalizers.push(FOREGROUND_FINALIZER.to_owned());
    }
    // The same set in another order is no change.
    let same = finalizers.len() == current.len() && finalizers.iter().all(|name| current.contains(&name.as_str()));
    if same { current.into_iter().map(str::to_owned).collect() } else { finalizers }
}

/// An update that took the last finalizer of an object that is being deleted removes it.
pub fn ends_with_update(object: &Value, old: &Value) -> bool {
    is_being_deleted(object)
        && metadata_strings(object, "finalizers").is_empty()
        && old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
}
