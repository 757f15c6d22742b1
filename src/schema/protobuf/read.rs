//! Messages to JSON values, in the normal form that decoding JSON gives.

use super::{ProtobufError, is_wrapped_list};
use crate::api::quantity::Quantity;
use crate::schema::decode::{add_always, left_out, zero};
use crate::schema::scalars;
use crate::schema::scan::{self, MAX_DEPTH};
use crate::schema::table::{Field, Shape, StructId, TypeId, TypeTable};
use serde_json::{Map, Value};

type Read<T> = Result<T, ProtobufError>;

const EOF: ProtobufError = ProtobufError("unexpected EOF");

/// What follows a tag.
enum Wire<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'b [u8]),
    Fixed32,
}

struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn varint(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(EOF)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError("proto: integer overflow"))
    }

    fn take(&mut self, length: u64) -> Read<&'b [u8]> {
        let length = usize::try_from(length).map_err(|_| EOF)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EOF)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field: its number and value.
    fn next(&mut self) -> Read<Option<(u64, Wire<'b>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        if tag >> 3 == 0 {
            return Err(ProtobufError("proto: illegal tag 0"));
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(self.take(8)?.try_into().map_err(|_| EOF)?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(ProtobufError("proto: illegal wireType")),
        };
        Ok(Some((tag >> 3, wire)))
    }
}

impl<'b> Wire<'b> {
    fn bytes(self) -> Read<&'b [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(ProtobufError("proto: wrong wireType")),
        }
    }

    fn varint(self) -> Read<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(ProtobufError("proto: wrong wireType")),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// API version, kind and message of `runtime.Unknown`.
pub(super) fn envelope(bytes: &[u8]) -> Read<(String, String, &[u8])> {
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next()? {
        match number {
            1 => {
                let mut meta = Fields(wire.bytes()?);
                while let Some((number, wire)) = meta.next()? {
                    match number {
                        1 => api_version = text(wire.bytes()?),
                        2 => kind = text(wire.bytes()?),
                        _ => {}
                    }
                }
            }
            2 => raw = wire.bytes()?,
            _ => {}
        }
    }
    Ok((api_version, kind, raw))
}

pub(super) fn message(table: &TypeTable, kind: TypeId, bytes: &[u8]) -> Read<Value> {
    let id = table.as_struct(kind).ok_or(ProtobufError("proto: not a message"))?;
    object(table, id, bytes, MAX_DEPTH)
}

fn object(table: &TypeTable, id: StructId, bytes: &[u8], depth: u32) -> Read<Value> {
    let mut map = Map::new();
    collect(table, id, bytes, depth, &mut map)?;
    let mut there = 0;
    map.retain(|name, value| {
        let Some(at) = table.position(id, name) else { return false };
        let flat = &table.fields(id)[at];
        let absent = value.is_null() && !flat.field.pointer();
        let nil = flat.always && value.as_array().is_some_and(Vec::is_empty);
        let kept = !left_out(flat, value) && !absent && !nil;
        there |= u128::from(kept) << at;
        kept
    });
    add_always(table, id, there, &mut map);
    Ok(Value::Object(map))
}

/// The fields of a message and of the inline messages in it.
fn collect(table: &TypeTable, id: StructId, bytes: &[u8], depth: u32, map: &mut Map<String, Value>) -> Read<()> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError("proto: message is too deep"))?;
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next()? {
        let declared = table.declared(id);
        let Some(field) = declared.iter().find(|field| u64::from(field.number) == number) else { continue };
        if field.inline() {
            if let Some(inner) = table.as_struct(field.kind) {
                collect(table, inner, wire.bytes()?, depth, map)?;
            }
            continue;
        }
        set(table, field, wire, depth, map)?;
    }
    Ok(())
}

fn set(table: &TypeTable, field: &Field, wire: Wire, depth: u32, map: &mut Map<String, Value>) -> Read<()> {
    let name = table.name(field.name);
    match table.shape(field.kind) {
        Shape::List { element, .. } if !is_wrapped_list(table, field.kind) => {
            let list = match map.get_mut(name) {
                Some(Value::Array(list)) => list,
                _ => {
                    map.insert(name.to_owned(), Value::Array(Vec::new()));
                    let Some(Value::Array(list)) = map.get_mut(name) else { return Ok(()) };
                    list
                }
            };
            // Numbers may come packed.
            if let (Wire::Bytes(packed), Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Bool) =
                (&wire, table.shape(element))
            {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    let value = packed.varint()?;
                    list.push(self::value(table, element, Wire::Varint(value), depth)?);
                }
            } else {
                list.push(value(table, element, wire, depth)?);
            }
        }
        Shape::Map { value: element, .. } => {
            let (mut key, mut value) = (String::new(), None);
            let mut entry = Fields(wire.bytes()?);
            while let Some((number, wire)) = entry.next()? {
                match number {
                    1 => key = text(wire.bytes()?),
                    2 => value = Some(self::value(table, element, wire, depth)?),
                    _ => {}
                }
            }
            let value = value.unwrap_or_else(|| match table.shape(element) {
                Shape::Bytes => Value::String(String::new()),
                _ => zero(table, element),
            });
            if !map.get(name).is_some_and(Value::is_object) {
                map.insert(name.to_owned(), Value::Object(Map::new()));
            }
            if let Some(Value::Object(entries)) = map.get_mut(name) {
                entries.insert(key, value);
            }
        }
        _ => {
            map.insert(name.to_owned(), value(table, field.kind, wire, depth)?);
        }
    }
    Ok(())
}

