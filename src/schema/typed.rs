//! Objects as server-side apply sees them: which fields differ, which are set, how two merge.
//!
//! The rules are those of `sigs.k8s.io/structured-merge-diff`: atomic values are one field, lists
//! with keys and sets have a field for each element, everything else goes down to scalars.

use super::fields::{FieldSet, Node, print_element};
use super::owned::is_member;
use super::table::{ListType, Shape, TypeId, TypeTable};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

/// The path of an element is seldom longer.
const ELEMENT: usize = 64;

/// The fields by which two objects differ.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: FieldSet,
    pub removed: FieldSet,
    pub modified: FieldSet,
}

impl Comparison {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// Forget what lies at or below paths.
    pub fn leave_out(&mut self, paths: &[&str]) {
        if paths.is_empty() {
            return;
        }
        let ignored = FieldSet::from_paths(paths);
        for set in [&mut self.added, &mut self.removed, &mut self.modified] {
            *set = std::mem::take(set).recursive_difference(&ignored);
        }
    }
}

/// The path of the entries of managers, which are no fields of an object to them.
pub const MANAGED_FIELDS: &[&str] = &["metadata", "managedFields"];

/// What of `hidden` lies below an entry. None: the entry itself is hidden.
fn hidden_below<'h>(hidden: &'h [&'h str], name: &str) -> Option<&'h [&'h str]> {
    match hidden {
        [last] if *last == name => None,
        [first, below @ ..] if *first == name => Some(below),
        _ => Some(&[]),
    }
}

#[derive(Default)]
struct Difference {
    added: Node,
    removed: Node,
    modified: Node,
}

/// The walks, on one table.
#[derive(Clone, Copy)]
pub struct Typed<'t> {
    pub table: &'t TypeTable,
}

/// Where a value is; printed only in errors.
struct Trail<'a> {
    before: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    /// In the form of managedFields.
    Element(&'a str),
    Index(usize),
}

impl<'a> Trail<'a> {
    fn then(&'a self, step: Step<'a>) -> Self {
        Self { before: Some(self), step }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            before.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Element(element) => f.write_str(&print_element(element)),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// How a type is merged.
enum Kind {
    Leaf,
    /// Fields or entries, and the type of each.
    Map,
    List(TypeId, ListType),
}

impl Typed<'_> {
    /// `values`: all that are looked at together.
    fn kind(&self, kind: TypeId, values: &[Option<&Value>]) -> Kind {
        match self.table.shape(kind) {
            Shape::Struct { atomic: false, .. } | Shape::Map { atomic: false, .. } => Kind::Map,
            // What the values say; of two minds, they are one value and another.
            Shape::Deduced => match values.iter().flatten().all(|value| value.is_object() || value.is_null()) {
                true => Kind::Map,
                false => Kind::Leaf,
            },
            Shape::List { list: ListType::Atomic, .. } => Kind::Leaf,
            Shape::List { element, list } => Kind::List(element, list),
            _ => Kind::Leaf,
        }
    }

    /// The paths in a value of lists, maps and structs that are merged as one value.
    pub fn atomics(&self, kind: TypeId, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.find_atomics(kind, value, String::new(), &mut found);
        found
    }

    fn find_atomics(&self, kind: TypeId, value: &Value, path: String, found: &mut Vec<String>) {
        let atomic = match self.table.shape(kind) {
            Shape::Struct { atomic, .. } | Shape::Map { atomic, .. } => atomic && value.is_object(),
            Shape::List { list, .. } => matches!(list, ListType::Atomic) && value.is_array(),
            _ => false,
        };
        if atomic {
            found.push(path.clone());
        }
        match (self.kind(kind, &[Some(value)]), value) {
            (Kind::Map, Value::Object(fields)) => {
                for (name, value) in fields {
                    if let Some((kind, _)) = self.entry(kind, name) {
                        self.find_atomics(kind, value, format!("{path}.{name}"), found);
                    }
                }
            }
            (Kind::List(element, _), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.find_atomics(element, item, format!("{path}[{index}]"), found);
                }
            }
            _ => {}
        }
    }

    /// The type of an entry, and whether it is a declared field.
    fn entry(&self, kind: TypeId, name: &str) -> Option<(TypeId, bool)> {
        match self.table.shape(kind) {
            Shape::Struct { id, .. } => match self.table.field(id, name) {
                Some(flat) => Some((flat.field.kind, true)),
                None => self.table.rest(id).map(|kind| (kind, false)),
            },
            Shape::Map { value, .. } => Some((value, false)),
            Shape::Deduced => Some((kind, false)),
            _ => None,
        }
    }

