//! The smallest strategic merge patch that makes one pod status out of another.
//!
//! Conditions merge by type, so a gate that another client writes meanwhile is not lost; addresses
//! merge by ip; other lists are replaced whole.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that merge, and the key they merge by.
const MERGE_KEYS: &[(&str, &str)] = &[("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// None: nothing to change. The UID is the precondition: the patch never meets a pod of the same
/// name that came after.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let changes = difference(&object(old), &object(new));
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        let key = MERGE_KEYS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        let change = match (key, before.and_then(Value::as_array), value.as_array()) {
            (Some(key), Some(before), Some(after)) => merged_list(key, before, after),
            _ => value.clone(),
        };
        out.insert(name.clone(), change);
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        out.insert(name.clone(), Value::Null);
    }
    out
}

/// Changed entries whole (with nulls for fields that went), gone ones as deletions.
fn merged_list(key: &str, before: &[Value], after: &[Value]) -> Value {
    let find = |list: &[Value], id: &Value| list.iter().find(|entry| entry.get(key) == Some(id)).cloned();
    let mut out = Vec::new();
    for entry in after {
        let Some(id) = entry.get(key) else { continue };
        match find(before, id) {
            Some(old) if old == *entry => {}
            Some(old) => {
                let mut entry = entry.clone();
                if let (Some(fields), Some(old)) = (entry.as_object_mut(), old.as_object()) {
                    for name in old.keys() {
                        fields.entry(name.clone()).or_insert(Value::Null);
                    }
                }
                out.push(entry);
            }
            None => out.push(entry.clone()),
        }
    }
    for entry in before {
        let Some(id) = entry.get(key) else { continue };
        if find(after, id).is_none() {
            out.push(json!({"$patch": "delete", key: id}));
        }
    }
    Value::Array(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed() {
        let old = status(json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "a"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "Initialized", "status": "True"}, {"type": "Gone", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "b"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}));
        let got = patch("u1", &old, &new).expect("a patch");
        let want = json!({"metadata": {"uid": "u1"}, "status": {
            "phase": "Running",
            "reason": null,
            "podIPs": [{"ip": "b"}, {"$patch": "delete", "ip": "a"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null},
                {"$patch": "delete", "type": "Gone"}]}});
        assert_eq!(got, want);
        assert_eq!(patch("u1", &new, &new), None);
    }
}
