//! JSON values to messages.

use super::is_wrapped_list;
use crate::api::GroupVersionKind;
use crate::schema::scalars;
use crate::schema::table::{Field, Shape, StructId, TypeId, TypeTable};
use serde_json::{Map, Value};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(number: u16, wire: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire, out);
}

pub(in crate::schema) fn integer(number: u16, value: i64, out: &mut Vec<u8>) {
    tag(number, VARINT, out);
    varint(value as u64, out);
}

pub(in crate::schema) fn double(number: u16, value: f64, out: &mut Vec<u8>) {
    tag(number, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// The head of a value of so many bytes.
pub(super) fn length(number: u16, length: usize, out: &mut Vec<u8>) {
    tag(number, BYTES, out);
    varint(length as u64, out);
}

pub(in crate::schema) fn bytes(number: u16, value: &[u8], out: &mut Vec<u8>) {
    length(number, value.len(), out);
    out.extend_from_slice(value);
}

/// A nested message, whose length is known when it is written.
fn nested(number: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    tag(number, BYTES, out);
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut head = Vec::with_capacity(5);
        varint(length as u64, &mut head);
        out.splice(start..=start, head);
    }
}

/// What comes before a message of that length in a `runtime.Unknown`.
pub(super) fn envelope_head(gvk: &GroupVersionKind, message: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(super::MAGIC);
    nested(1, &mut out, |out| {
        bytes(1, gvk.api_version().as_bytes(), out);
        bytes(2, gvk.kind.as_bytes(), out);
    });
    length(2, message, &mut out);
    out
}

/// What comes behind it: an empty encoding and an empty type.
pub(super) const ENVELOPE_TAIL: &[u8] = &[3 << 3 | BYTES as u8, 0, 4 << 3 | BYTES as u8, 0];

/// The fields of a value of a struct type.
pub(super) fn message(table: &TypeTable, kind: TypeId, value: &Value, out: &mut Vec<u8>) {
    if let Some(id) = table.as_struct(kind) {
        match value {
            Value::Object(map) => fields(table, id, map, out),
            _ => fields(table, id, &Map::new(), out),
        }
    }
}

fn fields(table: &TypeTable, id: StructId, map: &Map<String, Value>, out: &mut Vec<u8>) {
    for field in table.declared(id).iter().filter(|field| field.number != 0) {
        if field.inline() {
            if let Some(inner) = table.as_struct(field.kind) {
                nested(field.number, out, |out| fields(table, inner, map, out));
            }
            continue;
        }
        one(table, field, map.get(table.name(field.name)).filter(|value| !value.is_null()), out);
    }
}

fn one(table: &TypeTable, field: &Field, value: Option<&Value>, out: &mut Vec<u8>) {
    let (kind, number) = (field.kind, field.number);
    match (table.shape(kind), value) {
        (Shape::List { element, .. }, Some(Value::Array(list))) => {
            if is_wrapped_list(table, kind) {
                nested(number, out, |out| list.iter().for_each(|item| element_of(table, element, 1, item, out)));
            } else {
                list.iter().for_each(|item| element_of(table, element, number, item, out));
            }
        }
        (Shape::Map { value: element, .. }, Some(Value::Object(map))) => {
            for (key, value) in map {
                nested(number, out, |out| {
                    bytes(1, key.as_bytes(), out);
                    element_of(table, element, 2, value, out);
                });
            }
        }
        (Shape::List { .. } | Shape::Map { .. } | Shape::Bytes, None) => {}
        (_, None) if field.pointer() => {}
        (_, Some(value)) => element_of(table, kind, number, value, out),
        (_, None) => element_of(table, kind, number, &Value::Null, out),
    }
}

/// One value; null is the zero value of its type.
fn element_of(table: &TypeTable, kind: TypeId, number: u16, value: &Value, out: &mut Vec<u8>) {
    let text = value.as_str().unwrap_or_default();
    match table.shape(kind) {
        Shape::String => bytes(number, text.as_bytes(), out),
        Shape::Bool => integer(number, i64::from(value.as_bool().unwrap_or_default()), out),
        Shape::Int32 | Shape::Int64 => integer(number, value.as_i64().unwrap_or_default(), out),
        Shape::Uint32 | Shape::Uint64 => {
            tag(number, VARINT, out);
            varint(value.as_u64().unwrap_or_default(), out);
        }
        Shape::Float => double(number, value.as_f64().unwrap_or_default(), out),
        Shape::Bytes => bytes(number, &scalars::decode_base64(text).unwrap_or_default(), out),
        Shape::Time | Shape::MicroTime => nested(number, out, |out| {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                // Rounded down, so that the rest is not negative.
                let nanoseconds = time.as_nanosecond();
                let seconds = nanoseconds.div_euclid(1_000_000_000) as i64;
                let rest = nanoseconds.rem_euclid(1_000_000_000) as i64;
                let rest = if matches!(table.shape(kind), Shape::MicroTime) { rest / 1000 * 1000 } else { 0 };
                integer(1, seconds, out);
                integer(2, rest, out);
            }
        }),
        Shape::Duration => nested(number, out, |out| {
            integer(1, scalars::parse_duration(text).unwrap_or_default(), out);
        }),
        Shape::Quantity => nested(number, out, |out| {
            let text = match value {
                Value::Null => "0".to_owned(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            bytes(1, text.as_bytes(), out);
        }),
        Shape::IntOrString => nested(number, out, |out| {
            integer(1, i64::from(value.is_string()), out);
            integer(2, value.as_i64().unwrap_or_default(), out);
            bytes(3, text.as_bytes(), out);
        }),
        Shape::RawExtension | Shape::Any | Shape::Deduced | Shape::FieldsV1 => nested(number, out, |out| {
            if !value.is_null() {
                bytes(1, value.to_string().as_bytes(), out);
            }
        }),
        Shape::Struct { id, .. } => nested(number, out, |out| match value {
            Value::Object(map) => fields(table, id, map, out),
            _ => fields(table, id, &Map::new(), out),
        }),
        Shape::List { element, .. } => nested(number, out, |out| {
            value.as_array().into_iter().flatten().for_each(|item| element_of(table, element, 1, item, out));
        }),
        // No type of the API has a map in a list or a map.
        Shape::Map { .. } => {}
        Shape::SchemaOrBool(schema) => nested(number, out, |out| {
            integer(1, i64::from(value.as_bool().unwrap_or(value.is_object())), out);
            if value.is_object() {
                element_of(table, schema, 2, value, out);
            }
        }),
        Shape::SchemaOrArray(schema) => nested(number, out, |out| match value {
            Value::Array(list) => list.iter().for_each(|item| element_of(table, schema, 2, item, out)),
            Value::Object(_) => element_of(table, schema, 1, value, out),
            _ => {}
        }),
        Shape::SchemaOrStringArray(schema) => nested(number, out, |out| match value {
            Value::Array(list) => {
                list.iter().for_each(|item| bytes(2, item.as_str().unwrap_or_default().as_bytes(), out));
            }
            Value::Object(_) => element_of(table, schema, 1, value, out),
            _ => {}
        }),
    }
}