    /// What changed from the object `old` to `new`, but for [`MANAGED_FIELDS`].
    pub fn compare(&self, kind: TypeId, old: &Value, new: &Value) -> Comparison {
        let Difference { added, removed, modified } = self.map_difference(kind, Some(old), Some(new), MANAGED_FIELDS);
        Comparison { added: added.below, removed: removed.below, modified: modified.below }
    }

    fn difference(&self, kind: TypeId, old: Option<&Value>, new: Option<&Value>) -> Difference {
        self.map_difference(kind, old, new, &[])
    }

    fn map_difference(&self, kind: TypeId, old: Option<&Value>, new: Option<&Value>, hidden: &[&str]) -> Difference {
        let mut difference = Difference::default();
        let shape = self.kind(kind, &[old, new]);
        if matches!(shape, Kind::Leaf) || (is_void(old) && is_void(new)) {
            match (old, new) {
                (None, _) => difference.added = Node::leaf(),
                (_, None) => difference.removed = Node::leaf(),
                (Some(old), Some(new)) if !equal(old, new) => {
                    difference.modified = Node::leaf();
                    if matches!(self.table.shape(kind), Shape::Deduced) {
                        self.turned(kind, old, new, &mut difference);
                    }
                }
                _ => {}
            }
            return difference;
        }
        match shape {
            Kind::List(element, list) => self.list_difference(element, list, old, new, &mut difference),
            _ => {
                let empty = Map::new();
                let old_map = old.and_then(Value::as_object).unwrap_or(&empty);
                let new_map = new.and_then(Value::as_object).unwrap_or(&empty);
                for (name, value) in new_map {
                    let Some(below) = hidden_below(hidden, name) else { continue };
                    let before = old_map.get(name);
                    // Nothing to say of what is the same, which is most of an update.
                    if below.is_empty() && before.is_some_and(|before| before == value) {
                        continue;
                    }
                    if let Some((kind, _)) = self.entry(kind, name) {
                        let inner = self.map_difference(kind, before, Some(value), below);
                        difference.join(format!("f:{name}"), inner);
                    }
                }
                for (name, value) in old_map.iter().filter(|(name, _)| !new_map.contains_key(*name)) {
                    let Some(below) = hidden_below(hidden, name) else { continue };
                    if let Some((kind, _)) = self.entry(kind, name) {
                        let inner = self.map_difference(kind, Some(value), None, below);
                        difference.join(format!("f:{name}"), inner);
                    }
                }
            }
        }
        match (old, new) {
            (None, _) => difference.added.member = true,
            (_, None) => difference.removed.member = true,
            _ => {}
        }
        difference
    }

    /// A map that became something else loses its entries; what becomes a map gains them.
    fn turned(&self, kind: TypeId, old: &Value, new: &Value, difference: &mut Difference) {
        for (name, value) in old.as_object().into_iter().flatten() {
            difference.join(format!("f:{name}"), self.difference(kind, Some(value), None));
        }
        for (name, value) in new.as_object().into_iter().flatten() {
            difference.join(format!("f:{name}"), self.difference(kind, None, Some(value)));
        }
    }

