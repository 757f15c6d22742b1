//! The operations of a JSON patch, one after another, as the library that Kubernetes uses carries
//! them out: negative indices count from the end, what replaces a field need not find it there.
//! Requests, webhooks and policies all come here; the texts are those that their users know.

use super::value::json_kind;
use serde_json::{Map, Value};

/// What copies may add to an object, as JSON.
const MAX_COPIED: usize = 3 << 20;
/// Deeper than any object may be, and not so deep that walking it is a danger.
const MAX_DEPTH: usize = 400;

/// Why operations do not apply to an object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The object is not as a `test` says. The path.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    #[error("{0}")]
    Other(String),
}

fn refused<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Other(text.into()))
}

/// The operations of a patch that was read; null is none. Err: it is no list of maps, in Go's words.
pub fn of(patch: Value) -> Result<Vec<Value>, String> {
    let wrong = |value: &Value, name: &str| {
        Err(format!("json: cannot unmarshal {} into Go value of type jsonpatch.{name}", json_kind(value)))
    };
    let operations = match patch {
        Value::Array(operations) => operations,
        Value::Null => return Ok(Vec::new()),
        other => return wrong(&other, "Patch"),
    };
    match operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        Some(other) => wrong(other, "Operation"),
        None => Ok(operations),
    }
}

/// Err: one does not fit, or the object would become too large or too deep; it is then what was
/// made of it so far.
pub fn apply(object: &mut Value, operations: &[Value]) -> Result<(), Refused> {
    let mut copied = 0;
    // No more than this: moves and copies can make it deeper each time.
    let mut deepest = depth(object);
    for operation in operations {
        let none = Map::new();
        let operation = Operation(operation.as_object().unwrap_or(&none));
        let inner = operation.step(object, &mut copied, deepest)?;
        deepest = deepest.max(inner);
        if deepest > MAX_DEPTH {
            deepest = depth(object);
            if deepest > MAX_DEPTH {
                return refused(format!("the object becomes deeper than {MAX_DEPTH}"));
            }
        }
    }
    Ok(())
}

struct Operation<'o>(&'o Map<String, Value>);

