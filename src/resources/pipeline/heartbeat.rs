//! Which updates are mere signs of life: they need not be on disk at once.

use crate::api::GroupResource;
use serde_json::Value;

/// A field by its path; `*` is every element of a list.
type Pattern = &'static [&'static str];

/// What may differ, per resource, in an update that only says "still there".
const HEARTBEATS: &[(&str, &str, &[Pattern])] = &[
    ("coordination.k8s.io", "leases", &[&["spec", "renewTime"], &["metadata", "managedFields"]]),
    ("", "nodes", &[&["status", "conditions", "*", "lastHeartbeatTime"], &["metadata", "managedFields"]]),
];

/// Whether `object` differs from `old` in heartbeat fields only. A new lease holder, a condition
/// that changes its status, anything else: no.
pub fn is_only(resource: &GroupResource, object: &Value, old: &Value) -> bool {
    let row = HEARTBEATS.iter().find(|(group, plural, _)| *group == resource.group && *plural == resource.resource);
    row.is_some_and(|(_, _, patterns)| same_but(object, old, patterns))
}

fn same_but(new: &Value, old: &Value, patterns: &[Pattern]) -> bool {
    if patterns.iter().any(|pattern| pattern.is_empty()) || new == old {
        return true;
    }
    if patterns.is_empty() {
        return false;
    }
    let below = |step: &str| -> Vec<Pattern> {
        patterns.iter().filter(|pattern| pattern[0] == step).map(|pattern| &pattern[1..]).collect()
    };
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let keys = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
            keys.into_iter().all(|key| {
                same_but(new.get(key).unwrap_or(&Value::Null), old.get(key).unwrap_or(&Value::Null), &below(key))
            })
        }
        (Value::Array(new), Value::Array(old)) => {
            let below = below("*");
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| same_but(new, old, &below))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_renewal_is_lazy_a_new_holder_is_not() {
        let leases = GroupResource::new("coordination.k8s.io", "leases");
        let lease = |holder: &str, renewed: &str| json!({"spec": {"holderIdentity": holder, "renewTime": renewed}});
        assert!(is_only(&leases, &lease("a", "2"), &lease("a", "1")));
        assert!(!is_only(&leases, &lease("b", "2"), &lease("a", "1")));
        assert!(!is_only(&GroupResource::new("", "configmaps"), &lease("a", "2"), &lease("a", "1")));
    }

    #[test]
    fn a_node_heartbeat_is_lazy_a_changed_condition_is_not() {
        let nodes = GroupResource::new("", "nodes");
        let node = |status: &str, beat: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": beat}]}});
        assert!(is_only(&nodes, &node("True", "2"), &node("True", "1")));
        assert!(!is_only(&nodes, &node("False", "2"), &node("True", "1")));
        assert!(!is_only(&nodes, &json!({"status": {}}), &node("True", "1")));
    }
}
