//! OpenAPI v2 documents of other servers, merged into this one's as kube-aggregator does.
//!
//! [`Foreign::of`] keeps of a document what a group version needs; [`Merge`] adds such documents:
//! a path that is known stays as it is, a definition or parameter of a known name with other
//! contents gets a name of its own (`X_v2`), equal ones are one, with the kinds of both.

use crate::api::Fields;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem::take;

const KINDS: &str = "x-kubernetes-group-version-kind";
const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

/// The part of another server's document that its group version needs.
#[derive(Debug, Default, PartialEq)]
pub struct Foreign {
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
    parameters: Map<String, Value>,
}

impl Foreign {
    /// What of `document` lies below `prefix`. None: it is no document.
    pub fn of(mut document: Value, prefix: &str) -> Option<Self> {
        let mut part = |name: &str| document.get_mut(name).and_then(Value::as_object_mut).map(take);
        let (paths, definitions, parameters) = (part("paths")?, part("definitions"), part("parameters"));
        let all =
            Self { paths, definitions: definitions.unwrap_or_default(), parameters: parameters.unwrap_or_default() };
        Some(all.filtered(|path| path.starts_with(prefix)))
    }

    /// Without the other paths, and without the definitions that only these used.
    fn filtered(mut self, keep: impl Fn(&str) -> bool) -> Self {
        let before = self.used();
        self.paths.retain(|path, _| keep(path));
        let after = self.used();
        self.definitions.retain(|name, _| after.contains(name) || !before.contains(name));
        self
    }

    /// The definitions that paths refer to, one by another.
    fn used(&self) -> HashSet<String> {
        let mut used = HashSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&Value> = self.paths.values().collect();
        while let Some(value) = open.pop() {
            each_reference(value, &mut |reference| {
                if let Some(name) = reference.strip_prefix(DEFINITIONS) {
                    if used.insert(name.to_owned()) {
                        open.extend(self.definitions.get(name));
                    }
                } else if let Some(name) = reference.strip_prefix(PARAMETERS)
                    && seen.insert(name.to_owned())
                {
                    open.extend(self.parameters.get(name));
                }
            });
        }
        used
    }

    /// Whether merging this looks at a definition of that name.
    pub fn concerns(&self, definition: &str) -> bool {
        self.definitions.contains_key(definition)
            || definition.rsplit_once("_v").is_some_and(|(name, _)| self.definitions.contains_key(name))
    }
}

fn each_reference<'v>(value: &'v Value, found: &mut dyn FnMut(&'v str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found(reference);
            }
            map.values().for_each(|value| each_reference(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| each_reference(value, found)),
        _ => {}
    }
}

fn rename_references(value: &mut Value, renames: &HashMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(new) = renames.get(reference.as_str())
            {
                new.clone_into(reference);
            }
            map.values_mut().for_each(|value| rename_references(value, renames));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename_references(value, renames)),
        _ => {}
    }
}

/// What other documents add to one that is written piece by piece.
#[derive(Default)]
pub struct Merge {
    paths: BTreeSet<String>,
    names: BTreeSet<String>,
    /// The own definitions that others may be compared with, later as they are after all merges.
    pub definitions: BTreeMap<String, Value>,
    pub new_paths: BTreeMap<String, Value>,
    pub parameters: BTreeMap<String, Value>,
}

impl Merge {
    pub fn own_path(&mut self, path: &str) {
        self.paths.insert(path.to_owned());
    }

    pub fn own_parameter(&mut self, name: String, parameter: Value) {
        self.parameters.insert(name, parameter);
    }

    /// `schema`: where a [`Foreign`] is concerned.
    pub fn own_definition(&mut self, name: &str, schema: Option<Value>) {
        self.names.insert(name.to_owned());
        if let Some(schema) = schema {
            self.definitions.insert(name.to_owned(), schema);
        }
    }

    pub fn add(&mut self, foreign: &Foreign) {
        let new = |path: &str| !self.paths.contains(path);
        if !foreign.paths.keys().any(|path| new(path)) {
            return;
        }
        let copy = Foreign {
            paths: foreign.paths.clone(),
            definitions: foreign.definitions.clone(),
            parameters: foreign.parameters.clone(),
        };
        let mut source = if foreign.paths.keys().all(|path| new(path)) { copy } else { copy.filtered(new) };
        let definitions = renames(&source.definitions, &self.definitions, &self.names, same_but_kinds);
        let known = self.parameters.keys().cloned().collect();
        let parameters = renames(&source.parameters, &self.parameters, &known, |a, b| a == b);
        rename(&mut source, definitions, DEFINITIONS, |source| &mut source.definitions);
        rename(&mut source, parameters, PARAMETERS, |source| &mut source.parameters);
        for (name, schema) in source.definitions {
            match self.definitions.get_mut(&name) {
                Some(own) => merge_kinds(own, &schema),
                None => {
                    self.names.insert(name.clone());
                    self.definitions.insert(name, schema);
                }
            }
        }
        for (name, parameter) in source.parameters {
            self.parameters.entry(name).or_insert(parameter);
        }
        for (path, item) in source.paths {
            self.paths.insert(path.clone());
            self.new_paths.insert(path, item);
        }
    }
}

