//! A structural schema to a type table: what server-side apply and managedFields go by.
//!
//! Objects are structs with a type for what is not declared, maps and lists as they are marked.
//! Where unknown fields are preserved, all below is what the value says ([`Shape::Deduced`]).

use super::structural::{Additional, ListKind, Structural, Type};
use crate::api::GroupVersionKind;
use crate::schema::table::{Builder, FieldFacts, ListType, Schema, Shape, TypeId, builtin};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The schema of one version of a definition. `identity`: what the form of its objects depends on.
pub fn compile(gvk: &GroupVersionKind, structural: Structural, identity: &Value) -> Schema {
    let mut compiler = Compiler { builder: Builder::default(), imported: HashMap::new(), deduced: None };
    let root = compiler.object(&structural, &gvk.kind, structural.preserve, true);
    compiler.builder.kind(gvk.clone(), root);
    let table = Arc::new(compiler.builder.finish());
    let hash = crate::schema::table::text_hash(&format!("{gvk} {identity}"));
    Schema { table, root, gvk: gvk.clone(), hash, structural: Some(Arc::new(structural)) }
}

struct Compiler {
    builder: Builder,
    /// Types of the built-in table: metadata.
    imported: HashMap<TypeId, TypeId>,
    deduced: Option<TypeId>,
}

impl Compiler {
    fn deduced(&mut self) -> TypeId {
        if let Some(known) = self.deduced {
            return known;
        }
        let made = self.builder.node(Shape::Deduced, "interface {}");
        self.deduced = Some(made);
        made
    }

    /// `preserve`: this node, or one above it, keeps unknown fields.
    fn node(&mut self, schema: &Structural, preserve: bool) -> TypeId {
        let preserve = preserve || schema.preserve;
        if schema.int_or_string {
            return self.builder.node(Shape::IntOrString, "intstr.IntOrString");
        }
        match schema.kind {
            None => self.deduced(),
            Some(Type::Boolean) => self.builder.node(Shape::Bool, "bool"),
            Some(Type::Integer) => self.builder.node(Shape::Int64, "int64"),
            Some(Type::Number) => self.builder.node(Shape::Float, "float64"),
            Some(Type::String) => self.builder.node(Shape::String, "string"),
            Some(Type::Array) => {
                let element = match &schema.items {
                    Some(items) => self.node(items, preserve),
                    None => self.deduced(),
                };
                let list = match &schema.list {
                    Some(ListKind::Set) => ListType::Set,
                    Some(ListKind::Map(keys)) => {
                        ListType::Map { keys: self.builder.keys(keys.iter().map(String::as_str)) }
                    }
                    _ => ListType::Atomic,
                };
                self.builder.node(Shape::List { element, list }, "[]interface {}")
            }
            Some(Type::Object) => self.object(schema, "", preserve, schema.embedded),
        }
    }

    fn object(&mut self, schema: &Structural, name: &str, preserve: bool, resource: bool) -> TypeId {
        let id = self.builder.declare("", name, false);
        let mut fields: Vec<(String, TypeId, String)> = Vec::new();
        for (name, own) in schema.properties.iter() {
            if resource && matches!(name, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let default = own.default.as_ref().map(Value::to_string).unwrap_or_default();
            fields.push((name.to_owned(), self.node(own, preserve), default));
        }
        if resource {
            let string = self.builder.node(Shape::String, "string");
            fields.push(("apiVersion".to_owned(), string, String::new()));
            fields.push(("kind".to_owned(), string, String::new()));
            let metadata = super::embedded::object_meta();
            let metadata = self.builder.import(builtin(), metadata, &mut self.imported);
            fields.push(("metadata".to_owned(), metadata, String::new()));
        }
        let facts: Vec<FieldFacts> = fields
            .iter()
            .map(|(name, kind, default)| FieldFacts {
                name,
                kind: *kind,
                number: 0,
                flags: "po",
                patch: Default::default(),
                merge_key: "",
                default,
            })
            .collect();
        self.builder.fill(id, &facts);
        let rest = match &schema.additional {
            Some(Additional::Schema(own)) => Some(self.node(own, preserve)),
            Some(Additional::Allowed(true)) => Some(self.deduced()),
            Some(Additional::Allowed(false)) => None,
            None if preserve || schema.properties.is_empty() && !resource => Some(self.deduced()),
            None => None,
        };
        self.builder.rest(id, rest);
        self.builder.node(Shape::Struct { id, atomic: schema.atomic }, name)
    }
}
