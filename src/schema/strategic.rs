//! Strategic merge patch: lists merge by their merge key, directives say what else to do.
//!
//! `$patch: replace|delete`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`,
//! `$retainKeys`, as `k8s.io/apimachinery/pkg/util/strategicpatch` reads them, with its errors.

use super::go_print::go_print;
use super::table::{PatchStrategy, Schema, Shape, TypeId, TypeTable};
use crate::api::Status;
use crate::api::value::go_type;
use serde_json::{Map, Value};
use std::mem::take;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// What is wrong with a patch.
#[derive(Debug, PartialEq)]
enum Problem {
    /// 400
    BadFormat(&'static str),
    /// 422
    Unsupported(&'static str),
    /// 500, as Kubernetes answers the rest.
    Other(String),
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::BadFormat(text) => Status::bad_request(text),
            Problem::Unsupported(_) => crate::api::patch::rejected(),
            Problem::Other(text) => Status::failure(500, "", text),
        }
    }
}

/// Merge `patch` into `original`. The result still has to be decoded: the patch may hold anything.
pub fn strategic_merge(schema: &Schema, original: Value, patch: Value) -> Result<Value, Status> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(Status::bad_request("Invalid JSON document"));
    };
    let merge = Merge { table: &schema.table };
    Ok(Value::Object(merge.map(original, patch, Some(schema.root))?))
}

/// What the table says of a field, for patches.
#[derive(Clone, Copy)]
struct Meta<'t> {
    /// None below a field of any shape.
    kind: Option<TypeId>,
    strategy: PatchStrategy,
    key: &'t str,
}

struct Merge<'t> {
    table: &'t TypeTable,
}

