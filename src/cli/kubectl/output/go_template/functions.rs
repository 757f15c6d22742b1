//! The functions of Go's templates, and kubectl's own two.

use super::{Result, format};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::fmt::Write;

type Function = fn(&[Value]) -> Result<Value>;

/// Names, how many arguments at least and at most, what they do.
const FUNCTIONS: &[(&str, usize, usize, Function)] = &[
    ("and", 1, usize::MAX, last),
    ("or", 1, usize::MAX, last),
    ("not", 1, 1, |values| Ok((!holds(&values[0])).into())),
    ("len", 1, 1, len),
    ("index", 1, usize::MAX, index),
    ("slice", 1, 4, slice),
    ("print", 0, usize::MAX, |values| Ok(format::joined(values).into())),
    ("println", 0, usize::MAX, |values| {
        Ok((values.iter().map(format::plain).collect::<Vec<_>>().join(" ") + "\n").into())
    }),
    ("printf", 1, usize::MAX, printf),
    ("html", 0, usize::MAX, |values| Ok(replaced(&format::joined(values), HTML).into())),
    ("js", 0, usize::MAX, |values| Ok(javascript(&format::joined(values)).into())),
    ("urlquery", 0, usize::MAX, |values| {
        Ok(form_urlencoded::byte_serialize(format::joined(values).as_bytes()).collect::<String>().into())
    }),
    ("eq", 1, usize::MAX, |values| {
        let (first, others) = values.split_first().expect("it has one");
        if others.is_empty() {
            return Err("missing argument for comparison".to_owned());
        }
        for other in others {
            if equal(first, other)? {
                return Ok(true.into());
            }
        }
        Ok(false.into())
    }),
    ("ne", 2, 2, |values| Ok((!equal(&values[0], &values[1])?).into())),
    ("lt", 2, 2, |values| Ok(order(values)?.is_lt().into())),
    ("le", 2, 2, |values| Ok(order(values)?.is_le().into())),
    ("gt", 2, 2, |values| Ok(order(values)?.is_gt().into())),
    ("ge", 2, 2, |values| Ok(order(values)?.is_ge().into())),
    ("exists", 1, usize::MAX, exists),
    ("base64decode", 1, 1, |values| {
        let Value::String(text) = &values[0] else { return Err(wrong_type(&values[0], "string")) };
        let decoded = STANDARD.decode(text).map_err(|error| format!("base64 decode failed: {error}"))?;
        Ok(String::from_utf8_lossy(&decoded).into())
    }),
];

pub fn is_one(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

pub fn call(name: &str, values: &[Value]) -> Result<Option<Value>> {
    let found = FUNCTIONS.iter().find(|(known, ..)| *known == name);
    let (_, least, most, function) = found.ok_or_else(|| format!("{name:?} is not a defined function"))?;
    if values.len() < *least || values.len() > *most {
        let least = if least == most { least.to_string() } else { format!("at least {least}") };
        return Err(format!("wrong number of args for {name}: want {least} got {}", values.len()));
    }
    match function(values) {
        Ok(Value::Null) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(format!("error calling {name}: {error}")),
    }
}

fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn wrong_type(value: &Value, wanted: &str) -> String {
    format!("wrong type for value; expected {wanted}; got {}", format::go_type(value))
}

fn last(values: &[Value]) -> Result<Value> {
    Ok(values.last().cloned().unwrap_or(Value::Null))
}

fn len(values: &[Value]) -> Result<Value> {
    Ok(match &values[0] {
        Value::String(text) => json!(text.len()),
        Value::Array(list) => json!(list.len()),
        Value::Object(map) => json!(map.len()),
        Value::Null => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", format::go_type(other))),
    })
}

/// A position in something so long.
fn place(value: &Value, length: usize) -> Result<usize> {
    let number = match value {
        Value::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default(),
        Value::Null => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", format::go_type(other))),
    };
    let found = usize::try_from(number).ok().filter(|at| *at < length);
    found.ok_or_else(|| format!("index out of range: {number}"))
}

fn index(values: &[Value]) -> Result<Value> {
    let mut item = &values[0];
    let mut made;
    if item.is_null() {
        return Err("index of untyped nil".to_owned());
    }
    for by in &values[1..] {
        item = match item {
            Value::Array(list) => &list[place(by, list.len())?],
            Value::String(text) => {
                made = json!(text.as_bytes()[place(by, text.len())?]);
                &made
            }
            Value::Object(map) => match by {
                Value::String(key) => map.get(key).unwrap_or(&Value::Null),
                Value::Null => return Err("value is nil; should be of type string".to_owned()),
                other => return Err(format!("value has type {}; should be string", format::go_type(other))),
            },
            Value::Null => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", format::go_type(other))),
        };
    }
    Ok(item.clone())
}

fn slice(values: &[Value]) -> Result<Value> {
    let length = match &values[0] {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        Value::Null => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", format::go_type(other))),
    };
    let bound = |at: usize, default: usize| values.get(at).map_or(Ok(default), |value| place(value, length + 1));
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &values[0] {
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()[from..to]).into(),
        Value::Array(list) => list[from..to].to_vec().into(),
        _ => Value::Null,
    })
}

fn printf(values: &[Value]) -> Result<Value> {
    let Value::String(form) = &values[0] else { return Err(wrong_type(&values[0], "string")) };
    Ok(format::printf(form, &values[1..]).into())
}

const HTML: &[(char, &str)] =
    &[('\0', "\u{fffd}"), ('"', "&#34;"), ('\'', "&#39;"), ('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")];

fn replaced(text: &str, table: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match table.iter().find(|(known, _)| *known == c) {
            Some((_, instead)) => out.push_str(instead),
            None => out.push(c),
        }
    }
    out
}

fn javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("a String takes it"),
            c => out.push(c),
        }
    }
    out
}

/// What can be compared with what.
fn kind(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 1,
        Value::Number(number) if number.is_f64() => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Null => 0,
        Value::Array(_) | Value::Object(_) => 5,
    }
}

fn equal(first: &Value, second: &Value) -> Result<bool> {
    match (kind(first), kind(second)) {
        (0, 0) => Ok(true),
        (0, _) | (_, 0) => Ok(false),
        (5, _) | (_, 5) => {
            let list = if kind(first) == 5 { first } else { second };
            Err(format!("non-comparable type {}: {}", format::plain(list), format::go_type(list)))
        }
        (one, other) if one == other => Ok(first == second),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(values: &[Value]) -> Result<Ordering> {
    match (&values[0], &values[1]) {
        (Value::String(first), Value::String(second)) => Ok(first.cmp(second)),
        (first @ Value::Number(one), second @ Value::Number(other)) if kind(first) == kind(second) => {
            let whole = one.as_i64().zip(other.as_i64()).map(|(one, other)| one.cmp(&other));
            let part = || one.as_f64().zip(other.as_f64()).and_then(|(one, other)| one.partial_cmp(&other));
            whole.or_else(part).ok_or_else(|| "incompatible types for comparison".to_owned())
        }
        (first, second) if kind(first) == kind(second) => Err("invalid type for comparison".to_owned()),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn exists(values: &[Value]) -> Result<Value> {
    let mut item = &values[0];
    for by in &values[1..] {
        let next = match (item, by) {
            (Value::Array(list), by) => place(by, list.len()).ok().map(|at| &list[at]),
            (Value::String(text), by) => return Ok(place(by, text.len()).is_ok().into()),
            (Value::Object(map), Value::String(key)) => map.get(key),
            _ => None,
        };
        match next {
            Some(next) => item = next,
            None => return Ok(false.into()),
        }
    }
    Ok((!item.is_null()).into())
}
