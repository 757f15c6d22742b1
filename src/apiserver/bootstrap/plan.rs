//! What to do so that a default object is there and up to date: pure.

use crate::apiserver::authz::rbac::{Rule, covers};
use serde_json::Value;

/// An object with this annotation set to `false` is its owner's business.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Debug, PartialEq)]
pub enum Step {
    Create(Value),
    Update(Value),
    /// The role that a binding names cannot be changed.
    Recreate(Value),
}

pub fn path(collection: &str, object: &Value) -> String {
    format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

/// At most one step.
pub fn steps(current: Option<&Value>, wanted: Value) -> Option<Step> {
    let Some(current) = current else { return Some(Step::Create(wanted)) };
    if current["metadata"]["annotations"][AUTOUPDATE].as_str().is_some_and(|value| value != "true") {
        return None;
    }
    if wanted.get("roleRef").is_some_and(|role| current.get("roleRef") != Some(role)) {
        return Some(Step::Recreate(wanted));
    }
    let mut next = current.clone();
    for map in ["labels", "annotations"] {
        let Value::Object(entries) = &wanted["metadata"][map] else { continue };
        for (key, value) in entries {
            if next["metadata"][map].get(key).is_none() {
                next["metadata"][map][key] = value.clone();
            }
        }
    }
    if let Some(aggregation) = wanted.get("aggregationRule") {
        // A controller fills the rules.
        if next.get("aggregationRule").is_none() {
            next["aggregationRule"] = aggregation.clone();
        }
    } else if let Some(rules) = wanted.get("rules") {
        let missing = covers(&rules_of(&current["rules"]), &rules_of(rules));
        append(&mut next, "rules", missing.into_iter().map(|rule| serde_json::json!(rule)));
    }
    if let Some(Value::Array(subjects)) = wanted.get("subjects") {
        let known = current["subjects"].as_array().cloned().unwrap_or_default();
        append(&mut next, "subjects", subjects.iter().filter(|subject| !known.contains(subject)).cloned());
    }
    (next != *current).then_some(Step::Update(next))
}

fn append(object: &mut Value, field: &str, items: impl Iterator<Item = Value>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    match &mut object[field] {
        Value::Array(list) => list.extend(items),
        other => *other = items.collect(),
    }
}

fn rules_of(value: &Value) -> Vec<Rule> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(rules: Value, autoupdate: &str) -> Value {
        json!({"metadata": {"name": "x", "annotations": {AUTOUPDATE: autoupdate}}, "rules": rules})
    }

    fn get(resource: &str) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
    }

    #[test]
    fn what_is_missing_is_made() {
        let wanted = role(json!([get("pods")]), "true");
        assert_eq!(steps(None, wanted.clone()), Some(Step::Create(wanted)));
    }

    #[test]
    fn what_fits_is_left() {
        assert_eq!(steps(Some(&role(json!([get("pods")]), "true")), role(json!([get("pods")]), "true")), None);
        assert_eq!(steps(Some(&role(json!([get("*")]), "true")), role(json!([get("pods")]), "true")), None);
        assert_eq!(steps(Some(&role(json!([]), "false")), role(json!([get("pods")]), "true")), None);
    }

    #[test]
    fn rules_labels_and_subjects_are_added_and_none_is_taken_away() {
        let current = role(json!([get("secrets")]), "true");
        let mut wanted = role(json!([get("pods")]), "true");
        wanted["metadata"]["labels"] = json!({"a": "b"});
        let Some(Step::Update(next)) = steps(Some(&current), wanted) else { panic!("no update") };
        assert_eq!(next["rules"], json!([get("secrets"), get("pods")]));
        assert_eq!(next["metadata"]["labels"], json!({"a": "b"}));

        let binding = |subjects: Value, role: &str| json!({"metadata": {"name": "x"}, "subjects": subjects, "roleRef": {"name": role}});
        let Some(Step::Update(next)) =
            steps(Some(&binding(json!([{"name": "own"}]), "r")), binding(json!([{"name": "default"}]), "r"))
        else {
            panic!("no update")
        };
        assert_eq!(next["subjects"], json!([{"name": "own"}, {"name": "default"}]));
    }

    #[test]
    fn a_binding_to_another_role_is_made_again() {
        let binding = |role: &str| json!({"metadata": {"name": "x"}, "subjects": [], "roleRef": {"name": role}});
        assert_eq!(steps(Some(&binding("a")), binding("b")), Some(Step::Recreate(binding("b"))));
    }

    #[test]
    fn an_aggregated_role_keeps_what_the_controller_wrote() {
        let aggregation = json!({"clusterRoleSelectors": []});
        let mut current = role(json!([get("pods")]), "true");
        current["aggregationRule"] = aggregation.clone();
        let mut wanted = role(Value::Null, "true");
        wanted["aggregationRule"] = aggregation;
        assert_eq!(steps(Some(&current), wanted), None);
    }
}
