//! Making patches: what turns a live object into the wanted one, without touching what others set.
//!
//! [`three_way`] is the strategic merge patch of `kubectl apply`: additions and changes are found
//! between the live and the wanted object, deletions between the last applied and the wanted one.
//! Lists that merge by key are compared by key. Without a schema (custom resources) it is a JSON
//! merge patch: [`three_way_merge_patch`].

use super::table::{PatchStrategy, Schema, Shape, TypeId, TypeTable};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Which differences count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Between the live and the wanted object.
    Changes,
    /// Between the last applied and the wanted object.
    Deletions,
}

/// The strategic merge patch from `current` to `modified`; fields of `original` that `modified` has
/// no more are deleted. Empty: nothing to do.
pub fn three_way(schema: &Schema, original: &Value, modified: &Value, current: &Value) -> Result<Value, String> {
    let diff = Diff { table: &schema.table };
    let empty = Object::new();
    let object = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    let wanted = modified.as_object().unwrap_or(&empty);
    let changes = diff.maps(&object(current), wanted, Some(schema.root), Side::Changes, false)?;
    let deletions = diff.maps(&object(original), wanted, Some(schema.root), Side::Deletions, false)?;
    let mut patch = Value::Object(diff.join(deletions, changes, Some(schema.root)));
    sort_by_order(&mut patch);
    Ok(patch)
}

/// The same as a JSON merge patch: lists are replaced as a whole.
pub fn three_way_merge_patch(original: &Value, modified: &Value, current: &Value) -> Value {
    let empty = Object::new();
    let object = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    let wanted = modified.as_object().unwrap_or(&empty);
    let mut patch = merge_changes(&object(current), wanted);
    merge_deletions(&object(original), wanted, &mut patch);
    Value::Object(patch)
}