/// The fields of a small message of numbers and texts.
fn parts<const N: usize>(bytes: &[u8]) -> Read<[Option<Wire<'_>>; N]> {
    let mut parts = [const { None }; N];
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next()? {
        if let Some(part) = usize::try_from(number).ok().and_then(|number| parts.get_mut(number)) {
            *part = Some(wire);
        }
    }
    Ok(parts)
}

fn number(part: Option<Wire>) -> Read<i64> {
    part.map_or(Ok(0), |wire| wire.varint().map(|value| value as i64))
}

fn value(table: &TypeTable, kind: TypeId, wire: Wire, depth: u32) -> Read<Value> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError("proto: message is too deep"))?;
    Ok(match table.shape(kind) {
        Shape::String => Value::String(text(wire.bytes()?)),
        Shape::Bool => Value::Bool(wire.varint()? != 0),
        Shape::Int32 => Value::from(wire.varint()? as i32),
        Shape::Int64 => Value::from(wire.varint()? as i64),
        Shape::Uint32 => Value::from(wire.varint()? as u32),
        Shape::Uint64 => Value::from(wire.varint()?),
        Shape::Float => match wire {
            Wire::Fixed64(bytes) => {
                let float = f64::from_le_bytes(bytes);
                // Whole numbers print without a point, as Go prints them.
                if float == float.trunc() && float.abs() < 1e15 { Value::from(float as i64) } else { float.into() }
            }
            _ => return Err(ProtobufError("proto: wrong wireType")),
        },
        Shape::Bytes => Value::String(scalars::encode_base64(wire.bytes()?)),
        shape @ (Shape::Time | Shape::MicroTime) => {
            let bytes = wire.bytes()?;
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            let [_, seconds, nanoseconds] = parts::<3>(bytes)?;
            let (seconds, nanoseconds) = (number(seconds)?, number(nanoseconds)? as i32);
            let time = jiff::Timestamp::new(seconds, nanoseconds.clamp(0, 999_999_999));
            let time = time.map_err(|_| ProtobufError("Time.MarshalJSON: year outside of range [0,9999]"))?;
            Value::String(match shape {
                Shape::Time => scalars::format_time(time),
                _ => scalars::format_micro_time(time),
            })
        }
        Shape::Duration => {
            let [_, nanoseconds] = parts::<2>(wire.bytes()?)?;
            Value::String(scalars::format_duration(number(nanoseconds)?))
        }
        Shape::Quantity => {
            let [_, quantity] = parts::<2>(wire.bytes()?)?;
            let quantity = quantity.map_or(Ok(&b"0"[..]), Wire::bytes)?;
            match Quantity::parse(&text(quantity)) {
                Ok(quantity) => Value::String(quantity.to_string()),
                Err(_) => return Err(ProtobufError("proto: malformed quantity")),
            }
        }
        Shape::IntOrString => {
            let [_, which, int, string] = parts::<4>(wire.bytes()?)?;
            if number(which)? == 1 {
                Value::String(text(string.map_or(Ok(&[][..]), Wire::bytes)?))
            } else {
                Value::from(number(int)? as i32)
            }
        }
        Shape::RawExtension | Shape::Any | Shape::Deduced | Shape::FieldsV1 => {
            let [_, raw] = parts::<2>(wire.bytes()?)?;
            match raw.map(Wire::bytes).transpose()? {
                None | Some([]) => Value::Null,
                Some(raw) => scan::parse(raw).map_err(|_| ProtobufError("proto: raw value is not JSON"))?,
            }
        }
        Shape::Struct { id, .. } => object(table, id, wire.bytes()?, depth)?,
        Shape::List { element, .. } => {
            let mut fields = Fields(wire.bytes()?);
            let mut list = Vec::new();
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    list.push(value(table, element, wire, depth)?);
                }
            }
            Value::Array(list)
        }
        Shape::Map { .. } => return Err(ProtobufError("proto: a map cannot be an element")),
        Shape::SchemaOrBool(schema) => {
            let [_, allows, inner] = parts::<3>(wire.bytes()?)?;
            match inner {
                Some(inner) => value(table, schema, inner, depth)?,
                None => Value::Bool(number(allows)? != 0),
            }
        }
        Shape::SchemaOrArray(schema) | Shape::SchemaOrStringArray(schema) => {
            let strings = matches!(table.shape(kind), Shape::SchemaOrStringArray(_));
            let mut fields = Fields(wire.bytes()?);
            let (mut one, mut many) = (Value::Null, Vec::new());
            while let Some((number, wire)) = fields.next()? {
                match number {
                    1 => one = value(table, schema, wire, depth)?,
                    2 if strings => many.push(Value::String(text(wire.bytes()?))),
                    2 => many.push(value(table, schema, wire, depth)?),
                    _ => {}
                }
            }
            if many.is_empty() { one } else { Value::Array(many) }
        }
    })
}
