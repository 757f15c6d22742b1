//! What an entry of managedFields owns: as it is stored, until a write takes from it or adds to it.
//! Most writes touch few fields, and most entries pass from one state to the next as they are.

use super::fields::{FieldSet, Node};
use serde_json::{Map, Value};

#[derive(Clone, Debug)]
pub(super) enum Fields<'v> {
    /// A `fieldsV1` of that form.
    Stored(&'v Map<String, Value>),
    Set(FieldSet),
}

impl<'v> Fields<'v> {
    /// None: it is not of that form.
    pub fn stored(value: &'v Value) -> Option<Self> {
        let map = value.as_object()?;
        FieldSet::is_form_of(map).then_some(Self::Stored(map))
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Stored(map) => map.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }

    pub fn into_set(self) -> FieldSet {
        match self {
            Self::Stored(map) => FieldSet::from_map(map).unwrap_or_default(),
            Self::Set(set) => set,
        }
    }

    pub fn into_value(self) -> Value {
        match self {
            Self::Stored(map) => Value::Object(map.clone()),
            Self::Set(set) => set.into_value(),
        }
    }

    fn change(&mut self, change: impl FnOnce(FieldSet) -> FieldSet) {
        let set = std::mem::replace(self, Self::Set(FieldSet::default())).into_set();
        *self = Self::Set(change(set));
    }

    /// Without the members of `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        if !matches!(self, Self::Stored(map) if !meets(map, other)) {
            self.change(|set| set.difference(other));
        }
    }

    pub fn add(&mut self, other: FieldSet) {
        if !matches!(self, Self::Stored(map) if has_all(map, &other)) {
            self.change(|set| set.union(other));
        }
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        match self {
            Self::Stored(map) if !meets(map, other) => FieldSet::default(),
            Self::Stored(map) => FieldSet::from_map(map).unwrap_or_default().intersection(other),
            Self::Set(set) => set.intersection(other),
        }
    }
}

/// Whether an element with this below it is a member itself.
pub(super) fn is_member(below: &Map<String, Value>) -> bool {
    below.is_empty() || below.contains_key(".")
}

fn below<'v>(map: &'v Map<String, Value>, element: &str) -> Option<&'v Map<String, Value>> {
    map.get(element).and_then(Value::as_object)
}

/// Whether some member is a member of both.
fn meets(map: &Map<String, Value>, set: &FieldSet) -> bool {
    set.nodes().any(|(element, node)| {
        below(map, element).is_some_and(|below| (node.member && is_member(below)) || meets(below, &node.below))
    })
}

/// Whether all members of `set` are members of the other.
fn has_all(map: &Map<String, Value>, set: &FieldSet) -> bool {
    let has =
        |below: &Map<String, Value>, node: &Node| (is_member(below) || !node.member) && has_all(below, &node.below);
    set.nodes().all(|(element, node)| below(map, element).is_some_and(|below| has(below, node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_touched_stays_as_it_is_stored() {
        let value =
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:l": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}}}});
        let set = |value: Value| FieldSet::from_value(&value).expect("a set");
        let cases = [
            (json!({"f:x": {}}), false, false),
            (json!({"f:a": {}}), true, true),
            (json!({"f:b": {}}), true, true),
            (json!({"f:b": {"f:d": {}}}), false, false),
            (json!({"f:b": {"f:c": {}, "f:d": {}}}), true, false),
            // What is below a member is no member, nor is what has members below it.
            (json!({"f:a": {"f:x": {}}}), false, false),
            (json!({"f:l": {}}), false, false),
            (json!({"f:l": {"k:{\"name\":\"x\"}": {"f:name": {}}}}), true, true),
        ];
        for (other, meets, has_all) in cases {
            let stored = Fields::stored(&value).expect("fields");
            let (mut less, mut more) = (stored.clone(), stored.clone());
            less.subtract(&set(other.clone()));
            more.add(set(other.clone()));
            assert_eq!(
                (matches!(less, Fields::Set(_)), matches!(more, Fields::Stored(_))),
                (meets, has_all),
                "{other}"
            );
            assert_eq!(stored.intersection(&set(other.clone())), set(value.clone()).intersection(&set(other.clone())));
            assert_eq!(less.into_value(), set(value.clone()).difference(&set(other.clone())).into_value(), "{other}");
            assert_eq!(more.into_value(), set(value.clone()).union(set(other.clone())).into_value(), "{other}");
        }
        for wrong in [json!([]), json!({"f:a": 1}), json!({"a": {}}), json!({"f:a": {"b": {}}})] {
            assert!(Fields::stored(&wrong).is_none(), "{wrong}");
        }
    }
}
