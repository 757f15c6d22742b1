//! Conversions between types, and how values are written.

use super::no_such_overload;
use super::time::Time;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{Key, Value};
use crate::schema::scalars::parse_duration;

type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) const ROWS: &[Row] = &[
    ("type", "type", "A -> type(A)", type_of, Cost::One),
    ("dyn", "to_dyn", "A -> dyn", same, Cost::One),
    ("bool", "bool_to_bool", "bool -> bool", same, Cost::One),
    ("bool", "string_to_bool", "string -> bool", to_bool, Cost::One),
    ("bytes", "bytes_to_bytes", "bytes -> bytes", same, Cost::One),
    ("bytes", "string_to_bytes", "string -> bytes", to_bytes, Cost::Read),
    ("double", "double_to_double", "double -> double", same, Cost::One),
    ("double", "int64_to_double", "int -> double", to_double, Cost::One),
    ("double", "string_to_double", "string -> double", to_double, Cost::One),
    ("double", "uint64_to_double", "uint -> double", to_double, Cost::One),
    ("duration", "duration_to_duration", "duration -> duration", same, Cost::One),
    ("duration", "int64_to_duration", "int -> duration", to_duration, Cost::One),
    ("duration", "string_to_duration", "string -> duration", to_duration, Cost::One),
    ("int", "int64_to_int64", "int -> int", same, Cost::One),
    ("int", "double_to_int64", "double -> int", to_int, Cost::One),
    ("int", "duration_to_int64", "duration -> int", to_int, Cost::One),
    ("int", "string_to_int64", "string -> int", to_int, Cost::One),
    ("int", "timestamp_to_int64", "timestamp -> int", to_int, Cost::One),
    ("int", "uint64_to_int64", "uint -> int", to_int, Cost::One),
    ("string", "string_to_string", "string -> string", same, Cost::One),
    ("string", "bool_to_string", "bool -> string", to_string, Cost::One),
    ("string", "bytes_to_string", "bytes -> string", to_string, Cost::Read),
    ("string", "double_to_string", "double -> string", to_string, Cost::One),
    ("string", "duration_to_string", "duration -> string", to_string, Cost::One),
    ("string", "int64_to_string", "int -> string", to_string, Cost::One),
    ("string", "timestamp_to_string", "timestamp -> string", to_string, Cost::One),
    ("string", "uint64_to_string", "uint -> string", to_string, Cost::One),
    ("string", "ip_to_string", "IP -> string", to_string, Cost::One),
    ("string", "cidr_to_string", "CIDR -> string", to_string, Cost::One),
    ("timestamp", "timestamp_to_timestamp", "timestamp -> timestamp", same, Cost::One),
    ("timestamp", "int64_to_timestamp", "int -> timestamp", to_timestamp, Cost::One),
    ("timestamp", "string_to_timestamp", "string -> timestamp", to_timestamp, Cost::One),
    ("uint", "uint64_to_uint64", "uint -> uint", same, Cost::One),
    ("uint", "double_to_uint64", "double -> uint", to_uint, Cost::One),
    ("uint", "int64_to_uint64", "int -> uint", to_uint, Cost::One),
    ("uint", "string_to_uint64", "string -> uint", to_uint, Cost::One),
];

fn same<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(call.take(0))
}

fn type_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Type(call.arguments[0].type_name().into()))
}

fn wrong(from: &Value, to: &str) -> Failure {
    Failure::new(format!("type conversion error from '{}' to '{to}'", from.type_name()))
}

fn to_bool<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    match call.text(0)? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
        _ => Err(wrong(&call.arguments[0], "bool")),
    }
}

fn to_bytes<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bytes(call.text(0)?.as_bytes().into()))
}

fn to_double<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Double(match &call.arguments[0] {
        Value::Int(number) => *number as f64,
        Value::Uint(number) => *number as f64,
        Value::String(text) => text.as_str().parse().map_err(|_| wrong(&call.arguments[0], "double"))?,
        _ => return Err(no_such_overload()),
    }))
}

fn to_duration<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Duration(match &call.arguments[0] {
        Value::Int(number) => *number,
        Value::String(text) => {
            duration(text.as_str()).ok_or_else(|| wrong(&call.arguments[0], "google.protobuf.Duration"))?
        }
        _ => return Err(no_such_overload()),
    }))
}

fn to_int<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let overflow = || Failure::new("integer overflow");
    Ok(Value::Int(match &call.arguments[0] {
        Value::Double(number) if number.abs() < 9_223_372_036_854_775_807.0 => *number as i64,
        Value::Double(_) => return Err(overflow()),
        Value::Duration(nanoseconds) => *nanoseconds,
        Value::String(text) => text.as_str().parse().map_err(|_| wrong(&call.arguments[0], "int"))?,
        Value::Timestamp(time) => time.seconds,
        Value::Uint(number) => i64::try_from(*number).map_err(|_| overflow())?,
        _ => return Err(no_such_overload()),
    }))
}

fn to_uint<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let overflow = || Failure::new("unsigned integer overflow");
    Ok(Value::Uint(match &call.arguments[0] {
        Value::Double(number) if *number >= 0.0 && *number < 18_446_744_073_709_551_615.0 => *number as u64,
        Value::Double(_) => return Err(overflow()),
        Value::Int(number) => u64::try_from(*number).map_err(|_| overflow())?,
        Value::String(text) => text.as_str().parse().map_err(|_| wrong(&call.arguments[0], "uint"))?,
        _ => return Err(no_such_overload()),
    }))
}

fn to_timestamp<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Timestamp(match &call.arguments[0] {
        Value::Int(seconds) => {
            Time::from_seconds(*seconds).ok_or_else(|| wrong(&call.arguments[0], "google.protobuf.Timestamp"))?
        }
        Value::String(text) => {
            Time::parse(text.as_str()).ok_or_else(|| wrong(&call.arguments[0], "google.protobuf.Timestamp"))?
        }
        _ => return Err(no_such_overload()),
    }))
}

fn to_string<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match &call.arguments[0] {
        Value::Bytes(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| Failure::new("invalid UTF-8 in bytes, cannot convert to string"))?
            .into(),
        Value::Bool(bool) => bool.to_string().into(),
        Value::Int(number) => number.to_string().into(),
        Value::Uint(number) => number.to_string().into(),
        Value::Double(number) => double(*number).into(),
        Value::Duration(nanoseconds) => format!("{}s", seconds(*nanoseconds)).into(),
        Value::Timestamp(time) => time.to_string().into(),
        Value::Ip(ip) => ip.to_string().into(),
        Value::Cidr(cidr) => cidr.to_string().into(),
        _ => return Err(no_such_overload()),
    })
}

/// A duration as Go writes one.
pub(in crate::cel) fn duration(text: &str) -> Option<i64> {
    parse_duration(text).ok()
}

/// Seconds with as many digits as they need.
pub(in crate::cel) fn seconds(nanoseconds: i64) -> String {
    (nanoseconds as f64 / 1e9).to_string()
}

/// As Go's `%g` writes a number.
pub(in crate::cel) fn double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    number.to_string()
}

/// A value in a message.
pub(in crate::cel) fn display(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double(*number),
        Value::String(text) => text.as_str().to_owned(),
        other => other.type_name().to_owned(),
    }
}

pub(in crate::cel) fn display_key(key: &Key) -> String {
    match key {
        Key::Bool(bool) => bool.to_string(),
        Key::Int(number) => number.to_string(),
        Key::Uint(number) => number.to_string(),
        Key::String(text) => text.to_string(),
    }
}
