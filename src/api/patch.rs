//! JSON patch (RFC 6902) and merge patch (RFC 7386) of a JSON value, with the API server's limits
//! and replies. Patches that need types are in the schema room.

use super::{Status, operations};
use serde_json::Value;

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
    /// `application/apply-patch+yaml`
    Apply,
}

impl PatchType {
    /// Of a `Content-Type`, without its parameters.
    pub fn from_content_type(text: &str) -> Option<Self> {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

const MAX_OPERATIONS: usize = 10_000;

/// 422: the patch reads well, and does not fit the object.
pub fn rejected() -> Status {
    let message = "the server rejected our request due to an error in our request";
    let mut status = Status::failure(422, "Invalid", message);
    status.details = Some(Box::default());
    status
}

/// Apply a JSON patch, the operations of a request. All of them or none.
pub fn json_patch(original: &Value, operations: &[Value]) -> Result<Value, Status> {
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut object = original.clone();
    operations::apply(&mut object, operations).map_err(|_| rejected())?;
    Ok(object)
}

/// Apply a merge patch: null removes, objects merge, everything else replaces. As the library that Kubernetes uses
/// does it, what is new has no member that is null, in its lists neither.
pub fn merge_patch(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(fields), Value::Object(patches)) => {
            for (name, patch) in patches {
                if patch.is_null() {
                    fields.remove(name);
                } else {
                    merge_patch(fields.entry(name.as_str()).or_insert(Value::Null), patch);
                }
            }
        }
        // A map that becomes something else becomes what is sent.
        (object @ Value::Object(_), patch) => *object = patch.clone(),
        (object, patch) => *object = without_nulls(patch),
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(patch: Value) -> Result<Value, (u16, String)> {
        let original = json!({"metadata": {"name": "x", "labels": {"a": "1"}}, "list": [1, 2, 3]});
        let operations = operations::of(patch).map_err(|text| (400, text))?;
        json_patch(&original, &operations).map_err(|status| (status.code, status.message))
    }

    #[test]
    fn operations_apply_in_order() {
        let patched = check(json!([
            {"op": "test", "path": "/metadata/labels/a", "value": "1"},
            {"op": "add", "path": "/metadata/labels/b~1c", "value": "2"},
            {"op": "remove", "path": "/list/-1"},
            {"op": "add", "path": "/list/-", "value": 9},
            {"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/z"},
        ]));
        let expected = json!({"metadata": {"name": "x", "labels": {"b/c": "2", "z": "1"}}, "list": [1, 2, 9]});
        assert_eq!(patched, Ok(expected));
    }

    /// As the library that Kubernetes uses does it.
    #[test]
    fn edges_are_those_of_kubernetes() {
        let new = check(json!([{"op": "replace", "path": "/metadata/new", "value": 1}])).expect("it is put there");
        assert_eq!(new["metadata"]["new"], 1);
        let last = check(json!([{"op": "add", "path": "/list/-1", "value": 9}])).expect("it is added");
        assert_eq!(last["list"], json!([1, 2, 3, 9]));
        let copied = check(json!([{"op": "copy", "from": "/metadata/none", "path": "/metadata/null"}]));
        assert_eq!(copied.expect("null is copied")["metadata"].get("null"), Some(&Value::Null));
        assert_eq!(check(Value::Null).map(|object| object["list"].clone()), Ok(json!([1, 2, 3])));
        let whole = check(json!([{"op": "replace", "path": "", "value": {"a": 1}}]));
        assert_eq!(whole, Ok(json!({"a": 1})));
    }

    #[test]
    fn what_a_merge_brings_has_no_nulls() {
        for (patch, wanted) in [
            (json!({"new": {"a": null, "b": [{"c": null}, null]}}), json!({"b": [{}, null]})),
            (json!({"new": [{"a": null}]}), json!([{}])),
        ] {
            let mut object = json!({"old": 1});
            merge_patch(&mut object, &patch);
            assert_eq!(object, json!({"old": 1, "new": wanted}));
        }
        let mut object = json!({"list": [1], "map": {"a": 1}, "gone": 1});
        merge_patch(&mut object, &json!({"list": [{"a": null}], "map": [{"a": null}], "gone": null, "none": null}));
        assert_eq!(object, json!({"list": [{}], "map": [{"a": null}]}));
    }

    /// As kube-rs adds a finalizer.
    #[test]
    fn what_is_not_there_is_null_to_a_test() {
        let add = |path: &str| {
            check(json!([
                {"op": "test", "path": path, "value": null},
                {"op": "add", "path": path, "value": ["f"]},
                {"op": "test", "path": path, "value": ["f"]},
            ]))
        };
        assert_eq!(add("/metadata/finalizers").expect("it fits")["metadata"]["finalizers"], json!(["f"]));
        for path in ["/metadata/name", "/nowhere/finalizers"] {
            assert_eq!(add(path).map_err(|(code, _)| code), Err(422), "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_is_unprocessable_and_what_does_not_read_is_bad() {
        for patch in [
            json!([{"op": "test", "path": "/metadata/labels/a", "value": "9"}]),
            json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]),
            json!([{"op": "add", "path": "", "value": {}}]),
            json!([{"op": "bogus", "path": "/list"}]),
            json!([{"op": "replace", "path": "/list/3", "value": 1}]),
            json!([{"op": "remove", "path": "/metadata/labels/nope"}]),
        ] {
            assert_eq!(check(patch).map_err(|(code, _)| code), Err(422));
        }
        assert_eq!(check(json!({"op": "test"})).map_err(|(code, _)| code), Err(400));
        let many = vec![json!({"op": "test", "path": "/list/0", "value": 1}); MAX_OPERATIONS + 1];
        assert_eq!(check(Value::Array(many)).map_err(|(code, _)| code), Err(413));
    }

    /// Found by fuzzing: what could not be taken back ended the server.
    #[test]
    fn a_move_that_fails_is_refused() {
        let patch = json!([
            {"op": "replace", "path": "/list/1", "value": 5},
            {"op": "move", "from": "/metadata", "path": "/nowhere/at/all"},
        ]);
        assert_eq!(check(patch).map_err(|(code, _)| code), Err(422));
    }

    #[test]
    fn a_patch_does_not_blow_an_object_up() {
        let double = |n: usize| json!({"op": "copy", "from": "", "path": format!("/metadata/labels/a{n}")});
        assert_eq!(check((0..60).map(double).collect()).map_err(|(code, _)| code), Err(422));
        let few = json!([{"op": "copy", "from": "/list", "path": "/more"}, {"op": "move", "from": "/more", "path": "/list/0"}]);
        assert_eq!(check(few).expect("it fits")["list"], json!([[1, 2, 3], 1, 2, 3]));
        // Each puts all that there is one step deeper.
        let deeper = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/list", "path": "/b/list"}),
            json!({"op": "move", "from": "/b", "path": "/list"}),
        ];
        let patch: Vec<Value> = deeper.iter().cloned().cycle().take(3000).collect();
        assert_eq!(check(Value::Array(patch)).map_err(|(code, _)| code), Err(422));
        let patch: Vec<Value> = deeper.iter().cloned().cycle().take(60).collect();
        assert!(check(Value::Array(patch)).is_ok());
    }

    #[test]
    fn a_merge_patch_drops_nulls() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        merge_patch(&mut object, &json!({"a": {"b": null, "d": {"e": null, "f": 3}}, "l": [2, null], "n": null}));
        assert_eq!(object, json!({"a": {"c": 2, "d": {"f": 3}}, "l": [2, null]}));
    }
}