    fn list_difference<'v>(
        &self,
        element: TypeId,
        list: ListType,
        old: Option<&'v Value>,
        new: Option<&'v Value>,
        difference: &mut Difference,
    ) {
        let index = |value: Option<&'v Value>| -> Vec<(String, Vec<&'v Value>)> {
            let mut order: Vec<(String, Vec<&'v Value>)> = Vec::new();
            let mut seen: HashMap<String, usize> = HashMap::new();
            for item in value.and_then(Value::as_array).into_iter().flatten() {
                let Ok(path) = self.element(element, list, item) else { continue };
                match seen.get(&path) {
                    Some(&at) => order[at].1.push(item),
                    None => {
                        seen.insert(path.clone(), order.len());
                        order.push((path, vec![item]));
                    }
                }
            }
            order
        };
        let old = index(old);
        let mut new = index(new);
        for (path, before) in old {
            let after = new.iter().position(|(other, _)| *other == path).map(|at| new.swap_remove(at).1);
            self.element_difference(element, path, &before, after.as_deref().unwrap_or_default(), difference);
        }
        for (path, after) in new {
            self.element_difference(element, path, &[], &after, difference);
        }
    }

    /// Elements with one path: more than one on a side are compared as a whole.
    fn element_difference(
        &self,
        element: TypeId,
        path: String,
        before: &[&Value],
        after: &[&Value],
        difference: &mut Difference,
    ) {
        match (before.len(), after.len()) {
            (0..=1, 0..=1) => {
                difference.join(path, self.difference(element, before.first().copied(), after.first().copied()));
            }
            (2.., 2..) => {
                if before != after {
                    difference.join(path, Difference { modified: Node::leaf(), ..Difference::default() });
                }
            }
            (2.., _) => {
                let mut both = Difference::default();
                if let Some(after) = after.first() {
                    both = self.difference(element, None, Some(after));
                }
                both.removed = Node::leaf();
                difference.join(path, both);
            }
            _ => {
                let mut both = Difference::default();
                if let Some(before) = before.first() {
                    both = self.difference(element, Some(before), None);
                }
                both.added = Node::leaf();
                difference.join(path, both);
            }
        }
    }

    /// The path element of a list's item.
    fn element(&self, element: TypeId, list: ListType, item: &Value) -> Result<String, String> {
        let mut out = String::with_capacity(ELEMENT);
        self.write_element(&mut out, element, list, item).map(|()| out)
    }

    /// Behind what is there.
    fn write_element(&self, out: &mut String, element: TypeId, list: ListType, item: &Value) -> Result<(), String> {
        match list {
            ListType::Map { keys } => {
                let Some(map) = item.as_object() else {
                    return Err(if item.is_null() {
                        "associative list with keys may not have a null element".to_owned()
                    } else {
                        "associative list with keys may not have non-map elements".to_owned()
                    });
                };
                let declared = self.table.keys(keys).iter().map(|&key| self.table.name(key));
                let next = |last: &&str| declared.clone().filter(|name| name > last).min();
                out.push_str("k:{");
                let before = out.len();
                for name in std::iter::successors(declared.clone().min(), next) {
                    let default;
                    // An item without a key is another one than an item with it.
                    let value = match map.get(name) {
                        Some(value) => value,
                        None => match self.key_default(element, name) {
                            Some(value) => {
                                default = value;
                                &default
                            }
                            None => continue,
                        },
                    };
                    if out.len() > before {
                        out.push(',');
                    }
                    write!(out, "\"{name}\":{value}").expect("a string takes what is written");
                }
                if out.len() == before && declared.len() > 0 {
                    let names: Vec<String> = declared.map(|name| format!("\"{name}\"")).collect();
                    return Err(format!(
                        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                        names.join(" ")
                    ));
                }
                out.push('}');
                Ok(())
            }
            ListType::Set | ListType::Atomic => match item {
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                item => write!(out, "v:{item}").map_err(|error| error.to_string()),
            },
        }
    }

    /// What a key is when it is not written: its declared default, or zero where Go always writes it.
    fn key_default(&self, element: TypeId, name: &str) -> Option<Value> {
        let id = self.table.as_struct(element)?;
        let flat = self.table.field(id, name)?;
        let default = self.table.name(flat.field.default);
        if !default.is_empty() {
            return serde_json::from_str(default).ok();
        }
        if flat.field.pointer() || flat.field.omit_empty() {
            return None;
        }
        Some(super::decode::zero(self.table, flat.field.kind))
    }

    /// Every field that is set, as its applier owns it.
    pub fn field_set(&self, kind: TypeId, value: &Value) -> FieldSet {
        self.set_node(kind, value).below
    }

    fn set_node(&self, kind: TypeId, value: &Value) -> Node {
        let mut node = Node::default();
        match self.kind(kind, &[Some(value)]) {
            Kind::List(element, list) => {
                for item in value.as_array().into_iter().flatten() {
                    if let Ok(path) = self.element(element, list, item) {
                        let mut below = self.set_node(element, item);
                        below.member = true;
                        node.below.put(path, below);
                    }
                }
            }
            Kind::Map => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let Some((kind, declared)) = self.entry(kind, name) else { continue };
                    let mut below = self.set_node(kind, value);
                    below.member |= is_empty(value) || !declared;
                    node.below.put(format!("f:{name}"), below);
                }
            }
            _ => node.member = true,
        }
        node
    }

    /// Whether the fields that are set are just those of a stored set, but for what is `stripped` of it.
    ///
    /// As [`Self::field_set`] would make it, and without making it.
    pub fn sets_just(&self, kind: TypeId, value: &Value, fields: &Map<String, Value>, stripped: &FieldSet) -> bool {
        self.is_below(kind, value, fields, stripped, &mut String::with_capacity(ELEMENT))
    }

    /// `path`: room for an element's.
    fn is_below(
        &self,
        kind: TypeId,
        value: &Value,
        fields: &Map<String, Value>,
        stripped: &FieldSet,
        path: &mut String,
    ) -> bool {
        let mut found = usize::from(fields.contains_key("."));
        match self.kind(kind, &[Some(value)]) {
            Kind::List(element, list) => {
                for item in value.as_array().into_iter().flatten() {
                    path.clear();
                    if self.write_element(path, element, list, item).is_err() {
                        continue;
                    }
                    let Some(Value::Object(below)) = fields.get(path.as_str()) else { return false };
                    if !is_member(below) || !self.is_below(element, item, below, &FieldSet::default(), path) {
                        return false;
                    }
                    found += 1;
                }
            }
            Kind::Map => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let Some((kind, declared)) = self.entry(kind, name) else { continue };
                    path.clear();
                    path.push_str("f:");
                    path.push_str(name);
                    let none = Node::default();
                    let stripped = stripped.get(path).unwrap_or(&none);
                    let member = |leaf: bool| !stripped.member && (leaf || !declared || is_empty(value));
                    let Some(Value::Object(below)) = fields.get(path.as_str()) else {
                        let mut node = self.set_node(kind, value);
                        node.member = member(node.member);
                        node.below = node.below.difference(&stripped.below);
                        if node.is_empty() {
                            continue;
                        }
                        return false;
                    };
                    let leaf = matches!(self.kind(kind, &[Some(value)]), Kind::Leaf);
                    if is_member(below) != member(leaf) || !self.is_below(kind, value, below, &stripped.below, path) {
                        return false;
                    }
                    found += 1;
                }
            }
            Kind::Leaf => {}
        }
        found == fields.len()
    }

    /// What keeps a value from being applied, as `path: message`.
    pub fn validate(&self, kind: TypeId, value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        self.check(kind, value, &Trail { before: None, step: Step::Root }, &mut errors);
        errors
    }

    fn check(&self, kind: TypeId, value: &Value, path: &Trail<'_>, errors: &mut Vec<String>) {
        if value.is_null() {
            return;
        }
        let mut wrong = |message: String| errors.push(format!("{path}: {message}"));
        let shown = || super::go_print::go_print(value);
        match self.table.shape(kind) {
            Shape::Struct { .. } | Shape::Map { .. } => {
                let Some(map) = value.as_object() else { return wrong(format!("expected map, got &{{{}}}", shown())) };
                for (name, value) in map {
                    match self.entry(kind, name) {
                        Some((kind, _)) => self.check(kind, value, &path.then(Step::Field(name)), errors),
                        // Nothing more is said of the fields beside one that nobody knows.
                        None => {
                            errors.push(format!("{path}.{name}: field not declared in schema"));
                            break;
                        }
                    }
                }
            }
            Shape::List { element, list } => {
                let Some(items) = value.as_array() else {
                    return wrong(format!("expected list, got &{{{}}}", shown()));
                };
                if matches!(list, ListType::Atomic) {
                    for (index, item) in items.iter().enumerate() {
                        self.check(element, item, &path.then(Step::Index(index)), errors);
                    }
                    return;
                }
                // All in one text: there may be many, and they are seldom printed.
                let mut text = String::with_capacity(ELEMENT * items.len());
                let mut write = |item| {
                    let start = text.len();
                    self.write_element(&mut text, element, list, item).map(|()| start..text.len())
                };
                let steps: Vec<Result<_, String>> = items.iter().map(&mut write).collect();
                let mut seen = HashSet::with_capacity(items.len());
                for (index, (item, step)) in items.iter().zip(steps).enumerate() {
                    match step.map(|step| &text[step]) {
                        Ok(step) => {
                            if !seen.insert(step) {
                                errors.push(format!("{path}: duplicate entries for key {}", print_element(step)));
                            }
                            self.check(element, item, &path.then(Step::Element(step)), errors);
                        }
                        Err(error) => errors.push(format!("{path}: element {index}: {error}")),
                    }
                }
            }
            Shape::String | Shape::Bytes | Shape::Duration => {
                if !value.is_string() {
                    let shown = super::go_print::go_syntax(value);
                    wrong(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"));
                }
            }
            Shape::Bool if !value.is_boolean() => wrong(format!("expected boolean, got &{{{}}}", shown())),
            Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float if !value.is_number() => {
                let got = match value {
                    Value::Bool(_) => "bool",
                    Value::String(_) => "string",
                    Value::Array(_) => "[]interface {}",
                    _ => "map[string]interface {}",
                };
                wrong(format!("expected numeric (int or float), got {got}"));
            }
            Shape::FieldsV1 if !value.is_object() => wrong(format!("expected map, got &{{{}}}", shown())),
            Shape::Quantity | Shape::Time | Shape::MicroTime if value.is_object() || value.is_array() => {
                wrong(format!("expected any scalar, got &{{{}}}", shown()));
            }
            _ => {}
        }
    }

    /// `config` laid over `live`.
    pub fn merge(&self, kind: TypeId, live: &Value, config: &Value) -> Value {
        self.merge_without(kind, live, config, &[])
    }

    /// As [`Self::merge`]; what is `hidden` of `live` does not come along.
    pub fn merge_without(&self, kind: TypeId, live: &Value, config: &Value, hidden: &[&str]) -> Value {
        let mut merged = copy_without(live, hidden);
        self.overlay(kind, &mut merged, config);
        merged
    }

    /// Lay `config` over a value: what it does not change stays where it is.
    fn overlay(&self, kind: TypeId, at: &mut Value, config: &Value) {
        let shape = self.kind(kind, &[Some(at), Some(config)]);
        if is_void(Some(at)) && is_void(Some(config)) {
            *at = config.clone();
            return;
        }
        match shape {
            Kind::Map => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                let Value::Object(own) = at else { return };
                for (name, value) in config.as_object().into_iter().flatten() {
                    match (own.get_mut(name), self.entry(kind, name)) {
                        (Some(own), Some((kind, _))) => self.overlay(kind, own, value),
                        _ => drop(own.insert(name.clone(), value.clone())),
                    }
                }
            }
            Kind::List(element, list) => match (at, config) {
                // The elements of both are the same ones, mostly.
                (Value::Array(own), Value::Array(config)) if self.elements_match(element, list, own, config) => {
                    for (own, config) in own.iter_mut().zip(config) {
                        self.overlay(element, own, config);
                    }
                }
                (at, config) => *at = self.merge_list(element, list, at, config),
            },
            _ if at != config => *at = config.clone(),
            _ => {}
        }
    }

    /// Whether both lists have elements of the same paths in the same order.
    fn elements_match(&self, element: TypeId, list: ListType, one: &[Value], two: &[Value]) -> bool {
        let matches = |one: &Value, two: &Value| match list {
            ListType::Map { keys } => {
                let (Some(one), Some(two)) = (one.as_object(), two.as_object()) else { return false };
                let names = || self.table.keys(keys).iter().map(|&key| self.table.name(key));
                let is_same = |name: &str| match (one.get(name), two.get(name)) {
                    (Some(one), Some(two)) => one == two,
                    (None, None) => true,
                    (Some(value), None) | (None, Some(value)) => {
                        self.key_default(element, name).is_some_and(|default| default == *value)
                    }
                };
                // One that has no key at all may be no element.
                names().any(|name| one.contains_key(name)) && names().all(is_same)
            }
            ListType::Set | ListType::Atomic => !one.is_null() && !one.is_object() && !one.is_array() && one == two,
        };
        one.len() == two.len() && one.iter().zip(two).all(|(one, two)| matches(one, two))
    }

    /// Elements of both, in the config's order; the live ones that it does not name stay where they
    /// were between them.
    fn merge_list<'v>(&self, element: TypeId, list: ListType, live: &'v Value, config: &'v Value) -> Value {
        let index = |value: &'v Value| -> Vec<(String, &'v Value)> {
            let items = value.as_array().into_iter().flatten();
            items.filter_map(|item| Some((self.element(element, list, item).ok()?, item))).collect()
        };
        let (left, right) = (index(live), index(config));
        let in_left: HashMap<&str, &Value> = left.iter().map(|(path, item)| (path.as_str(), *item)).collect();
        let in_right: HashMap<&str, &Value> = right.iter().map(|(path, item)| (path.as_str(), *item)).collect();
        let mut shared = right.iter().map(|(path, _)| path.as_str()).filter(|path| in_left.contains_key(path));
        let mut next_shared = shared.next();
        let mut taken: Vec<&str> = Vec::new();
        let mut merged = Vec::with_capacity(left.len() + right.len());
        let (mut l, mut r) = (0, 0);
        while l < left.len() || r < right.len() {
            if let (Some((path, item)), Some((other, config))) = (left.get(l), right.get(r)) {
                if path == other {
                    taken.push(path);
                    merged.push(self.merge(element, item, config));
                    (l, r) = (l + 1, r + 1);
                    next_shared = shared.next();
                    continue;
                }
                if in_right.contains_key(path.as_str()) && next_shared.is_some_and(|next| next != path) {
                    l += 1;
                    continue;
                }
            }
            if let Some((path, item)) = left.get(l) {
                if !in_right.contains_key(path.as_str()) {
                    merged.push((*item).clone());
                    l += 1;
                    continue;
                }
                if taken.contains(&path.as_str()) {
                    l += 1;
                }
            }
            if let Some((path, config)) = right.get(r) {
                taken.push(path);
                merged.push(match in_left.get(path.as_str()) {
                    Some(live) => self.merge(element, live, config),
                    None => (*config).clone(),
                });
                r += 1;
                if next_shared == Some(path.as_str()) {
                    next_shared = shared.next();
                }
            }
        }
        Value::Array(merged)
    }

    /// Without the fields and elements of a set. None: nothing is left.
    pub fn remove(&self, kind: TypeId, value: &Value, set: &FieldSet) -> Option<Value> {
        match self.kind(kind, &[Some(value)]) {
            Kind::Map => {
                let map = value.as_object()?;
                let (mut kept, mut inside) = (Map::new(), false);
                for (name, value) in map {
                    let node = set.get(&format!("f:{name}"));
                    if node.is_some_and(|node| node.member) {
                        continue;
                    }
                    let below = match (node, self.entry(kind, name)) {
                        (Some(node), Some((kind, _))) if !node.below.is_empty() => {
                            inside = true;
                            self.remove(kind, value, &node.below).unwrap_or_else(|| emptied(value))
                        }
                        _ => value.clone(),
                    };
                    kept.insert(name.clone(), below);
                }
                (inside || !kept.is_empty()).then_some(Value::Object(kept))
            }
            Kind::List(element, list) => {
                let (mut kept, mut inside) = (Vec::new(), false);
                for item in value.as_array()? {
                    let node = self.element(element, list, item).ok().and_then(|path| set.get(&path));
                    if node.is_some_and(|node| node.member) {
                        continue;
                    }
                    kept.push(match node {
                        Some(node) if !node.below.is_empty() => {
                            inside = true;
                            self.remove(element, item, &node.below).unwrap_or_else(|| emptied(item))
                        }
                        _ => item.clone(),
                    });
                }
                (inside || !kept.is_empty()).then_some(Value::Array(kept))
            }
            _ => Some(value.clone()),
        }
    }

    /// The set with every declared field on the way to a member as a member, too.
    pub fn with_named_fields(&self, kind: TypeId, set: &FieldSet) -> FieldSet {
        let mut out = FieldSet::default();
        for (element, node) in set.nodes() {
            let entry = match element.strip_prefix("f:") {
                Some(name) => self.entry(kind, name),
                None => match self.kind(kind, &[]) {
                    Kind::List(element, _) => Some((element, false)),
                    _ => None,
                },
            };
            let below = match entry {
                Some((kind, _)) => self.with_named_fields(kind, &node.below),
                None => node.below.clone(),
            };
            let declared = entry.is_some_and(|(_, declared)| declared) && !node.below.is_empty();
            out.put(element.to_owned(), Node { member: node.member || declared, below });
        }
        out
    }
}

/// What is left of a list or map that lost all that was in it, and was not itself removed.
fn emptied(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

impl Difference {
    fn join(&mut self, path: String, below: Self) {
        let sets =
            [(&mut self.added, below.added), (&mut self.removed, below.removed), (&mut self.modified, below.modified)];
        let mut path = Some(path);
        let last = sets.iter().rposition(|(_, node)| !node.is_empty());
        for (at, (own, node)) in sets.into_iter().enumerate() {
            if !node.is_empty() {
                let path = if Some(at) == last { path.take() } else { path.clone() };
                own.below.put(path.unwrap_or_default(), node);
            }
        }
    }
}

/// A copy of a value without what is hidden of it.
fn copy_without(value: &Value, hidden: &[&str]) -> Value {
    let (Value::Object(map), false) = (value, hidden.is_empty()) else { return value.clone() };
    let kept = map.iter().filter_map(|(name, value)| {
        let below = hidden_below(hidden, name)?;
        Some((name.clone(), copy_without(value, below)))
    });
    Value::Object(kept.collect())
}

/// Null, or a map without entries.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Absent, null or without anything in it.
fn is_void(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
