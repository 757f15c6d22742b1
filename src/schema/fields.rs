//! Sets of fields, as managedFields carry them (`FieldsV1`).
//!
//! A set is a tree of path elements in their wire form: `f:<field>`, `k:<keys of a list element>`,
//! `v:<value in a set>`, `i:<index>`. A node may be a member itself, have members below it, or both.

use super::owned::is_member;
use serde_json::{Map, Value};
use std::cmp::Ordering;

/// See the module's text. In the order of the elements: most nodes have a few, and a list of them is
/// the smallest and quickest tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(Vec<(Box<str>, Node)>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    pub member: bool,
    pub below: FieldSet,
}

impl Node {
    pub fn leaf() -> Self {
        Self { member: true, below: FieldSet::default() }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// From `fieldsV1`. None: it is not of that form.
    pub fn from_value(value: &Value) -> Option<Self> {
        Self::from_map(value.as_object()?)
    }

    pub(super) fn from_map(map: &Map<String, Value>) -> Option<Self> {
        let mut nodes = Vec::with_capacity(map.len());
        // They come in order.
        for (element, below) in map.iter().filter(|(element, _)| *element != ".") {
            if is_known(element)? {
                let map = below.as_object()?;
                let below = Self::from_map(map)?;
                nodes.push((element.as_str().into(), Node { member: is_member(map), below }));
            }
        }
        Some(Self(nodes))
    }

    /// Whether [`Self::from_map`] reads it.
    pub(super) fn is_form_of(map: &Map<String, Value>) -> bool {
        map.iter().filter(|(element, _)| *element != ".").all(|(element, below)| match is_known(element) {
            Some(true) => below.as_object().is_some_and(Self::is_form_of),
            Some(false) => true,
            None => false,
        })
    }

    /// To `fieldsV1`.
    pub fn into_value(self) -> Value {
        // One after the other, in order: a map is collected by way of a list.
        let mut map = Map::new();
        for (element, node) in self.0 {
            map.insert(element.into(), node_value(node));
        }
        Value::Object(map)
    }

    /// The fields of dotted paths: `spec`, `metadata.name`.
    pub fn from_paths(paths: &[&str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let mut at = &mut set;
            let mut steps = path.split('.').peekable();
            while let Some(step) = steps.next() {
                let node = at.entry(format!("f:{step}"));
                node.member |= steps.peek().is_none();
                at = &mut node.below;
            }
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where an element is, or belongs.
    fn find(&self, element: &str) -> Result<usize, usize> {
        // Mostly what is put comes in order.
        match self.0.last() {
            Some((last, _)) if **last < *element => Err(self.0.len()),
            _ => self.0.binary_search_by(|(other, _)| (**other).cmp(element)),
        }
    }

    /// The node of an element, made where it is missing.
    fn entry(&mut self, element: String) -> &mut Node {
        let at = self.find(&element).unwrap_or_else(|at| {
            self.0.insert(at, (element.into(), Node::default()));
            at
        });
        &mut self.0[at].1
    }

    pub(super) fn put(&mut self, element: String, node: Node) {
        if !node.is_empty() {
            *self.entry(element) = node;
        }
    }

    pub(super) fn get(&self, element: &str) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(element, node)| (&**element, node))
    }

    pub fn union(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let mut all = Vec::with_capacity(self.0.len().max(other.0.len()));
        let (mut own, mut theirs) =
            (std::mem::take(&mut self.0).into_iter().peekable(), other.0.into_iter().peekable());
        while let (Some((one, _)), Some((two, _))) = (own.peek(), theirs.peek()) {
            let order = one.cmp(two);
            let first = if order == Ordering::Greater { theirs.next() } else { own.next() };
            let second = if order == Ordering::Equal { theirs.next() } else { None };
            all.extend(first.map(|(element, mut node)| {
                if let Some((_, second)) = second {
                    node.member |= second.member;
                    node.below = node.below.union(second.below);
                }
                (element, node)
            }));
        }
        all.extend(own);
        all.extend(theirs);
        Self(all)
    }

    /// The members that are not members of `other`.
    pub fn difference(mut self, other: &Self) -> Self {
        self.subtract(other, false);
        self
    }

    /// Without the members of `other` and all below them.
    pub fn recursive_difference(mut self, other: &Self) -> Self {
        self.subtract(other, true);
        self
    }

    fn subtract(&mut self, other: &Self, recursive: bool) {
        if other.is_empty() {
            return;
        }
        self.0.retain_mut(|(element, node)| {
            let Some(gone) = other.get(element) else { return true };
            if gone.member {
                if recursive {
                    return false;
                }
                node.member = false;
            }
            node.below.subtract(&gone.below, recursive);
            !node.is_empty()
        });
    }

    /// Whether all members are members of `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().all(|(element, node)| {
            other
                .get(element)
                .is_some_and(|theirs| (theirs.member || !node.member) && node.below.is_subset(&theirs.below))
        })
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(element, node)| {
            let theirs = other.get(element)?;
            let both = Node { member: node.member && theirs.member, below: node.below.intersection(&theirs.below) };
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self(both.collect())
    }

    /// The paths of all members, as conflicts print them: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        // A node's members come before what is below them.
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            paths.push(format!("{prefix}{}", print_element(element)));
        }
        for (element, node) in self.0.iter().filter(|(_, node)| !node.below.is_empty()) {
            node.below.collect(&format!("{prefix}{}", print_element(element)), paths);
        }
    }
}

