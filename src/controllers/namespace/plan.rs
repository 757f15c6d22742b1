//! The conditions of a namespace on its way out: pure.

use crate::api::time::seconds;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the deletion of a namespace's content found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub discovery_error: Option<String>,
    pub content_errors: Vec<String>,
    /// `pods`, `deployments.apps` to how many are left.
    pub remaining: BTreeMap<String, usize>,
    /// Finalizers to how many objects have them.
    pub finalizers: BTreeMap<String, usize>,
    /// Seconds until the longest grace period ends.
    pub wait: Option<i64>,
}

impl Progress {
    pub fn is_done(&self) -> bool {
        self.discovery_error.is_none() && self.content_errors.is_empty() && self.remaining.is_empty()
    }

    /// type, status, reason, message
    fn conditions(&self) -> [(&'static str, bool, &'static str, String); 5] {
        let bad = |kind, reason, message| (kind, true, reason, message);
        let good = |kind, reason, message: &str| (kind, false, reason, message.to_owned());
        let list = |items: &BTreeMap<String, usize>, text: fn(&str, usize) -> String| -> String {
            items.iter().map(|(name, count)| text(name, *count)).collect::<Vec<_>>().join(", ")
        };
        [
            match &self.discovery_error {
                Some(error) => bad(
                    "NamespaceDeletionDiscoveryFailure",
                    "DiscoveryFailed",
                    format!("Discovery failed for some groups, 1 failing: {error}"),
                ),
                None => good(
                    "NamespaceDeletionDiscoveryFailure",
                    "ResourcesDiscovered",
                    "All resources successfully discovered",
                ),
            },
            good(
                "NamespaceDeletionGroupVersionParsingFailure",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            if self.content_errors.is_empty() {
                good(
                    "NamespaceDeletionContentFailure",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                )
            } else {
                let errors = self.content_errors.join(", ");
                bad(
                    "NamespaceDeletionContentFailure",
                    "ContentDeletionFailed",
                    format!("Failed to delete all resource types, {} remaining: {errors}", self.content_errors.len()),
                )
            },
            if self.remaining.is_empty() {
                good("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed")
            } else {
                let left = list(&self.remaining, |name, count| format!("{name} has {count} resource instances"));
                bad("NamespaceContentRemaining", "SomeResourcesRemain", format!("Some resources are remaining: {left}"))
            },
            if self.finalizers.is_empty() {
                good(
                    "NamespaceFinalizersRemaining",
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                )
            } else {
                let left = list(&self.finalizers, |name, count| format!("{name} in {count} resource instances"));
                bad(
                    "NamespaceFinalizersRemaining",
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {left}"),
                )
            },
        ]
    }
}

/// Bring the conditions of a live namespace up to date; false: they say so already.
pub fn set_conditions(namespace: &mut Value, progress: &Progress, now: Timestamp) -> bool {
    if !namespace["status"]["conditions"].is_array() {
        namespace["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = namespace["status"]["conditions"].as_array_mut() else { return false };
    let mut changed = false;
    for (kind, failing, reason, message) in progress.conditions() {
        let status = if failing { "True" } else { "False" };
        let existing = conditions.iter_mut().find(|condition| condition["type"] == kind);
        match existing {
            Some(condition) => {
                if condition["status"] != status {
                    condition["lastTransitionTime"] = seconds(now).into();
                }
                let same = condition["status"] == status
                    && condition["reason"] == reason
                    && condition["message"] == message.as_str();
                if !same {
                    condition["status"] = status.into();
                    condition["reason"] = reason.into();
                    condition["message"] = message.into();
                    changed = true;
                }
            }
            None => {
                conditions.push(json!({
                    "type": kind, "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": seconds(now),
                }));
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_rest() {
        let mut namespace = json!({ "metadata": { "name": "a" } });
        let progress = Progress {
            remaining: BTreeMap::from([("pods".to_owned(), 2)]),
            finalizers: BTreeMap::from([("example.com/wait".to_owned(), 1)]),
            ..Progress::default()
        };
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert!(set_conditions(&mut namespace, &progress, now));
        let messages: Vec<&str> = namespace["status"]["conditions"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|condition| condition["status"] == "True")
            .filter_map(|condition| condition["message"].as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "Some resources are remaining: pods has 2 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances",
            ]
        );
        assert!(!set_conditions(&mut namespace, &progress, now), "a second time changes nothing");
        assert!(set_conditions(&mut namespace, &Progress::default(), now));
    }
}