fn merge_changes(current: &Object, wanted: &Object) -> Object {
    let mut patch = Object::new();
    for (key, value) in wanted {
        match (current.get(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let changes = merge_changes(old, new);
                if !changes.is_empty() {
                    patch.insert(key.clone(), Value::Object(changes));
                }
            }
            (Some(old), new) if old == new => {}
            (_, Value::Null) => {}
            (_, new) => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    patch
}

fn merge_deletions(original: &Object, wanted: &Object, patch: &mut Object) {
    for (key, old) in original {
        match (old, wanted.get(key)) {
            (_, None) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Value::Object(old), Some(Value::Object(new))) => {
                let mut below = match patch.remove(key) {
                    Some(Value::Object(below)) => below,
                    _ => Object::new(),
                };
                merge_deletions(old, new, &mut below);
                if !below.is_empty() {
                    patch.insert(key.clone(), Value::Object(below));
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy)]
struct Meta<'t> {
    /// None below a field of any shape.
    kind: Option<TypeId>,
    strategy: PatchStrategy,
    key: &'t str,
}

/// What two lists that merge give.
#[derive(Default)]
struct ListDiff {
    patch: Vec<Value>,
    delete: Vec<Value>,
    order: Vec<Value>,
}

struct Diff<'t> {
    table: &'t TypeTable,
}

impl<'t> Diff<'t> {
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

    fn maps(
        &self,
        old: &Object,
        new: &Object,
        kind: Option<TypeId>,
        side: Side,
        retain: bool,
    ) -> Result<Object, String> {
        let mut patch = Object::new();
        for (key, before) in old {
            let Some(after) = new.get(key) else {
                if side == Side::Deletions {
                    patch.insert(key.clone(), Value::Null);
                }
                continue;
            };
            let meta = self.meta(kind, key);
            match (before, after) {
                (Value::Object(before), Value::Object(after)) if !meta.strategy.replace => {
                    let below = self.maps(before, after, meta.kind, side, meta.strategy.retain_keys)?;
                    if !below.is_empty() {
                        patch.insert(key.clone(), Value::Object(below));
                    }
                }
                (Value::Array(before), Value::Array(after)) if meta.strategy.merge => {
                    let lists = self.lists(before, after, &meta, side).map_err(|error| format!("{key}: {error}"))?;
                    for (name, list) in [
                        (key.clone(), lists.patch),
                        (format!("$deleteFromPrimitiveList/{key}"), lists.delete),
                        (format!("$setElementOrder/{key}"), lists.order),
                    ] {
                        if !list.is_empty() {
                            patch.insert(name, Value::Array(list));
                        }
                    }
                }
                _ if side == Side::Changes && !same(before, after) => {
                    patch.insert(key.clone(), after.clone());
                }
                _ => {}
            }
        }
        if side == Side::Changes {
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                patch.insert(key.clone(), value.clone());
            }
        }
        if retain && !patch.is_empty() {
            let kept: Vec<&String> = new.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect();
            patch.insert("$retainKeys".to_owned(), json!(kept));
        }
        Ok(patch)
    }

    fn lists(&self, old: &[Value], new: &[Value], meta: &Meta, side: Side) -> Result<ListDiff, String> {
        if old.is_empty() {
            let patch = if side == Side::Changes { new.to_vec() } else { Vec::new() };
            return Ok(ListDiff { patch, ..ListDiff::default() });
        }
        let objects = old.iter().chain(new).any(Value::is_object);
        if objects && !meta.key.is_empty() { self.keyed(old, new, meta, side) } else { Ok(plain(old, new, side)) }
    }

    fn keyed(&self, old: &[Value], new: &[Value], meta: &Meta, side: Side) -> Result<ListDiff, String> {
        let key_of = |item: &Value| -> Result<Value, String> {
            item.get(meta.key).cloned().ok_or_else(|| format!("{item} has no {}, which lists merge by", meta.key))
        };
        let find = |list: &[Value], key: &Value| list.iter().find(|item| item.get(meta.key) == Some(key)).cloned();
        let mut lists = ListDiff::default();
        let mut order = Vec::new();
        for after in new {
            let key = key_of(after)?;
            order.push(json!({ meta.key: key }));
            match (find(old, &key), after) {
                (Some(Value::Object(before)), Value::Object(after)) => {
                    let mut patch = self.maps(&before, after, self.element(meta), side, meta.strategy.retain_keys)?;
                    if !patch.is_empty() {
                        patch.insert(meta.key.to_owned(), key);
                        lists.patch.push(Value::Object(patch));
                    }
                }
                _ if side == Side::Changes => lists.patch.push(after.clone()),
                _ => {}
            }
        }
        let mut kept = Vec::new();
        for before in old {
            let key = key_of(before)?;
            if find(new, &key).is_some() {
                kept.push(json!({ meta.key: key }));
            } else if side == Side::Deletions {
                lists.patch.push(json!({ "$patch": "delete", meta.key: key }));
            }
        }
        let moved = order.iter().filter(|item| kept.contains(item)).ne(kept.iter());
        if !lists.patch.is_empty() || side == Side::Changes && moved {
            lists.order = order;
        }
        Ok(lists)
    }

    /// The changes put over the deletions; both are patches.
    fn join(&self, mut deletions: Object, changes: Object, kind: Option<TypeId>) -> Object {
        for (key, change) in changes {
            let meta = self.meta(kind, &key);
            match (deletions.get_mut(&key), change) {
                (Some(Value::Object(below)), Value::Object(change)) if !meta.strategy.replace => {
                    *below = self.join(std::mem::take(below), change, meta.kind);
                }
                (Some(Value::Array(below)), Value::Array(change)) if meta.strategy.merge && !meta.key.is_empty() => {
                    *below = self.join_keyed(std::mem::take(below), change, &meta);
                }
                (_, change) => {
                    deletions.insert(key, change);
                }
            }
        }
        deletions
    }

    fn join_keyed(&self, deletions: Vec<Value>, changes: Vec<Value>, meta: &Meta) -> Vec<Value> {
        let (deletes, mut both): (Vec<Value>, Vec<Value>) =
            deletions.into_iter().partition(|item| item.get("$patch").is_some());
        let mut order: Vec<Value> = Vec::new();
        for change in changes {
            let at = both.iter().position(|item| item.get(meta.key) == change.get(meta.key));
            let joined = match (at.map(|at| both.remove(at)), change) {
                (Some(Value::Object(below)), Value::Object(change)) => {
                    Value::Object(self.join(below, change, self.element(meta)))
                }
                (_, change) => change,
            };
            order.push(joined);
        }
        both.extend(order);
        both.extend(deletes);
        both
    }
}

fn plain(old: &[Value], new: &[Value], side: Side) -> ListDiff {
    let mut lists = ListDiff::default();
    match side {
        Side::Changes => {
            lists.patch = new.iter().filter(|item| !old.contains(item)).cloned().collect();
            if old != new {
                lists.order = new.to_vec();
            }
        }
        Side::Deletions => {
            lists.delete = old.iter().filter(|item| !new.contains(item)).cloned().collect();
            if !lists.delete.is_empty() {
                lists.order = new.to_vec();
            }
        }
    }
    lists
}

/// Numbers are equal by value: `1` and `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
        }
        _ => a == b,
    }
}

