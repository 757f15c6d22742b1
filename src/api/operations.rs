//! The operations of a JSON patch, one after another, as the library that Kubernetes uses carries
//! them out: negative indices count from the end, what replaces a field need not find it there.

use super::patch::{MAX_COPIED, MAX_DEPTH, depth};
use serde_json::{Map, Value};

/// None: one does not fit, or the object would become too large or too deep; it is then what was
/// made of it so far.
pub fn apply(object: &mut Value, operations: Vec<Value>) -> Option<()> {
    let mut copied = 0;
    // No more than this: moves and copies can make it deeper each time.
    let mut deepest = depth(object);
    for operation in operations {
        let Value::Object(operation) = operation else { return None };
        let inner = step(object, operation, &mut copied, deepest)?;
        deepest = deepest.max(inner);
        if deepest > MAX_DEPTH {
            deepest = depth(object);
            if deepest > MAX_DEPTH {
                return None;
            }
        }
    }
    Some(())
}

/// One operation. The result is how deep what it put in lies at most.
fn step(object: &mut Value, mut operation: Map<String, Value>, copied: &mut usize, deepest: usize) -> Option<usize> {
    let value = operation.remove("value").unwrap_or_default();
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let tokens = |path: &str| path.matches('/').count();
    let path = text("path");
    match text("op")? {
        "add" => {
            let below = tokens(path?) + depth(&value);
            add(object, path?, value)?;
            Some(below)
        }
        "replace" => {
            let below = tokens(path?) + depth(&value);
            replace(object, path?, value)?;
            Some(below)
        }
        "remove" => remove(object, path?).map(|_| 0),
        "test" => test(object, path?, &value).then_some(0),
        "move" => {
            let from = text("from")?;
            let moved = remove(object, from)?;
            add(object, path?, moved)?;
            Some(tokens(path?) + deepest.saturating_sub(tokens(from)))
        }
        "copy" => {
            let from = text("from")?;
            let (container, key) = find(object, from)?;
            let value = get(container, &key)?.cloned().unwrap_or_default();
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return None;
            }
            add(object, path?, value)?;
            Some(tokens(path?) + deepest.saturating_sub(tokens(from)))
        }
        _ => None,
    }
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
                let index = index(&step, list.len())?;
                list.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, decoded(last)))
}

/// Of a list of that length; negative ones from its end.
fn index(step: &str, length: usize) -> Option<usize> {
    let index: isize = step.parse().ok()?;
    if index < 0 { length.checked_add_signed(index) } else { index.try_into().ok() }
}

/// The inner None: a map without that entry.
fn get<'v>(container: &'v Value, key: &str) -> Option<Option<&'v Value>> {
    match container {
        Value::Object(map) => Some(map.get(key)),
        Value::Array(list) => list.get(index(key, list.len())?).map(Some),
        _ => None,
    }
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    let (container, key) = find(object, path)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let index = index(&key, list.len() + 1).filter(|index| *index <= list.len())?;
            list.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (container, key) = find(object, path)?;
    match container {
        Value::Object(map) => map.remove(&key),
        Value::Array(list) => {
            let index = index(&key, list.len()).filter(|index| *index < list.len())?;
            Some(list.remove(index))
        }
        _ => None,
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return None;
        }
        *object = value;
        return Some(());
    }
    let (container, key) = find(object, path)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(list) => {
            let index = index(&key, list.len())?;
            *list.get_mut(index)? = value;
        }
        _ => return None,
    }
    Some(())
}

/// What is not there is null to a test.
fn test(object: &mut Value, path: &str, value: &Value) -> bool {
    if path.is_empty() {
        return object == value;
    }
    let found = find(object, path).and_then(|(container, key)| {
        let found = get(container, &key)?;
        Some(found.map_or(value.is_null(), |found| found == value))
    });
    found == Some(true)
}