/// Whether an element is of a kind that this version knows. None: it is none at all.
fn is_known(element: &str) -> Option<bool> {
    match element.as_bytes() {
        [b'f' | b'v' | b'k' | b'i', b':', ..] => Some(true),
        // Of a version to come.
        [_, b':', ..] => Some(false),
        _ => None,
    }
}

fn node_value(node: Node) -> Value {
    let mut map = match node.below.into_value() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if node.member && !map.is_empty() {
        map.insert(".".to_owned(), Value::Object(Map::new()));
    }
    Value::Object(map)
}

/// `f:spec` to `.spec`, `k:{"name":"a"}` to `[name="a"]`, `v:"x"` to `[="x"]`.
pub(super) fn print_element(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={}", print_value(value))).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, index)) => format!("[{index}]"),
        None => format!(".{element}"),
    }
}

/// A key may be of any shape where an object is refused for it.
fn print_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(print_value).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", print_value(value))).collect::<String>()
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value).expect("a set")
    }

    #[test]
    fn sets_survive_their_wire_form() {
        let value =
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:l": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}}}});
        assert_eq!(set(value.clone()).into_value(), value);
        assert_eq!(FieldSet::from_value(&json!({"f:a": 1})), None);
    }

    #[test]
    fn members_and_their_children_are_told_apart() {
        let all = set(json!({"f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        let node = set(json!({"f:b": {}}));
        assert_eq!(all.clone().difference(&node).into_value(), json!({"f:b": {"f:c": {}, "f:d": {}}}));
        assert!(all.clone().recursive_difference(&node).is_empty());
        assert!(node.is_subset(&all) && !all.is_subset(&node) && FieldSet::default().is_subset(&node));
        assert_eq!(all.intersection(&set(json!({"f:b": {"f:c": {}}}))).into_value(), json!({"f:b": {"f:c": {}}}));
        assert_eq!(node.union(set(json!({"f:b": {"f:x": {}}}))).into_value(), json!({"f:b": {".": {}, "f:x": {}}}));
    }

    #[test]
    fn paths_are_printed_as_conflicts_name_them() {
        let set = set(json!({"f:metadata": {"f:finalizers": {"v:\"a\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}}}));
        assert_eq!(
            set.paths(),
            [
                ".metadata.finalizers[=\"a\"]",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].name"
            ]
        );
    }

    #[test]
    fn paths_make_sets() {
        let set = FieldSet::from_paths(&["status", "metadata.name", "metadata"]);
        assert_eq!(set.into_value(), json!({"f:metadata": {".": {}, "f:name": {}}, "f:status": {}}));
    }
}