impl<'t> Merge<'t> {
    fn meta(&self, kind: Option<TypeId>, field: &str) -> Meta<'t> {
        let unknown = Meta { kind: None, strategy: PatchStrategy::default(), key: "" };
        let Some(kind) = kind else { return unknown };
        match self.table.shape(kind) {
            Shape::Struct { id, .. } => self.table.field(id, field).map_or(unknown, |flat| Meta {
                kind: Some(flat.field.kind),
                strategy: flat.field.patch,
                key: self.table.name(flat.field.merge_key),
            }),
            Shape::Map { value, .. } => Meta { kind: Some(value), ..unknown },
            _ => unknown,
        }
    }

    fn element(&self, meta: &Meta) -> Option<TypeId> {
        match self.table.shape(meta.kind?) {
            Shape::List { element, .. } => Some(element),
            _ => None,
        }
    }

    fn map(&self, mut original: Object, mut patch: Object, kind: Option<TypeId>) -> Result<Object, Problem> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Object::new()),
                _ => Err(unknown_directive(directive, &patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, kind)?;
        for (key, mut value) in patch {
            let (key, deletes) = match key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
                Some(field) => (field.to_owned(), true),
                None => (key, false),
            };
            if value.is_null() {
                original.remove(&key);
                continue;
            }
            match (original.get_mut(&key), &mut value) {
                (Some(Value::Object(old)), Value::Object(new)) => {
                    let meta = self.meta(kind, &key);
                    *old = if meta.strategy.replace { take(new) } else { self.map(take(old), take(new), meta.kind)? };
                }
                (Some(Value::Array(old)), Value::Array(new)) => {
                    let meta = self.meta(kind, &key);
                    *old = if meta.strategy.merge || deletes {
                        self.list(take(old), take(new), &meta, deletes)?
                    } else {
                        take(new)
                    };
                }
                (Some(old), new) if same_type(old, new) => *old = value,
                _ if deletes => {}
                _ => {
                    discard_nulls(&mut value);
                    if let Some(value) = without_directives(value) {
                        original.insert(key, value);
                    } else {
                        original.remove(&key);
                    }
                }
            }
        }
        Ok(original)
    }

    /// Lists with a `$setElementOrder`: merged, then put into that order.
    fn ordered_lists(&self, original: &mut Object, patch: &mut Object, kind: Option<TypeId>) -> Result<(), Problem> {
        let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
        for directive in directives {
            let field = &directive[SET_ELEMENT_ORDER.len()..];
            let order = match patch.remove(&directive) {
                Some(Value::Array(order)) => order,
                None | Some(Value::Null) => {
                    return Err(Problem::BadFormat("invalid patch format of setElementOrder list"));
                }
                Some(other) => {
                    let got = go_type(&other);
                    return Err(Problem::Other(format!("expected a []interface {{}}, but received a {got}")));
                }
            };
            let meta = self.meta(kind, field);
            let list_of = |value: Option<&Value>| match value {
                None | Some(Value::Null) => Ok(None),
                Some(Value::Array(list)) => Ok(Some(list.clone())),
                Some(_) => Err(Problem::BadFormat("invalid patch format of setElementOrder list")),
            };
            let old = list_of(original.get(field))?;
            let new = list_of(patch.get(field))?;
            if let Some(new) = &new {
                check_order(new, &order, meta.key)?;
            }
            let server_order = old.clone().unwrap_or_default();
            let merged = match (old, new) {
                (Some(old), None) if !patch.contains_key(field) => old,
                (None, Some(new)) => match without_directives(Value::Array(new)) {
                    Some(Value::Array(list)) => list,
                    _ => continue,
                },
                (Some(old), Some(new)) if meta.strategy.merge => self.list(old, new, &meta, false)?,
                (Some(_), Some(new)) => new,
                // Nothing to order, or a null that removes the list below.
                _ => continue,
            };
            if !meta.key.is_empty() {
                merged.iter().try_for_each(|item| check_maps(&order, item, meta.key))?;
            }
            let (patched, server_only) =
                merged.into_iter().partition(|item| position(&order, item, meta.key).is_some());
            let list = in_order(patched, server_only, &order, &server_order, meta.key);
            original.insert(field.to_owned(), Value::Array(list));
            patch.remove(field);
        }
        Ok(())
    }

    fn list(
        &self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        meta: &Meta,
        deletes: bool,
    ) -> Result<Vec<Value>, Problem> {
        let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
        if first.is_array() {
            return Err(Problem::Unsupported("lists of lists are not supported"));
        }
        if !original.iter().chain(&patch).all(|item| same_type(item, first)) {
            let both = go_print(&Value::Array(vec![Value::Array(original), Value::Array(patch)]));
            return Err(Problem::Other(format!("list element types are not identical: {both}")));
        }
        if !first.is_object() {
            if deletes {
                original.retain(|item| !patch.contains(item));
                return Ok(original);
            }
            let server_order = original.clone();
            let mut merged = Vec::new();
            for item in original.into_iter().chain(patch.iter().cloned()) {
                if !merged.contains(&item) {
                    merged.push(item);
                }
            }
            let (patched, server_only) = merged.into_iter().partition(|item| patch.contains(item));
            return Ok(in_order(patched, server_only, &patch, &server_order, ""));
        }
        if meta.key.is_empty() {
            let name = self.element(meta).map_or("", |kind| self.table.go_name(kind));
            let name = name.rsplit('.').next().unwrap_or_default();
            return Err(Problem::Other(format!("cannot merge lists without merge key for {name}")));
        }
        let (mut original, patch) = special_elements(original, patch, meta.key)?;
        let server_order = original.clone();
        for item in patch.iter() {
            let Value::Object(item) = item else { continue };
            let Some(key) = item.get(meta.key) else { return Err(no_merge_key(item, meta.key)) };
            match original.iter().position(|old| old.get(meta.key) == Some(key)) {
                Some(at) => {
                    let old = take(&mut original[at]);
                    let Value::Object(old) = old else { continue };
                    original[at] = Value::Object(self.map(old, item.clone(), self.element(meta))?);
                }
                None => original.extend(without_directives(Value::Object(item.clone()))),
            }
        }
        let (patched, server_only) = original.into_iter().partition(|item| position(&patch, item, meta.key).is_some());
        Ok(in_order(patched, server_only, &patch, &server_order, meta.key))
    }
}

/// Carry out and remove the elements of a patch list that are directives.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Problem> {
    let (mut rest, mut replace) = (Vec::with_capacity(patch.len()), false);
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        let Some(map) = item.as_object() else { continue };
        match directive.as_str() {
            Some("delete") => {
                let Some(value) = map.get(key) else { return Err(no_merge_key(map, key)) };
                original.retain(|old| old.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Problem::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => return Err(unknown_directive(directive, map)),
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (original, rest) })
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Problem> {
    const BAD: Problem = Problem::BadFormat("invalid patch format of retainKeys");
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(BAD) };
    let kept = |key: &str| keys.iter().any(|kept| kept == key);
    let directive = |key: &str| key.starts_with(DELETE_FROM_PRIMITIVE_LIST) || key.starts_with(SET_ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !kept(key)) {
        return Err(BAD);
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// The elements of a patch list stand in the order that goes with it.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), Problem> {
    let mut wanted = order.iter();
    let in_order = patch
        .iter()
        .filter(|item| key.is_empty() || item.get(DIRECTIVE).is_none())
        .all(|item| wanted.any(|next| same_element(item, next, key)));
    if in_order {
        return Ok(());
    }
    let print = |list: &[Value]| go_print(&Value::Array(list.to_vec()));
    Err(Problem::Other(format!(
        "The order in patch list:\n{}\n doesn't match {} list:\n{}\n",
        print(patch),
        SET_ELEMENT_ORDER.trim_end_matches('/'),
        print(order)
    )))
}

fn same_element(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

fn position(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    list.iter().position(|other| same_element(other, item, key))
}

/// The patch's elements in the patch's order, with the server's put between them where they were.
fn in_order(
    mut patched: Vec<Value>,
    mut server_only: Vec<Value>,
    order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Vec<Value> {
    patched.sort_by_key(|item| position(order, item, key));
    server_only.sort_by_key(|item| position(server_order, item, key).unwrap_or(usize::MAX));
    let mut merged = Vec::with_capacity(patched.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), patched.into_iter().peekable());
    loop {
        let before = match (left.peek(), right.peek()) {
            (Some(l), Some(r)) => match (position(server_order, l, key), position(server_order, r, key)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return merged,
        };
        merged.extend(if before { left.next() } else { right.next() });
    }
}

/// An order of maps is looked through for an element until it is found: what is no map on the way is told.
fn check_maps(order: &[Value], item: &Value, key: &str) -> Result<(), Problem> {
    let until = position(order, item, key).unwrap_or(order.len());
    match order[..until].iter().position(|other| !other.is_object()) {
        Some(at) => Err(Problem::Other(format!("value for key {at} is not a map"))),
        None => Ok(()),
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A value that is taken as it is: objects that are directives have nothing to act on.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?))).collect(),
        )),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        value => Some(value),
    }
}

