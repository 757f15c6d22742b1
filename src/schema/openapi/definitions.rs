//! The schemas of a document: every type that its operations reach.

use super::descriptions::Descriptions;
use super::operations::{Operation, Reply, VERSION};
use super::{Edition, Served};
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::schema::custom::publish;
use crate::schema::decode::zero;
use crate::schema::table::{Flat, ListType, Shape, StructId, TypeId, TypeTable, builtin};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Types with a text form of their own: definition, and its schema in v2 and v3.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("Time", r#"{"type":"string","format":"date-time"}"#, r#"{"type":"string","format":"date-time"}"#),
    ("MicroTime", r#"{"type":"string","format":"date-time"}"#, r#"{"type":"string","format":"date-time"}"#),
    ("Duration", r#"{"type":"string"}"#, r#"{"type":"string"}"#),
    ("FieldsV1", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    ("Patch", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    ("Quantity", r#"{"type":"string"}"#, r#"{"oneOf":[{"type":"string"},{"type":"number"}]}"#),
    ("RawExtension", r#"{"type":"object"}"#, r#"{"type":"object"}"#),
    (
        "IntOrString",
        r#"{"type":"string","format":"int-or-string"}"#,
        r#"{"format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]}"#,
    ),
    ("JSON", "{}", "{}"),
    ("JSONSchemaPropsOrArray", "{}", "{}"),
    ("JSONSchemaPropsOrBool", "{}", "{}"),
    ("JSONSchemaPropsOrStringArray", "{}", "{}"),
    ("Info", VERSION_INFO, VERSION_INFO),
];

const VERSION_INFO: &str = r#"{"type":"object","properties":{"buildDate":{"default":"","type":"string"},
    "compiler":{"default":"","type":"string"},"emulationMajor":{"type":"string"},"emulationMinor":{"type":"string"},
    "gitCommit":{"default":"","type":"string"},"gitTreeState":{"default":"","type":"string"},
    "gitVersion":{"default":"","type":"string"},"goVersion":{"default":"","type":"string"},
    "major":{"default":"","type":"string"},"minCompatibilityMajor":{"type":"string"},
    "minCompatibilityMinor":{"type":"string"},"minor":{"default":"","type":"string"},
    "platform":{"default":"","type":"string"}},"required":["major","minor","gitVersion","gitCommit","gitTreeState",
    "buildDate","goVersion","compiler","platform"]}"#;

/// Kinds that are of every group version.
const EVERYWHERE: [&str; 2] = ["DeleteOptions", "WatchEvent"];

/// Packages without group versions that objects are stored in.
const APART: &[&str] =
    &["apidiscovery/", "custom_metrics/", "external_metrics/", "meta/", "metrics/", "runtime", "util/"];

/// Packages of group versions that clients of custom resources know nothing of.
const UNCOMMON: &[&str] = &["admission/", "apiextensions/", "apiregistration/", "imagepolicy/"];

/// OpenAPI's name of a Go package of the table.
fn package_name(package: &str) -> String {
    let (group, rest) = package.split_once('/').unwrap_or((package, ""));
    let dotted = package.replace('/', ".");
    match group {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.{dotted}"),
        "runtime" | "util" => format!("io.k8s.apimachinery.pkg.{dotted}"),
        "apiextensions" => format!("io.k8s.apiextensions-apiserver.pkg.apis.{dotted}"),
        "apiregistration" => format!("io.k8s.kube-aggregator.pkg.apis.{dotted}"),
        "metrics" | "custom_metrics" | "external_metrics" => format!("io.k8s.metrics.pkg.apis.{dotted}"),
        "api" => format!("io.k8s.apimachinery.pkg.api.{rest}"),
        _ => format!("io.k8s.api.{dotted}"),
    }
}

/// The definition of a struct: `io.k8s.api.core.v1.Pod`.
fn struct_definition(table: &TypeTable, id: StructId) -> String {
    format!("{}.{}", package_name(table.package(id)), table.struct_name(id))
}

/// The definition of a kind that a row serves: its own, its list, or that of a subresource.
pub fn served_definition(row: &Served, gvk: &GroupVersionKind) -> Option<String> {
    let own = gvk.group == row.gvk.group && gvk.version == row.gvk.version;
    if row.is_custom() && own && (gvk.kind == row.gvk.kind || gvk.kind == row.list_kind) {
        return Some(publish::definition_name(gvk));
    }
    kind_definition(gvk)
}

/// The definition of a built-in kind; None: it has no schema of its own.
pub fn kind_definition(gvk: &GroupVersionKind) -> Option<String> {
    let table = builtin();
    let root = table.lookup(gvk)?;
    Some(struct_definition(table, table.as_struct(root)?))
}

fn special_definition(table: &TypeTable, kind: TypeId) -> Option<String> {
    let name = match table.shape(kind) {
        Shape::Time => format!("{META}.Time"),
        Shape::MicroTime => format!("{META}.MicroTime"),
        Shape::Duration => format!("{META}.Duration"),
        Shape::FieldsV1 => format!("{META}.FieldsV1"),
        Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
        Shape::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(),
        Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
        Shape::Any | Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStringArray(_) => {
            let name = table.go_name(kind).rsplit('.').next().unwrap_or_default();
            let name = if name == "any" || name == "json" { "JSON" } else { name };
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}")
        }
        _ => return None,
    };
    Some(name)
}

pub struct Definitions<'d> {
    edition: Edition,
    descriptions: &'d Descriptions,
    structs: BTreeMap<String, StructId>,
    specials: BTreeMap<String, &'static str>,
    customs: Vec<Served>,
    /// The group, version and kind that a definition is.
    kinds: HashMap<String, Vec<GroupVersionKind>>,
}

impl<'d> Definitions<'d> {
    pub fn new(edition: Edition, descriptions: &'d Descriptions, rows: &[Served], operations: &[Operation]) -> Self {
        let table = builtin();
        let mut all = Self {
            edition,
            descriptions,
            structs: BTreeMap::new(),
            specials: BTreeMap::new(),
            customs: rows.iter().filter(|row| row.is_custom()).cloned().collect(),
            kinds: HashMap::new(),
        };
        for gvk in table.kinds().filter(|gvk| gvk.group != "meta.k8s.io") {
            if let Some(name) = kind_definition(gvk) {
                all.kinds.entry(name).or_default().push(gvk.clone());
            }
        }
        for kind in EVERYWHERE {
            all.kinds.insert(format!("{META}.{kind}"), all.everywhere(kind, rows));
        }
        all.kinds.values_mut().for_each(|kinds| kinds.sort_by_key(|gvk| (gvk.group.clone(), gvk.version.clone())));
        for name in operations.iter().flat_map(named) {
            all.definition(table, name);
        }
        if !all.customs.is_empty() {
            for name in ["ObjectMeta", "ListMeta"] {
                all.definition(table, &format!("{META}.{name}"));
            }
        }
        all
    }

    /// The group versions that a kind of all of them is told of with. The document of one group version
    /// tells of that and of the core's.
    fn everywhere(&self, kind: &str, rows: &[Served]) -> Vec<GroupVersionKind> {
        let of = |group: &str, version: &str| GroupVersionKind::new(group, version, kind);
        if self.edition == Edition::V3 && self.customs.is_empty() {
            let mut all = vec![of("", "v1")];
            all.extend(rows.iter().map(|row| of(&row.gvk.group, &row.gvk.version)));
            all.sort_by_key(|gvk| (gvk.group.clone(), gvk.version.clone()));
            all.dedup();
            return all;
        }
        let apart = |package: &str, of: &[&str]| of.iter().any(|start| package.starts_with(start));
        let versions = builtin().versions().filter(|(_, _, package)| {
            !apart(package, APART) && (self.edition == Edition::V2 || !apart(package, UNCOMMON))
        });
        versions.map(|(group, version, _)| of(group, version)).collect()
    }

    /// One that an operation names, with all that it reaches.
    fn definition(&mut self, table: &TypeTable, name: &str) {
        let (package, kind) = name.rsplit_once('.').unwrap_or_default();
        if name == VERSION || kind == "Patch" {
            self.special(name);
        } else if let Some(id) = table.struct_of(kind, |candidate| package_name(candidate) == package) {
            self.reach_struct(table, id);
        }
    }

    fn custom_schemas(&self) -> BTreeMap<String, Value> {
        let descriptions = self.descriptions;
        let mut all = BTreeMap::new();
        if self.customs.is_empty() {
            return all;
        }
        let any = kind_definition(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap_or_default();
        let (api_version, kind) = (descriptions.of_field(&any, "apiVersion"), descriptions.of_field(&any, "kind"));
        let edition = publish::Edition {
            old: self.edition == Edition::V2,
            object_meta: self.reference(&format!("{META}.ObjectMeta")),
            list_meta: self.reference(&format!("{META}.ListMeta")),
            api_version: &api_version,
            kind: &kind,
        };
        for row in &self.customs {
            let Some(structural) = row.schema.as_ref().and_then(|schema| schema.structural.as_ref()) else { continue };
            let gvk = &row.gvk;
            let name = publish::definition_name(gvk);
            let item = json!({"$ref": self.edition.reference(&name)});
            all.insert(name, publish::kind(structural.published(), gvk, &row.selectable, &edition));
            let list = GroupVersionKind::new(&gvk.group, &gvk.version, &row.list_kind);
            let schema = publish::list(gvk, &row.list_kind, &row.plural, item, &row.selectable, &edition);
            all.insert(publish::definition_name(&list), schema);
        }
        all
    }

    fn special(&mut self, name: &str) {
        let short = name.rsplit('.').next().unwrap_or_default();
        if let Some(&(_, v2, v3)) = SPECIAL.iter().find(|(special, _, _)| *special == short) {
            let schema = if self.edition == Edition::V2 { v2 } else { v3 };
            self.specials.insert(name.to_owned(), schema);
        }
    }

    fn reach(&mut self, table: &TypeTable, kind: TypeId) {
        if let Some(name) = special_definition(table, kind) {
            self.special(&name);
            return;
        }
        match table.shape(kind) {
            Shape::List { element, .. } => self.reach(table, element),
            Shape::Map { value, .. } => self.reach(table, value),
            Shape::Struct { id, .. } => self.reach_struct(table, id),
            _ => {}
        }
    }

    fn reach_struct(&mut self, table: &TypeTable, id: StructId) {
        if self.structs.insert(struct_definition(table, id), id).is_none() {
            for flat in table.fields(id) {
                self.reach(table, flat.field.kind);
            }
        }
    }

    /// Every definition, by name.
    pub fn each(&self, put: &mut dyn FnMut(&str, Value)) {
        let table = builtin();
        let descriptions = self.descriptions;
        let customs = self.custom_schemas();
        let mut names: Vec<&String> = self.structs.keys().chain(self.specials.keys()).chain(customs.keys()).collect();
        names.sort();
        for name in names {
            if let Some(schema) = customs.get(name) {
                put(name, schema.clone());
                continue;
            }
            let schema = match (self.structs.get(name), self.specials.get(name)) {
                (Some(&id), _) => self.schema(table, name, id),
                (None, Some(schema)) => {
                    let mut schema: Value = serde_json::from_str(schema).unwrap_or_default();
                    describe(&mut schema, descriptions.of_type(name));
                    for (field, property) in
                        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
                    {
                        describe(property, descriptions.of_field(name, field));
                        if self.edition == Edition::V2 {
                            property.clear("default");
                        }
                    }
                    schema
                }
                (None, None) => continue,
            };
            put(name, schema);
        }
    }

    fn schema(&self, table: &TypeTable, name: &str, id: StructId) -> Value {
        let descriptions = self.descriptions;
        let mut properties = Map::new();
        let mut required = Vec::new();
        let is_list = name.ends_with("List") && self.kinds.contains_key(name);
        for flat in table.fields(id) {
            let field = table.name(flat.field.name);
            let mut property = self.property(table, flat);
            describe(&mut property, descriptions.of_field(name, field));
            if property.has("enum") {
                let values = self.possible_values(table, flat.field.kind);
                let text = property.str_at("description");
                let gap = descriptions.of_type(&format!("+{name}/{field}"));
                property
                    .set("description", format!("{text}{gap}{}{values}", if text.is_empty() { "" } else { "\n\n" }));
            }
            if is_list && field == "items" {
                // The objects of a list are merged by nobody.
                property.clear("x-kubernetes-list-type");
            }
            if matches!(field, "apiVersion" | "kind") && self.kinds.contains_key(name) {
                let any = kind_definition(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap_or_default();
                if !property.has("description") {
                    describe(&mut property, descriptions.of_field(&any, field));
                }
            }
            self.extend(&mut property, &format!("{name}/{field}"));
            // Nothing stands beside it: then it need not be in a list.
            let lone = property.as_object_mut().filter(|own| own.len() == 1);
            if let Some(reference) = lone.and_then(|own| own.get_mut("allOf")).and_then(|all| all.get_mut(0)) {
                property = reference.take();
            }
            properties.insert(field.to_owned(), property);
            if flat.field.required() {
                required.push((flat.field.number, Value::from(field)));
            }
        }
        // As they are declared.
        required.sort_by_key(|(number, _)| *number);
        let required: Vec<Value> = required.into_iter().map(|(_, field)| field).collect();
        let mut schema = json!({"type": "object"});
        describe(&mut schema, descriptions.of_type(name));
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        if is_atomic_struct(table, id) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if let Some(kinds) = self.kinds.get(name) {
            let kinds = kinds.iter().map(|gvk| json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version}));
            schema["x-kubernetes-group-version-kind"] = kinds.collect();
        }
        self.extend(&mut schema, name);
        schema
    }

    /// What a definition or a field has that the type table does not tell.
    fn extend(&self, schema: &mut Value, name: &str) {
        let told = self.descriptions.of_type(&format!("@{name}"));
        if told.is_empty() {
            return;
        }
        // Part of the binary: it reads, or the build is broken.
        let told: Map<String, Value> = serde_json::from_str(&told).expect("JSON in the facts");
        for (member, value) in told {
            match value {
                Value::Null => schema.clear(&member),
                value => schema.set(&member, value),
            }
        }
    }

    /// The values of an enumeration, as the description of its fields tells of them.
    fn possible_values(&self, table: &TypeTable, kind: TypeId) -> String {
        let values = self.descriptions.values(table.go_name(kind));
        let lines: Vec<String> = values
            .map(|(value, text)| format!(" - `\"{value}\"`{}{text}", if text.is_empty() { "" } else { " " }))
            .collect();
        format!("Possible enum values:\n{}", lines.join("\n"))
    }

    fn property(&self, table: &TypeTable, flat: &Flat) -> Value {
        let field = &flat.field;
        let mut property = self.type_schema(table, field.kind);
        match table.shape(field.kind) {
            Shape::List { list, .. } => {
                let name = match list {
                    ListType::Atomic => "atomic",
                    ListType::Set => "set",
                    ListType::Map { keys } => {
                        let keys: Vec<&str> = table.keys(keys).iter().map(|&key| table.name(key)).collect();
                        property["x-kubernetes-list-map-keys"] = keys.into();
                        "map"
                    }
                };
                property["x-kubernetes-list-type"] = name.into();
            }
            Shape::Map { atomic: true, .. } => property["x-kubernetes-map-type"] = "atomic".into(),
            Shape::Struct { id, atomic: false } if is_atomic_struct(table, id) => {
                property["x-kubernetes-map-type"] = "granular".into();
            }
            _ => {}
        }
        let patch = field.patch;
        let strategies: Vec<&str> =
            [(patch.merge, "merge"), (patch.retain_keys, "retainKeys"), (patch.replace, "replace")]
                .into_iter()
                .filter_map(|(set, name)| set.then_some(name))
                .collect();
        if !strategies.is_empty() {
            property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if !table.name(field.merge_key).is_empty() {
            property["x-kubernetes-patch-merge-key"] = table.name(field.merge_key).into();
        }
        if self.edition == Edition::V3 {
            let declared = table.name(field.default);
            if !declared.is_empty() {
                property["default"] = serde_json::from_str(declared).unwrap_or_default();
            } else if !field.pointer() && (!field.omit_empty() || table.as_struct(field.kind).is_some()) {
                match zero(table, field.kind) {
                    Value::Null => {}
                    _ if matches!(table.shape(field.kind), Shape::IntOrString | Shape::Quantity) => {}
                    Value::Object(_) => property["default"] = json!({}),
                    value => property["default"] = value,
                }
            }
        }
        property
    }

    fn type_schema(&self, table: &TypeTable, kind: TypeId) -> Value {
        if let Some(name) = special_definition(table, kind) {
            return self.reference(&name);
        }
        match table.shape(kind) {
            Shape::String => {
                let values: Vec<&str> = self.descriptions.values(table.go_name(kind)).map(|(value, _)| value).collect();
                if values.is_empty() { json!({"type": "string"}) } else { json!({"type": "string", "enum": values}) }
            }
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 | Shape::Uint32 | Shape::Uint64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::List { element, .. } => json!({"type": "array", "items": self.alone(table, element)}),
            Shape::Map { value, .. } => json!({"type": "object", "additionalProperties": self.alone(table, value)}),
            Shape::Struct { id, .. } => self.reference(&struct_definition(table, id)),
            _ => json!({}),
        }
    }

    /// Of elements and entries: nothing stands beside their reference.
    fn alone(&self, table: &TypeTable, kind: TypeId) -> Value {
        let mut schema = self.type_schema(table, kind);
        match schema.get_mut("allOf").and_then(|all| all.get_mut(0)) {
            Some(reference) => reference.take(),
            None => schema,
        }
    }

    /// v3 allows nothing beside a reference, so it stands in `allOf`.
    fn reference(&self, definition: &str) -> Value {
        let reference = json!({"$ref": self.edition.reference(definition)});
        match self.edition {
            Edition::V2 => reference,
            Edition::V3 => json!({"allOf": [reference]}),
        }
    }
}

/// The definitions that an operation names.
fn named(operation: &Operation) -> impl Iterator<Item = &String> {
    let body = operation.body.as_ref().and_then(|body| body.definition.as_ref());
    let reply = match &operation.reply {
        Reply::Text => None,
        Reply::Object(definition) => definition.as_ref(),
    };
    body.into_iter().chain(reply)
}

fn is_atomic_struct(table: &TypeTable, id: StructId) -> bool {
    table.struct_is_atomic(id)
}

fn describe(schema: &mut Value, description: String) {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
}