impl Operation<'_> {
    /// The result is how deep what it put in lies at most.
    fn step(&self, object: &mut Value, copied: &mut usize, deepest: usize) -> Result<usize, Refused> {
        let kind = self.0.get("op").and_then(Value::as_str).unwrap_or("unknown");
        let tokens = |path: &str| path.matches('/').count();
        match kind {
            "add" => {
                let path = self.path().or_else(|_| refused("add operation failed to decode path: missing value"))?;
                let value = self.value();
                let below = tokens(path) + depth(&value);
                let place = find(object, path);
                let (container, key) = place.ok_or_else(|| absent("add", "path", &format!("\"{path}\"")))?;
                add(container, key, value).or_else(|why| at("add", path, why)).map(|()| below)
            }
            "replace" => {
                let path = self.path().or_else(|why| undecoded("replace", "path", why))?;
                let value = self.value();
                let below = tokens(path) + depth(&value);
                replace(object, path, value).map(|()| below)
            }
            "remove" => {
                let path = self.path().or_else(|_| refused("remove operation failed to decode path: missing value"))?;
                let place = find(object, path);
                let (container, key) = place.ok_or_else(|| absent("remove", "path", &format!("\"{path}\"")))?;
                remove(container, &key).or_else(|why| at("remove", path, why)).map(|_| 0)
            }
            "test" => {
                let path = self.path().or_else(|why| undecoded("test", "path", why))?;
                self.test(object, path).map(|()| 0)
            }
            "move" => {
                let from = self.from().or_else(|why| undecoded("move", "from", why))?;
                let (container, key) = find(object, from).ok_or_else(|| absent("move", "from path", from))?;
                let value = match get(container, &key) {
                    Ok(_) => remove(container, &key),
                    Err(why) => Err(why),
                };
                let value = value.or_else(|why| at("move", &key, why))?;
                let path = self.path().or_else(|why| undecoded("move", "path", why))?;
                let place = find(object, path);
                let (container, key) = place.ok_or_else(|| absent("move", "destination path", path))?;
                add(container, key, value).or_else(|why| at("move", path, why))?;
                Ok(tokens(path) + deepest.saturating_sub(tokens(from)))
            }
            "copy" => {
                let from = self.from().or_else(|why| undecoded("copy", "from", why))?;
                let (container, key) = find(object, from).ok_or_else(|| absent("copy", "from path", from))?;
                let value = get(container, &key)
                    .map(Option::<&Value>::cloned)
                    .or_else(|why| refused(format!("error in copy for from: '{from}': {why}")))?
                    .unwrap_or_default();
                let path = self.path().or_else(|_| refused("copy operation failed to decode path: missing value"))?;
                let place = find(object, path);
                let (container, key) = place.ok_or_else(|| absent("copy", "destination path", path))?;
                *copied += value.to_string().len();
                if *copied > MAX_COPIED {
                    return refused(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                    ));
                }
                add(container, key, value)
                    .or_else(|why| refused(format!("error while adding value during copy: {why}")))?;
                Ok(tokens(path) + deepest.saturating_sub(tokens(from)))
            }
            other => refused(format!("Unexpected kind: {other}")),
        }
    }

    fn path(&self) -> Result<&str, String> {
        self.text("path", "operation missing path field")
    }

    fn from(&self) -> Result<&str, String> {
        self.text("from", "operation, missing from field")
    }

    fn text(&self, name: &str, missing: &str) -> Result<&str, String> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            None | Some(Value::Null) => Err(format!("{missing}: missing value")),
            Some(other) => Err(format!("json: cannot unmarshal {} into Go value of type string", json_kind(other))),
        }
    }

    fn value(&self) -> Value {
        self.0.get("value").cloned().unwrap_or_default()
    }

    /// What is not there is null to it.
    fn test(&self, object: &mut Value, path: &str) -> Result<(), Refused> {
        let wanted = self.0.get("value").unwrap_or(&Value::Null);
        let found = if path.is_empty() {
            &*object
        } else {
            let Some((container, key)) = find(object, path) else {
                return refused(format!("test operation does not apply: is missing path: {path}: missing value"));
            };
            get(container, &key).or_else(|why| at("test", path, why))?.unwrap_or(&Value::Null)
        };
        if found == wanted { Ok(()) } else { Err(Refused::TestFailed(path.to_owned())) }
    }
}

/// There is nothing that a path could end in.
fn absent(operation: &str, what: &str, path: &str) -> Refused {
    Refused::Other(format!("{operation} operation does not apply: doc is missing {what}: {path}: missing value"))
}

fn undecoded<T>(operation: &str, what: &str, why: String) -> Result<T, Refused> {
    refused(format!("{operation} operation failed to decode {what}: {why}"))
}

fn at<T>(operation: &str, path: &str, why: String) -> Result<T, Refused> {
    refused(format!("error in {operation} for path: '{path}': {why}"))
}

/// The list or map that a path ends in, and the last step.
fn find<'v>(object: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let decoded = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let (_, steps) = path.split_once('/')?;
    let mut steps: Vec<&str> = steps.split('/').collect();
    let last = steps.pop()?;
    let mut at = object;
    for step in steps {
        let step = decoded(step);
        at = match at {
            Value::Object(map) => map.get_mut(&step)?,
            Value::Array(list) => {
                let index = index(&step, list.len()).ok()?;
                list.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, decoded(last)))
}

/// Of a list of that length; negative ones from its end.
fn index(step: &str, length: usize) -> Result<usize, String> {
    let index: isize = step.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let what = match error.kind() {
            NegOverflow | PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {what}", super::field::go_quote(step))
    })?;
    let counted = if index < 0 { length.checked_add_signed(index) } else { usize::try_from(index).ok() };
    counted
        .filter(|index| *index < length)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

/// None: a map without that entry.
fn get<'v>(container: &'v Value, key: &str) -> Result<Option<&'v Value>, String> {
    match container {
        Value::Array(list) => Ok(list.get(index(key, list.len())?)),
        _ => Ok(container.get(key)),
    }
}

