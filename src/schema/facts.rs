//! Reads `facts/types.txt`, what `scripts/generate-facts` makes of the public type declarations.
//!
//! Lines: `named TYPE BASE`, `package PATH GROUP VERSION`, `struct NAME [atomic]`, and below it
//! ` FIELD NUMBER FLAGS TYPE [l=LIST[:KEYS]] [m=atomic] [s=STRATEGY[:KEY]] [d=DEFAULT]`.

use super::table::{Builder, FieldFacts, ListType, PatchStrategy, Shape, StructId, TypeId, TypeTable};
use crate::api::GroupVersionKind;
use std::collections::HashMap;

/// Kinds of the API machinery that every group version registers.
const OPTIONS: &[&str] =
    &["CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions", "WatchEvent"];

/// Those that are only in the core group's `v1`, and served in meta.k8s.io.
const UNVERSIONED: &[&str] = &["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];

struct Reader<'a> {
    builder: Builder,
    named: HashMap<&'a str, &'a str>,
    structs: HashMap<String, (StructId, bool)>,
    nodes: HashMap<String, TypeId>,
}

/// The facts are part of the binary: a line that does not read is a defect of the build, and panics.
pub(super) fn read(text: &str) -> TypeTable {
    let mut reader =
        Reader { builder: Builder::default(), named: HashMap::new(), structs: HashMap::new(), nodes: HashMap::new() };
    let mut package = "";
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("named"), Some(name)) => {
                reader.named.insert(name, words.next().expect("a base"));
            }
            (Some("package"), Some(path)) => {
                package = path;
                let (group, version) = (words.next().expect("a group"), words.next().expect("a version"));
                reader.builder.version(if group == "-" { "" } else { group }, version, path);
            }
            (Some("struct"), Some(name)) => {
                let atomic = words.next() == Some("atomic");
                let id = reader.builder.declare(package, name, atomic);
                reader.structs.insert(format!("{package}.{name}"), (id, atomic));
            }
            _ => {}
        }
    }
    reader.fields(text);
    reader.kinds(text);
    reader.builder.finish()
}