/// The items of a list that merges stand in the patch in the order that goes with it.
fn sort_by_order(patch: &mut Value) {
    let Value::Object(fields) = patch else { return };
    let orders: Vec<(String, Value)> = fields
        .iter()
        .filter_map(|(key, order)| Some((key.strip_prefix("$setElementOrder/")?.to_owned(), order.clone())))
        .collect();
    for (field, order) in orders {
        let (Some(Value::Array(items)), Value::Array(order)) = (fields.get_mut(&field), order) else { continue };
        items.sort_by_key(|item| {
            let matches = |wanted: &Value| match wanted.as_object() {
                Some(key) => key.iter().all(|(name, value)| item.get(name) == Some(value)),
                None => wanted == item,
            };
            order.iter().position(matches).unwrap_or(usize::MAX)
        });
    }
    for value in fields.values_mut() {
        match value {
            Value::Array(items) => items.iter_mut().for_each(sort_by_order),
            value => sort_by_order(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategic::strategic_merge;
    use super::*;
    use crate::api::GroupVersionKind;

    fn pod_patch(original: Value, modified: Value, current: Value) -> Value {
        let pod = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "Pod")).expect("a kind");
        let spec = |value: &Value| json!({ "spec": value });
        let mut patch = three_way(&pod, &spec(&original), &spec(&modified), &spec(&current)).expect("a patch");
        if !patch["spec"].is_null() {
            // What the server makes of it has everything that was asked for.
            let merged = strategic_merge(&pod, spec(&current), patch.clone()).expect("it merges");
            let again = three_way(&pod, &spec(&modified), &spec(&modified), &merged).expect("a patch");
            assert_eq!(again, json!({}), "applied twice");
        }
        patch["spec"].take()
    }

    #[test]
    fn what_others_set_stays() {
        let own = json!({"containers": [{"name": "a", "image": "1"}]});
        let live = json!({"containers": [{"name": "a", "image": "1", "imagePullPolicy": "Always"}], "nodeName": "n1"});
        assert_eq!(pod_patch(own.clone(), own, live), Value::Null);
    }

    #[test]
    fn lists_are_compared_by_key() {
        let original = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]});
        let modified = json!({"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "2"}]});
        assert_eq!(
            pod_patch(original.clone(), modified, original),
            json!({
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [
                    {"name": "c", "image": "3"},
                    {"name": "a", "image": "2", "env": null},
                    {"name": "b", "$patch": "delete"},
                ],
            })
        );
    }

    #[test]
    fn unions_say_which_keys_stay() {
        let original = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let modified = json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]});
        assert_eq!(
            pod_patch(original.clone(), modified, original),
            json!({
                "$setElementOrder/volumes": [{"name": "v"}],
                "volumes": [{"name": "v", "$retainKeys": ["hostPath", "name"], "emptyDir": null, "hostPath": {"path": "/x"}}],
            })
        );
    }

    #[test]
    fn a_new_order_is_a_change() {
        let old = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        let new = json!({"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]});
        assert_eq!(
            pod_patch(old.clone(), new, old),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})
        );
    }

    #[test]
    fn primitive_lists_grow_and_shrink() {
        let schema = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("a kind");
        let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        let patch =
            three_way(&schema, &with(json!(["a", "b"])), &with(json!(["c", "a"])), &with(json!(["a", "b", "x"])));
        assert_eq!(
            patch.expect("a patch")["metadata"],
            json!({"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]})
        );
    }

    #[test]
    fn without_a_schema_lists_are_replaced() {
        let (original, modified) = (json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"b": {"c": 1}, "e": [1, 2]}));
        let current = json!({"a": 1, "b": {"c": 1, "d": 2, "other": 3}, "e": [1]});
        let patch = three_way_merge_patch(&original, &modified, &current);
        assert_eq!(patch, json!({"a": null, "b": {"d": null}, "e": [1, 2]}));
        assert_eq!(
            three_way_merge_patch(&modified, &modified, &json!({"b": {"c": 1}, "e": [1, 2], "x": 1})),
            json!({})
        );
    }
}