/// [`find`] gives maps and lists only.
fn add(container: &mut Value, key: String, value: Value) -> Result<(), String> {
    match container {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let index = index(&key, list.len() + 1).map_err(|why| match key.parse::<isize>() {
                Ok(_) => why,
                Err(_) => format!("value was not a proper array index: '{key}': {why}"),
            })?;
            list.insert(index, value);
        }
        _ => container[key] = value,
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Value::Array(list) => index(key, list.len()).map(|index| list.remove(index)),
        _ => Ok(Value::Null),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), Refused> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return refused("replace operation hit impossible case: %!w(<nil>)");
        }
        *object = value;
        return Ok(());
    }
    let (container, key) = find(object, path).ok_or_else(|| absent("replace", "path", path))?;
    if get(container, &key).is_err() {
        return Err(absent("replace", "key", path));
    }
    match container {
        Value::Array(list) => index(&key, list.len()).map(|index| list[index] = value),
        _ => Ok(container[key] = value),
    }
    .or_else(|why| at("replace", path, why))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The texts are those that webhooks and policies are answered with.
    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"op": "add", "path": "/a/b", "value": 1}),
                "add operation does not apply: doc is missing path: \"/a/b\": missing value",
            ),
            (json!({"op": "add", "value": 1}), "add operation failed to decode path: missing value"),
            (
                json!({"op": "add", "path": "/list/9", "value": 1}),
                "error in add for path: '/list/9': Unable to access invalid index: 9: invalid index referenced",
            ),
            (
                json!({"op": "add", "path": "/list/x", "value": 1}),
                "error in add for path: '/list/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                json!({"op": "remove", "path": "/map/none"}),
                "error in remove for path: '/map/none': Unable to remove nonexistent key: none: missing value",
            ),
            (
                json!({"op": "remove", "path": "/none/none"}),
                "remove operation does not apply: doc is missing path: \"/none/none\": missing value",
            ),
            (
                json!({"op": "replace", "path": "/list/-4", "value": 1}),
                "replace operation does not apply: doc is missing key: /list/-4: missing value",
            ),
            (
                json!({"op": "replace", "path": 1, "value": 1}),
                "replace operation failed to decode path: json: cannot unmarshal number into Go value of type string",
            ),
            (
                json!({"op": "move", "from": "/map", "path": "/none/at/all"}),
                "move operation does not apply: doc is missing destination path: /none/at/all: missing value",
            ),
            (
                json!({"op": "move", "path": "/map"}),
                "move operation failed to decode from: operation, missing from field: missing value",
            ),
            (
                json!({"op": "copy", "from": "/none/x", "path": "/y"}),
                "copy operation does not apply: doc is missing from path: /none/x: missing value",
            ),
            (
                json!({"op": "test", "path": "/none/x", "value": 1}),
                "test operation does not apply: is missing path: /none/x: missing value",
            ),
            (json!({"op": "test", "path": "/map/a", "value": 2}), "testing value /map/a failed: test failed"),
            (json!({"op": "bogus"}), "Unexpected kind: bogus"),
            (json!(null), "Unexpected kind: unknown"),
        ];
        for (operation, expected) in cases {
            let mut object = json!({"list": [1, 2, 3], "map": {"a": 1}});
            let refused = apply(&mut object, std::slice::from_ref(&operation)).expect_err("it does not fit");
            assert_eq!(refused.to_string(), expected, "{operation}");
        }
    }

    #[test]
    fn a_patch_is_a_list_of_maps() {
        assert_eq!(of(json!(null)), Ok(Vec::new()));
        assert_eq!(
            of(json!("x")),
            Err("json: cannot unmarshal string into Go value of type jsonpatch.Patch".to_owned())
        );
        let odd = "json: cannot unmarshal number into Go value of type jsonpatch.Operation";
        assert_eq!(of(json!([{"op": "add"}, 1])), Err(odd.to_owned()));
    }
}