impl<'a> Reader<'a> {
    fn fields(&mut self, text: &'a str) {
        let (mut package, mut current, mut fields) = ("", None, Vec::new());
        for line in text.lines().chain(["struct"]) {
            if let Some(line) = line.strip_prefix(' ') {
                fields.push(self.field(line, package));
                continue;
            }
            if let Some(id) = current.take() {
                self.builder.fill(id, &fields);
                fields.clear();
            }
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("package"), Some(path)) => package = path,
                (Some("struct"), Some(name)) => current = Some(self.structs[&format!("{package}.{name}")].0),
                _ => {}
            }
        }
    }

    fn field(&mut self, line: &'a str, package: &str) -> FieldFacts<'a> {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("four words");
        let (name, number, flags, expression) = (word(), word(), word(), word());
        let (mut list, mut atomic, mut patch, mut merge_key, mut default) =
            ("", None, PatchStrategy::default(), "", "");
        for attribute in words {
            let (key, value) = attribute.split_once('=').expect("key=value");
            match key {
                "l" => list = value,
                "m" => atomic = Some(value == "atomic"),
                "d" => default = value,
                _ => {
                    let (strategies, key) = value.split_once(':').unwrap_or((value, ""));
                    merge_key = key;
                    for strategy in strategies.split(',') {
                        match strategy {
                            "merge" => patch.merge = true,
                            "retainKeys" => patch.retain_keys = true,
                            _ => patch.replace = true,
                        }
                    }
                }
            }
        }
        let kind = self.kind(expression, package, list, atomic);
        FieldFacts { name, kind, number: number.parse().expect("a number"), flags, patch, merge_key, default }
    }

    /// The node of a type expression; `list` and `atomic` are the field's own markers.
    fn kind(&mut self, expression: &str, package: &str, list: &str, atomic: Option<bool>) -> TypeId {
        let full = qualify(expression, package);
        let key = format!("{full} {list} {atomic:?}");
        if let Some(&kind) = self.nodes.get(&key) {
            return kind;
        }
        let (shape, go) = self.shape(&full, list, atomic);
        let kind = self.builder.node(shape, &go);
        self.nodes.insert(key, kind);
        kind
    }

    fn shape(&mut self, full: &str, list: &str, atomic: Option<bool>) -> (Shape, String) {
        if full == "[]byte" {
            return (Shape::Bytes, go_name(full));
        }
        if let Some(element) = full.strip_prefix("[]") {
            let element = self.kind(element, "", "", None);
            return (Shape::List { element, list: self.list_type(list) }, go_name(full));
        }
        if let Some((_, value)) = full.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            let value = self.kind(value, "", "", None);
            return (Shape::Map { value, atomic: atomic.unwrap_or_default() }, go_name(full));
        }
        if let Some(&(id, struct_atomic)) = self.structs.get(full) {
            return (Shape::Struct { id, atomic: atomic.unwrap_or(struct_atomic) }, go_name(full));
        }
        let shape = match full {
            "string" => Shape::String,
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int" | "int64" => Shape::Int64,
            "uint32" => Shape::Uint32,
            "uint64" => Shape::Uint64,
            "float64" => Shape::Float,
            "time" => Shape::Time,
            "micro-time" => Shape::MicroTime,
            "duration" => Shape::Duration,
            "quantity" => Shape::Quantity,
            "int-or-string" => Shape::IntOrString,
            "raw-extension" => Shape::RawExtension,
            "json" | "any" => Shape::Any,
            "fields" => Shape::FieldsV1,
            named => {
                let base = *self.named.get(named).unwrap_or_else(|| panic!("facts: unknown type {named}"));
                if let Some(or) = base.strip_prefix("schema-or-") {
                    let package = named.rsplit_once('.').expect("a package").0;
                    let schema = self.kind("JSONSchemaProps", package, "", None);
                    let shape = match or {
                        "array" => Shape::SchemaOrArray(schema),
                        "bool" => Shape::SchemaOrBool(schema),
                        _ => Shape::SchemaOrStringArray(schema),
                    };
                    return (shape, go_name(named));
                }
                return (self.shape(base, list, atomic).0, go_name(named));
            }
        };
        (shape, full.to_owned())
    }

    fn list_type(&mut self, list: &str) -> ListType {
        match list.split_once(':') {
            Some((_, keys)) => ListType::Map { keys: self.builder.keys(keys.split(',')) },
            None if list == "set" => ListType::Set,
            None => ListType::Atomic,
        }
    }

    /// A kind is a struct with an inline TypeMeta.
    fn kinds(&mut self, text: &'a str) {
        let (mut package, mut group, mut version, mut name) = ("", "", "", "");
        for line in text.lines() {
            let mut words = line.trim_start().split(' ');
            match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
                ("package", path) => {
                    package = path;
                    group = words.next().filter(|group| *group != "-").unwrap_or_default();
                    version = words.next().unwrap_or_default();
                }
                ("struct", declared) => {
                    name = declared;
                    if package == "meta/v1" && (OPTIONS.contains(&name) || UNVERSIONED.contains(&name)) {
                        let root = self.kind(name, package, "", None);
                        if OPTIONS.contains(&name) {
                            self.builder.meta_kind(name, root);
                        } else {
                            self.builder.kind(GroupVersionKind::new("", "v1", name), root);
                        }
                    }
                }
                ("TypeMeta", "0") => {
                    let root = self.kind(name, package, "", None);
                    self.builder.kind(GroupVersionKind::new(group, version, name), root);
                }
                _ => {}
            }
        }
    }
}

/// `[]Container` in `core/v1` to `[]core/v1.Container`.
fn qualify(expression: &str, package: &str) -> String {
    if let Some(element) = expression.strip_prefix("[]") {
        return format!("[]{}", qualify(element, package));
    }
    if let Some((key, value)) = expression.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return format!("map[{}]{}", qualify(key, package), qualify(value, package));
    }
    if package.is_empty() || expression.contains('.') || !expression.starts_with(|c: char| c.is_ascii_uppercase()) {
        return expression.to_owned();
    }
    format!("{package}.{expression}")
}

/// `map[core/v1.ResourceName]api/resource.Quantity` to `map[v1.ResourceName]resource.Quantity`.
fn go_name(full: &str) -> String {
    if let Some(head) = full.strip_suffix("[]byte") {
        return format!("{head}[]uint8");
    }
    let mut out = String::with_capacity(full.len());
    for part in full.split_inclusive(']') {
        let (head, tail) = match part.find(|c: char| c.is_ascii_alphabetic()) {
            Some(_) if part.starts_with("map[") => part.split_at(4),
            _ => part.split_at(part.len() - part.trim_start_matches(['[', ']']).len()),
        };
        out.push_str(head);
        out.push_str(tail.rsplit_once('/').map_or(tail, |(_, name)| name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_their_go_names() {
        assert_eq!(go_name("map[core/v1.ResourceName]api/resource.Quantity"), "map[v1.ResourceName]resource.Quantity");
        assert_eq!(go_name("[]core/v1.Container"), "[]v1.Container");
        assert_eq!(go_name("map[string][]string"), "map[string][]string");
        assert_eq!(go_name("types.UID"), "types.UID");
    }
}
