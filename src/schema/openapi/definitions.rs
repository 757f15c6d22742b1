//! The schemas of a document: every type that its rows reach.

use super::descriptions::Descriptions;
use super::{Edition, Served};
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::schema::custom::publish;
use crate::schema::decode::zero;
use crate::schema::table::{Flat, ListType, Shape, StructId, TypeId, TypeTable, builtin};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

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
];

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

/// The parameters of a connection: the fields of its options, with their OpenAPI types.
pub fn options(gvk: &GroupVersionKind) -> Vec<(&'static str, &'static str)> {
    let table = builtin();
    let Some(id) = table.lookup(gvk).and_then(|root| table.as_struct(root)) else { return Vec::new() };
    let of = |flat: &Flat| {
        let name = table.name(flat.field.name);
        let kind = match table.shape(flat.field.kind) {
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 | Shape::List { .. } if name == "ports" => "integer",
            Shape::Int32 | Shape::Int64 => "integer",
            _ => "string",
        };
        (name, kind)
    };
    let own = |(name, _): &(&str, &str)| !matches!(*name, "apiVersion" | "kind");
    let mut all: Vec<_> = table.fields(id).iter().map(of).filter(own).collect();
    all.sort_unstable();
    all
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

pub struct Definitions {
    edition: Edition,
    structs: BTreeMap<String, StructId>,
    specials: BTreeMap<String, &'static str>,
    customs: Vec<Served>,
    /// The group, version and kind that a definition is.
    kinds: HashMap<String, Vec<GroupVersionKind>>,
}

impl Definitions {
    pub fn new(edition: Edition, rows: &[Served]) -> Self {
        let mut all = Self {
            edition,
            structs: BTreeMap::new(),
            specials: BTreeMap::new(),
            customs: Vec::new(),
            kinds: HashMap::new(),
        };
        all.special(&format!("{META}.Patch"));
        let root = |kind: &str| GroupVersionKind::new("", "v1", kind);
        for kind in ["Status", "APIResourceList"] {
            all.kind(&root(kind));
        }
        // These are of no group and of every group.
        for kind in ["DeleteOptions", "WatchEvent"] {
            all.kinds.insert(format!("{META}.{kind}"), vec![root(kind)]);
        }
        for row in rows {
            if row.is_custom() {
                all.custom(row);
            }
            let gvk = &row.gvk;
            let of = |kind: &str| GroupVersionKind::new(&gvk.group, &gvk.version, kind);
            for kind in [gvk.kind.as_str(), &format!("{}List", gvk.kind), "DeleteOptions", "WatchEvent"] {
                all.kind(&of(kind));
            }
            for subresource in row.subresources.iter().filter(|subresource| !subresource.connects()) {
                all.kind(&subresource.gvk);
            }
        }
        all
    }

    /// Metadata is that of any object, options those of any group.
    fn custom(&mut self, row: &Served) {
        let table = builtin();
        for kind in ["ConfigMap", "ConfigMapList"] {
            let root = table.lookup(&GroupVersionKind::new("", "v1", kind)).expect("a built-in kind");
            self.reach(table, table.resolve(root, &["metadata"]).expect("every kind has metadata"));
        }
        let options = GroupVersionKind::new("", "v1", "DeleteOptions");
        self.reach(table, table.lookup(&options).expect("a built-in kind"));
        let of = |kind: &str| GroupVersionKind::new(&row.gvk.group, &row.gvk.version, kind);
        let kinds = self.kinds.entry(format!("{META}.DeleteOptions")).or_default();
        if !kinds.contains(&of("DeleteOptions")) {
            kinds.push(of("DeleteOptions"));
        }
        self.customs.push(row.clone());
    }

    fn custom_schemas(&self, descriptions: &Descriptions) -> BTreeMap<String, Value> {
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
            let item = self.reference(&name);
            all.insert(name, publish::kind(&structural.source, gvk, &row.selectable, &edition));
            let list = GroupVersionKind::new(&gvk.group, &gvk.version, &row.list_kind);
            let schema = publish::list(gvk, &row.list_kind, &row.plural, item, &row.selectable, &edition);
            all.insert(publish::definition_name(&list), schema);
        }
        all
    }

    fn kind(&mut self, gvk: &GroupVersionKind) {
        let table = builtin();
        let Some(root) = table.lookup(gvk) else { return };
        self.reach(table, root);
        if let Some(name) = kind_definition(gvk) {
            let kinds = self.kinds.entry(name).or_default();
            if !kinds.contains(gvk) {
                kinds.push(gvk.clone());
            }
        }
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
            Shape::Struct { id, .. } => {
                if self.structs.insert(struct_definition(table, id), id).is_none() {
                    for flat in table.fields(id) {
                        self.reach(table, flat.field.kind);
                    }
                }
            }
            _ => {}
        }
    }

    /// Every definition, by name.
    pub fn each(&self, put: &mut dyn FnMut(&str, Value)) {
        let table = builtin();
        let descriptions = Descriptions::read();
        let customs = self.custom_schemas(&descriptions);
        let mut names: Vec<&String> = self.structs.keys().chain(self.specials.keys()).chain(customs.keys()).collect();
        names.sort();
        for name in names {
            if let Some(schema) = customs.get(name) {
                put(name, schema.clone());
                continue;
            }
            let schema = match (self.structs.get(name), self.specials.get(name)) {
                (Some(&id), _) => self.schema(table, name, id, &descriptions),
                (None, Some(schema)) => {
                    let mut schema: Value = serde_json::from_str(schema).unwrap_or_default();
                    describe(&mut schema, descriptions.of_type(name));
                    schema
                }
                (None, None) => continue,
            };
            put(name, schema);
        }
    }

    fn schema(&self, table: &TypeTable, name: &str, id: StructId, descriptions: &Descriptions) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        let is_list = name.ends_with("List") && self.kinds.contains_key(name);
        for flat in table.fields(id) {
            let field = table.name(flat.field.name);
            let mut property = self.property(table, flat);
            describe(&mut property, descriptions.of_field(name, field));
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
        schema
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
            } else if !field.pointer() && (field.required() || table.as_struct(field.kind).is_some()) {
                match zero(table, field.kind) {
                    Value::Null => {}
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
            Shape::String => json!({"type": "string"}),
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

fn is_atomic_struct(table: &TypeTable, id: StructId) -> bool {
    table.struct_is_atomic(id)
}

fn describe(schema: &mut Value, description: String) {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
}