fn unknown_directive(directive: &Value, map: &Object) -> Problem {
    let map = go_print(&Value::Object(map.clone()));
    let shown = match directive {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Object(_) | Value::Array(_) => go_print(directive),
        other => format!("%!s({}={other})", go_type(other)),
    };
    Problem::Other(format!("unknown patch type: {shown} in map: {map}"))
}

fn no_merge_key(map: &Object, key: &str) -> Problem {
    let map = go_print(&Value::Object(map.clone()));
    Problem::Other(format!("map: {map} does not contain declared merge key: {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupVersionKind;
    use serde_json::json;

    fn pod_spec(original: Value, patch: Value) -> Result<Value, String> {
        let pod = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "Pod")).expect("a kind");
        strategic_merge(&pod, json!({"spec": original}), json!({"spec": patch}))
            .map(|mut merged| merged["spec"].take())
            .map_err(|status| format!("{} {}", status.code, status.message))
    }

    #[test]
    fn lists_merge_by_key() {
        let original =
            json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]});
        let patch =
            json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]});
        let expected = json!({"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "c"}, {"name": "b"},
        ]});
        assert_eq!(pod_spec(original, patch), Ok(expected));
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let original = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
        let delete = json!({"containers": [{"name": "b", "$patch": "delete"}]});
        assert_eq!(pod_spec(original.clone(), delete), Ok(json!({"containers": [{"name": "a"}, {"name": "c"}]})));
        let replace = json!({"containers": [{"name": "z"}, {"$patch": "replace"}]});
        assert_eq!(pod_spec(original.clone(), replace), Ok(json!({"containers": [{"name": "z"}]})));
        let order = json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "n"}, {"name": "a"}],
            "containers": [{"name": "n"}]});
        let expected = json!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "n"}, {"name": "a"}]});
        assert_eq!(pod_spec(original, order), Ok(expected));
    }

    #[test]
    fn retain_keys_clears_the_other_fields() {
        let original = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]});
        let expected = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        assert_eq!(pod_spec(original.clone(), patch), Ok(expected));
        let bad = json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {"path": "/"}}]});
        assert_eq!(pod_spec(original, bad), Err("400 invalid patch format of retainKeys".to_owned()));
    }

    #[test]
    fn primitive_lists_merge_and_shrink() {
        let schema = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("a kind");
        let merge = |patch: Value| {
            let original = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
            strategic_merge(&schema, original, json!({"metadata": patch})).map(|mut merged| merged["metadata"].take())
        };
        assert_eq!(
            merge(json!({"finalizers": ["c"], "labels": {"x": null, "y": "2"}})),
            Ok(json!({"finalizers": ["c", "a", "b"], "labels": {"y": "2"}}))
        );
        assert_eq!(
            merge(json!({"$deleteFromPrimitiveList/finalizers": ["a"]})),
            Ok(json!({"finalizers": ["b"], "labels": {"x": "1"}}))
        );
    }

    #[test]
    fn errors_are_kubernetes_own() {
        let original = json!({"containers": [{"name": "a"}]});
        let check = |patch| pod_spec(original.clone(), patch).expect_err("refused");
        assert_eq!(
            check(json!({"containers": [{"name": "b", "$patch": "bogus"}]})),
            "500 unknown patch type: bogus in map: map[$patch:bogus name:b]"
        );
        assert_eq!(
            check(json!({"containers": [{"image": "x"}]})),
            "500 map: map[image:x] does not contain declared merge key: name"
        );
    }
}