/// New names for what is there under its name with other contents.
fn renames(
    source: &Map<String, Value>,
    there: &BTreeMap<String, Value>,
    names: &BTreeSet<String>,
    same: impl Fn(&Value, &Value) -> bool,
) -> HashMap<String, String> {
    let mut used = names.clone();
    let mut renames = HashMap::new();
    'each: for (name, value) in source {
        if there.get(name).is_none_or(|own| same(own, value)) {
            continue;
        }
        let numbered = |number: u32| format!("{name}_v{number}");
        let mut number = 2;
        while let Some(own) = there.get(&numbered(number)) {
            if same(own, value) {
                renames.insert(name.clone(), numbered(number));
                continue 'each;
            }
            number += 1;
        }
        while used.contains(&numbered(number)) || source.contains_key(&numbered(number)) {
            number += 1;
        }
        used.insert(numbered(number));
        renames.insert(name.clone(), numbered(number));
    }
    renames
}

fn rename(
    source: &mut Foreign,
    renames: HashMap<String, String>,
    prefix: &str,
    of: fn(&mut Foreign) -> &mut Map<String, Value>,
) {
    if renames.is_empty() {
        return;
    }
    let references = renames.iter().map(|(old, new)| (format!("{prefix}{old}"), format!("{prefix}{new}"))).collect();
    for map in [&mut source.paths, &mut source.definitions, &mut source.parameters] {
        map.values_mut().for_each(|value| rename_references(value, &references));
    }
    let named = of(source);
    *named =
        take(named).into_iter().map(|(name, value)| (renames.get(&name).cloned().unwrap_or(name), value)).collect();
}

/// Whether two definitions differ in nothing but the kinds that they are of.
fn same_but_kinds(a: &Value, b: &Value) -> bool {
    fn rest(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
        value.entries().iter().filter(|(name, _)| *name != KINDS)
    }
    rest(a).eq(rest(b))
}

fn merge_kinds(own: &mut Value, other: &Value) {
    let mut kinds = own.list_at(KINDS).to_vec();
    let added: Vec<Value> = other.list_at(KINDS).iter().filter(|kind| !kinds.contains(kind)).cloned().collect();
    if added.is_empty() {
        return;
    }
    kinds.extend(added);
    kinds.sort_by_key(|kind| format!("{}/{}.{}", kind.str_at("group"), kind.str_at("version"), kind.str_at("kind")));
    own[KINDS] = Value::Array(kinds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(definition: &str) -> Value {
        json!({"get": {"responses": {"200": {"schema": {"$ref": format!("{DEFINITIONS}{definition}")}}}}})
    }

    fn foreign(meta: &str) -> Foreign {
        let document = json!({
            "swagger": "2.0",
            "paths": {"/apis/e.com/v1/widgets": path("Widget"), "/apis/e.com/v2/widgets": path("Other")},
            "definitions": {
                "Widget": {"properties": {"metadata": {"$ref": "#/definitions/Meta"}}},
                "Other": {"type": "object"},
                "Unused": {"type": "string"},
                "Meta": {"description": meta, KINDS: [{"group": "e.com", "version": "v1", "kind": "Meta"}]},
            },
        });
        Foreign::of(document, "/apis/e.com/v1/").expect("a document")
    }

    fn own() -> Merge {
        let mut merge = Merge::default();
        merge.own_path("/api/v1/pods");
        merge.own_definition("Pod", None);
        let kinds = json!([{"group": "", "version": "v1", "kind": "Meta"}]);
        merge.own_definition("Meta", Some(json!({"description": "own", KINDS: kinds})));
        merge
    }

    fn names(merge: &Merge) -> Vec<&str> {
        merge.definitions.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_group_version_keeps_what_it_uses() {
        let foreign = foreign("own");
        assert_eq!(foreign.paths.keys().collect::<Vec<_>>(), ["/apis/e.com/v1/widgets"]);
        assert_eq!(foreign.definitions.keys().collect::<Vec<_>>(), ["Meta", "Unused", "Widget"]);
        assert!(Foreign::of(json!([]), "/").is_none());
    }

    #[test]
    fn equal_definitions_are_one_of_both_kinds() {
        let mut merge = own();
        merge.add(&foreign("own"));
        assert_eq!(names(&merge), ["Meta", "Unused", "Widget"]);
        assert_eq!(merge.definitions["Meta"][KINDS].as_array().map(Vec::len), Some(2));
        assert_eq!(merge.definitions["Widget"]["properties"]["metadata"]["$ref"], "#/definitions/Meta");
        assert_eq!(merge.new_paths.len(), 1);
    }

    #[test]
    fn other_contents_get_a_name_of_their_own() {
        let mut merge = own();
        merge.add(&foreign("theirs"));
        assert_eq!(names(&merge), ["Meta", "Meta_v2", "Unused", "Widget"]);
        assert_eq!(merge.definitions["Widget"]["properties"]["metadata"]["$ref"], "#/definitions/Meta_v2");
        assert_eq!(merge.definitions["Meta"]["description"], "own");
        // A path that is known stays: nothing comes of the same document again.
        let before = merge.definitions.clone();
        merge.add(&foreign("others"));
        assert_eq!(merge.definitions, before);
    }
}
