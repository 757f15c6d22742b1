//! `"%s is %d".format([name, size])`.

use super::convert::{double, seconds};
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{List, Map, Value};
use std::fmt::Write;

type Outcome<'a> = Result<Value<'a>, Failure>;

/// How deep lists in lists are written.
const MAX_DEPTH: usize = 32;
const MAX_RESULT: usize = 10 << 20;

pub(super) const ROWS: &[Row] =
    &[(".format", "string_format", "string, list(dyn) -> string", format_text, Cost::Format)];

fn format_text<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let arguments = call.list(1)?;
    let mut out = String::new();
    let mut next = 0;
    let mut characters = call.text(0)?.chars().peekable();
    while let Some(character) = characters.next() {
        if out.len() > MAX_RESULT {
            return Err(Failure::new(format!("a string of over {MAX_RESULT} bytes")));
        }
        if character != '%' {
            out.push(character);
            continue;
        }
        if characters.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let precision = precision(&mut characters)?;
        let clause = characters.next().ok_or_else(|| Failure::new("unexpected end of string"))?;
        let value = arguments.get(next).ok_or_else(|| Failure::new(format!("index {next} out of range")))?;
        next += 1;
        one(&mut out, clause, precision, &value)?;
    }
    if next < arguments.len() && next == 0 && arguments.is_empty() {
        return Err(Failure::new("no arguments"));
    }
    Ok(out.into())
}

fn precision(characters: &mut std::iter::Peekable<std::str::Chars>) -> Result<Option<usize>, Failure> {
    if characters.next_if_eq(&'.').is_none() {
        return Ok(None);
    }
    let mut digits = String::new();
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.parse() {
        Ok(precision) if precision <= 1000 => Ok(Some(precision)),
        _ => Err(Failure::new("error while parsing precision")),
    }
}

fn one(out: &mut String, clause: char, precision: Option<usize>, value: &Value) -> Result<(), Failure> {
    let wrong =
        |what: &str| Err(Failure::new(format!("error during formatting: {what}, was given {}", value.type_name())));
    match (clause, value) {
        ('s', value) => text(out, value, 0)?,
        ('d', Value::Int(number)) => write_to(out, format_args!("{number}")),
        ('d', Value::Uint(number)) => write_to(out, format_args!("{number}")),
        ('d', _) => return wrong("decimal clause can only be used on integers"),
        ('f', Value::Double(number)) => write_to(out, format_args!("{number:.*}", precision.unwrap_or(6))),
        ('f', Value::Int(number)) => write_to(out, format_args!("{:.*}", precision.unwrap_or(6), *number as f64)),
        ('f', Value::Uint(number)) => write_to(out, format_args!("{:.*}", precision.unwrap_or(6), *number as f64)),
        ('f', _) => return wrong("fixed-point clause can only be used on doubles"),
        ('e', Value::Double(number)) => {
            let scientific = format!("{number:.*e}", precision.unwrap_or(6));
            let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            write_to(out, format_args!("{digits}e{sign}{:02}", exponent.abs()));
        }
        ('e', _) => return wrong("scientific clause can only be used on doubles"),
        ('b', Value::Int(number)) if *number < 0 => write_to(out, format_args!("-{:b}", number.unsigned_abs())),
        ('b', Value::Int(number)) => write_to(out, format_args!("{number:b}")),
        ('b', Value::Uint(number)) => write_to(out, format_args!("{number:b}")),
        ('b', Value::Bool(bool)) => out.push(if *bool { '1' } else { '0' }),
        ('b', _) => return wrong("only integers and bools can be formatted as binary"),
        ('o', Value::Int(number)) if *number < 0 => write_to(out, format_args!("-{:o}", number.unsigned_abs())),
        ('o', Value::Int(number)) => write_to(out, format_args!("{number:o}")),
        ('o', Value::Uint(number)) => write_to(out, format_args!("{number:o}")),
        ('o', _) => return wrong("octal clause can only be used on integers"),
        ('x' | 'X', value) => {
            let hex = match value {
                Value::Int(number) if *number < 0 => format!("-{:x}", number.unsigned_abs()),
                Value::Int(number) => format!("{number:x}"),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => text.as_str().bytes().fold(String::new(), hex),
                Value::Bytes(bytes) => bytes.iter().copied().fold(String::new(), hex),
                _ => return wrong("only integers, byte buffers, and strings can be formatted as hex"),
            };
            out.push_str(&if clause == 'X' { hex.to_uppercase() } else { hex });
        }
        (other, _) => {
            return Err(Failure::new(format!(
                "could not parse formatting clause: unrecognized formatting clause {:?}",
                other.to_string()
            )));
        }
    }
    Ok(())
}

fn hex(mut out: String, byte: u8) -> String {
    write_to(&mut out, format_args!("{byte:02x}"));
    out
}

/// Into a string nothing fails.
fn write_to(out: &mut String, arguments: std::fmt::Arguments) {
    let _ = out.write_fmt(arguments);
}

fn text(out: &mut String, value: &Value, depth: usize) -> Result<(), Failure> {
    if depth > MAX_DEPTH || out.len() > MAX_RESULT {
        return Err(Failure::new("the value is too large to format"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => write_to(out, format_args!("{bool}")),
        Value::Int(number) => write_to(out, format_args!("{number}")),
        Value::Uint(number) => write_to(out, format_args!("{number}")),
        Value::Double(number) if number.is_infinite() => {
            out.push_str(if *number > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Value::Double(number) => out.push_str(&double(*number)),
        Value::String(text) => out.push_str(text.as_str()),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Duration(nanoseconds) => write_to(out, format_args!("{}s", seconds(*nanoseconds))),
        Value::Timestamp(time) => write_to(out, format_args!("{time}")),
        Value::Type(name) => out.push_str(name),
        Value::List(list) => items(out, list, depth)?,
        Value::Map(map) => entries(out, map, depth)?,
        other => {
            return Err(Failure::new(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                other.type_name()
            )));
        }
    }
    Ok(())
}

fn items(out: &mut String, list: &List, depth: usize) -> Result<(), Failure> {
    out.push('[');
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        text(out, &item, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

fn entries(out: &mut String, map: &Map, depth: usize) -> Result<(), Failure> {
    out.push('{');
    for (index, key) in map.keys().iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        text(out, key, depth + 1)?;
        out.push_str(": ");
        if let Some(value) = key.to_key().and_then(|key| map.get(&key)) {
            text(out, &value, depth + 1)?;
        }
    }
    out.push('}');
    Ok(())
}
