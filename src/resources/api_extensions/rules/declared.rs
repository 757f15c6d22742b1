//! What a schema's nodes are to expressions: types with their bounds.

use crate::api::Fields;
use crate::cel::{Declared, Field, ObjectType, Semantics, escape};
use crate::schema::custom::{Additional, ListKind, Structural, Type, formats};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An object with named fields.
#[derive(Debug)]
struct Object {
    name: String,
    fields: BTreeMap<String, Field>,
    min_bytes: u64,
}

impl ObjectType for Object {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Field> {
        self.fields.get(name).cloned()
    }

    fn min_bytes(&self) -> u64 {
        self.min_bytes
    }
}

fn bound(limit: Option<i64>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit).unwrap_or_default())
}

/// The type of a node; None: expressions cannot see it. `resource`: it is a whole object.
pub fn declared(schema: &Structural, resource: bool) -> Option<Declared> {
    node(schema, resource, "object")
}

fn node(schema: &Structural, resource: bool, name: &str) -> Option<Declared> {
    let checks = schema.checks();
    // A character takes up to four bytes.
    let characters = bound(checks.max_length).map(|limit| limit.saturating_mul(4));
    if schema.int_or_string {
        return Some(Declared::IntOrString { max: characters });
    }
    Some(match schema.kind? {
        Type::Boolean => Declared::Bool,
        Type::Integer => Declared::Int,
        Type::Number => Declared::Double,
        Type::String => match formats::effective(schema) {
            "byte" => Declared::Bytes { max: bound(checks.max_length) },
            "duration" => Declared::Duration,
            "date" => Declared::Date,
            "date-time" | "datetime" => Declared::Timestamp,
            _ => Declared::String { max: characters.or_else(|| longest(&checks.choices)) },
        },
        Type::Array => {
            let items = node(schema.items.as_ref()?, schema.items.as_ref()?.embedded, &format!("{name}.@idx"))?;
            let semantics = match &schema.list {
                Some(ListKind::Set) => Semantics::Set,
                Some(ListKind::Map(keys)) => Semantics::Map(keys.iter().map(|key| key.as_str().into()).collect()),
                _ => Semantics::Atomic,
            };
            Declared::list(items, bound(checks.max_items), semantics)
        }
        Type::Object => match &schema.additional {
            Some(Additional::Schema(values)) => {
                let values = node(values, values.embedded, &format!("{name}.@prop"))?;
                Declared::map(values, bound(checks.max_properties))
            }
            _ => object(schema, resource || schema.embedded, name),
        },
    })
}

/// The longest of the texts that a string may be.
fn longest(choices: &[Value]) -> Option<u64> {
    choices.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max()
}

fn object(schema: &Structural, resource: bool, name: &str) -> Declared {
    let mut fields = BTreeMap::new();
    let mut min_bytes = 2;
    let mut add = |property: &str, declared: Declared, required: bool| {
        if required {
            min_bytes += property.len() as u64 + declared.min_bytes() + 4;
        }
        if let Some(escaped) = escape(property) {
            fields.insert(escaped, Field { name: property.into(), declared });
        }
    };
    for (property, own) in schema.properties.iter() {
        if resource && matches!(property, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(declared) = node(own, own.embedded, &format!("{name}.{property}")) {
            let required = schema.checks().required.iter().any(|known| known == property);
            add(property, declared, required && own.default.is_none());
        }
    }
    if resource {
        // Of metadata the names alone can be seen.
        let text = || Declared::String { max: None };
        let named =
            ["name", "generateName"].map(|name| (name.to_owned(), Field { name: name.into(), declared: text() }));
        let metadata = Object { name: format!("{name}.metadata"), fields: named.into(), min_bytes: 2 };
        add("apiVersion", text(), true);
        add("kind", text(), true);
        add("metadata", Declared::Object(Arc::new(metadata)), false);
    }
    Declared::Object(Arc::new(Object { name: name.to_owned(), fields, min_bytes }))
}

/// The node that a simple path leads to: `.spec.name`, `['a']` where arrays of names are allowed.
/// `Err`: why it leads nowhere.
pub fn at_path<'s>(
    path: &str,
    schema: &'s Structural,
    brackets: bool,
) -> Result<(Vec<String>, &'s Structural), String> {
    let mut steps = Vec::new();
    let mut node = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let name = if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[', ']']).unwrap_or(tail.len());
            if end == 0 && tail.is_empty() {
                return Err("unexpected end of JSON path".to_owned());
            }
            rest = &tail[end..];
            tail[..end].to_owned()
        } else if let Some(tail) = rest.strip_prefix('[') {
            if !brackets {
                return Err("array notation is not allowed".to_owned());
            }
            let quoted = tail.strip_prefix('\'').and_then(|tail| tail.split_once("']"));
            let Some((name, tail)) = quoted else {
                let token = tail.split(']').next().unwrap_or_default();
                return Err(format!("expected single quoted string but got {token}"));
            };
            rest = tail;
            name.replace("\\'", "'").replace("\\\\", "\\")
        } else {
            let token = rest.split(['.', '[', ']']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {}", if token.is_empty() { &rest[..1] } else { token }));
        };
        node = match (node.properties.get(&name), &node.additional) {
            (Some(own), _) => own,
            (None, Some(Additional::Schema(own))) if node.properties.is_empty() => own,
            _ => return Err("does not refer to a valid field".to_owned()),
        };
        steps.push(name);
    }
    Ok((steps, node))
}

/// A rule's own text.
pub fn text(rule: &Value, field: &str) -> String {
    rule.str_at(field).to_owned()
}
