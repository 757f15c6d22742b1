//! Operators, and the functions that every environment has.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{Key, List, Map, Text, Value, compare_numbers};
use std::cmp::Ordering;
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

/// Comparisons of one operator for each pair of types that has an order.
macro_rules! comparisons {
    ($name:literal, $function:ident) => {
        &[
            ($name, concat!($name, "bool"), "bool, bool -> bool", $function, Cost::One),
            ($name, concat!($name, "int64"), "int, int -> bool", $function, Cost::One),
            ($name, concat!($name, "int64_double"), "int, double -> bool", $function, Cost::One),
            ($name, concat!($name, "int64_uint64"), "int, uint -> bool", $function, Cost::One),
            ($name, concat!($name, "uint64"), "uint, uint -> bool", $function, Cost::One),
            ($name, concat!($name, "uint64_double"), "uint, double -> bool", $function, Cost::One),
            ($name, concat!($name, "uint64_int64"), "uint, int -> bool", $function, Cost::One),
            ($name, concat!($name, "double"), "double, double -> bool", $function, Cost::One),
            ($name, concat!($name, "double_int64"), "double, int -> bool", $function, Cost::One),
            ($name, concat!($name, "double_uint64"), "double, uint -> bool", $function, Cost::One),
            ($name, concat!($name, "string"), "string, string -> bool", $function, Cost::Shorter),
            ($name, concat!($name, "bytes"), "bytes, bytes -> bool", $function, Cost::Shorter),
            ($name, concat!($name, "timestamp"), "timestamp, timestamp -> bool", $function, Cost::One),
            ($name, concat!($name, "duration"), "duration, duration -> bool", $function, Cost::One),
        ]
    };
}

/// Arithmetic, then what each of the comparisons has.
pub(super) const ROWS: &[Row] = &concat_rows::<{ OTHERS.len() + 4 * 14 }>();

const COMPARISONS: [&[Row]; 4] = [
    comparisons!("_<_", less),
    comparisons!("_<=_", less_equals),
    comparisons!("_>_", greater),
    comparisons!("_>=_", greater_equals),
];

const fn concat_rows<const N: usize>() -> [Row; N] {
    let mut rows = [OTHERS[0]; N];
    let mut at = 0;
    while at < OTHERS.len() {
        rows[at] = OTHERS[at];
        at += 1;
    }
    let mut operator = 0;
    while operator < COMPARISONS.len() {
        let mut row = 0;
        while row < COMPARISONS[operator].len() {
            rows[at] = COMPARISONS[operator][row];
            at += 1;
            row += 1;
        }
        operator += 1;
    }
    rows
}

const OTHERS: &[Row] = &[
    ("_?_:_", "conditional", "bool, A, A -> A", never, Cost::One),
    ("_&&_", "logical_and", "bool, bool -> bool", never, Cost::One),
    ("_||_", "logical_or", "bool, bool -> bool", never, Cost::One),
    ("@not_strictly_false", "not_strictly_false", "bool -> bool", never, Cost::One),
    ("!_", "logical_not", "bool -> bool", not, Cost::One),
    ("_==_", "equals", "A, A -> bool", equals, Cost::Shorter),
    ("_!=_", "not_equals", "A, A -> bool", not_equals, Cost::Shorter),
    ("_+_", "add_bytes", "bytes, bytes -> bytes", add, Cost::Both),
    ("_+_", "add_double", "double, double -> double", add, Cost::One),
    ("_+_", "add_duration_duration", "duration, duration -> duration", add, Cost::One),
    ("_+_", "add_duration_timestamp", "duration, timestamp -> timestamp", add, Cost::One),
    ("_+_", "add_timestamp_duration", "timestamp, duration -> timestamp", add, Cost::One),
    ("_+_", "add_int64", "int, int -> int", add, Cost::One),
    ("_+_", "add_list", "list(A), list(A) -> list(A)", add, Cost::One),
    ("_+_", "add_string", "string, string -> string", add, Cost::Both),
    ("_+_", "add_uint64", "uint, uint -> uint", add, Cost::One),
    ("_-_", "subtract_double", "double, double -> double", subtract, Cost::One),
    ("_-_", "subtract_duration_duration", "duration, duration -> duration", subtract, Cost::One),
    ("_-_", "subtract_int64", "int, int -> int", subtract, Cost::One),
    ("_-_", "subtract_timestamp_duration", "timestamp, duration -> timestamp", subtract, Cost::One),
    ("_-_", "subtract_timestamp_timestamp", "timestamp, timestamp -> duration", subtract, Cost::One),
    ("_-_", "subtract_uint64", "uint, uint -> uint", subtract, Cost::One),
    ("_*_", "multiply_double", "double, double -> double", multiply, Cost::One),
    ("_*_", "multiply_int64", "int, int -> int", multiply, Cost::One),
    ("_*_", "multiply_uint64", "uint, uint -> uint", multiply, Cost::One),
    ("_/_", "divide_double", "double, double -> double", divide, Cost::One),
    ("_/_", "divide_int64", "int, int -> int", divide, Cost::One),
    ("_/_", "divide_uint64", "uint, uint -> uint", divide, Cost::One),
    ("_%_", "modulo_int64", "int, int -> int", modulo, Cost::One),
    ("_%_", "modulo_uint64", "uint, uint -> uint", modulo, Cost::One),
    ("-_", "negate_double", "double -> double", negate, Cost::One),
    ("-_", "negate_int64", "int -> int", negate, Cost::One),
    ("_[_]", "index_list", "list(A), int -> A", never, Cost::One),
    ("_[_]", "index_map", "map(A, B), A -> B", never, Cost::One),
    ("_[_]", "optional_list_index_int", "optional(list(V)), int -> optional(V)", never, Cost::One),
    ("_[_]", "optional_map_index_value", "optional(map(K, V)), K -> optional(V)", never, Cost::One),
    ("_[?_]", "list_optindex_optional_int", "list(V), int -> optional(V)", never, Cost::One),
    ("_[?_]", "optional_list_optindex_optional_int", "optional(list(V)), int -> optional(V)", never, Cost::One),
    ("_[?_]", "map_optindex_optional_value", "map(K, V), K -> optional(V)", never, Cost::One),
    ("_[?_]", "optional_map_optindex_optional_value", "optional(map(K, V)), K -> optional(V)", never, Cost::One),
    ("@in", "in_list", "A, list(A) -> bool", within, Cost::Items),
    ("@in", "in_map", "A, map(A, B) -> bool", within, Cost::One),
    ("size", "size_bytes", "bytes -> int", size, Cost::One),
    (".size", "bytes_size", "bytes -> int", size, Cost::One),
    ("size", "size_list", "list(A) -> int", size, Cost::One),
    (".size", "list_size", "list(A) -> int", size, Cost::One),
    ("size", "size_map", "map(A, B) -> int", size, Cost::One),
    (".size", "map_size", "map(A, B) -> int", size, Cost::One),
    ("size", "size_string", "string -> int", size, Cost::One),
    (".size", "string_size", "string -> int", size, Cost::One),
    ("cel.@mapInsert", "@mapInsert_map_map", "map(K, V), map(K, V) -> map(K, V)", never, Cost::One),
    ("cel.@mapInsert", "@mapInsert_map_key_value", "map(K, V), K, V -> map(K, V)", never, Cost::One),
];

/// Of forms that the evaluator has itself.
fn never<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Err(Failure::new(format!("no such overload: {}", call.name)))
}

fn not<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(!call.bool(0)?))
}

fn equals<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(call.arguments[0].equals(&call.arguments[1])))
}

fn not_equals<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(!call.arguments[0].equals(&call.arguments[1])))
}

pub(super) fn order(a: &Value, b: &Value) -> Result<Ordering, Failure> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_str().cmp(b.as_str()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (a, b) => match compare_numbers(a, b) {
            Some(ordering) => ordering,
            None if matches!(a, Value::Double(n) if n.is_nan()) || matches!(b, Value::Double(n) if n.is_nan()) => {
                return Err(Failure::new("NaN values cannot be ordered"));
            }
            None => return Err(no_such_overload()),
        },
    })
}

fn compare<'a>(call: &Call<'a, '_>, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    Ok(Value::Bool(holds(order(&call.arguments[0], &call.arguments[1])?)))
}

fn less<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    compare(call, Ordering::is_lt)
}

fn less_equals<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    compare(call, Ordering::is_le)
}

fn greater<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    compare(call, Ordering::is_gt)
}

fn greater_equals<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    compare(call, Ordering::is_ge)
}

fn overflow() -> Failure {
    Failure::new("integer overflow")
}

fn unsigned_overflow() -> Failure {
    Failure::new("unsigned integer overflow")
}

fn duration_overflow() -> Failure {
    Failure::new("duration overflow")
}

pub(super) fn add<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match (&call.arguments[0], &call.arguments[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            Value::String(Text::Shared(format!("{}{}", a.as_str(), b.as_str()).into()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&**a, &**b].concat().into()),
        (Value::List(a), Value::List(b)) => a.concat(b),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(a.checked_add(*b).ok_or_else(duration_overflow)?),
        (Value::Timestamp(time), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(time)) => {
            super::time::shift(*time, *by)?
        }
        _ => return Err(no_such_overload()),
    })
}

fn subtract<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match (&call.arguments[0], &call.arguments[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(a.checked_sub(*b).ok_or_else(duration_overflow)?),
        (Value::Timestamp(time), Value::Duration(by)) => {
            super::time::shift(*time, by.checked_neg().ok_or_else(duration_overflow)?)?
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let difference = a.as_nanosecond() - b.as_nanosecond();
            Value::Duration(i64::try_from(difference).map_err(|_| duration_overflow())?)
        }
        _ => return Err(no_such_overload()),
    })
}

fn multiply<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match (&call.arguments[0], &call.arguments[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(unsigned_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(no_such_overload()),
    })
}

fn divide<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match (&call.arguments[0], &call.arguments[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(Failure::new("division by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(no_such_overload()),
    })
}

fn modulo<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match (&call.arguments[0], &call.arguments[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(Failure::new("modulus by zero"));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return Err(no_such_overload()),
    })
}

fn negate<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(match &call.arguments[0] {
        Value::Int(number) => Value::Int(number.checked_neg().ok_or_else(overflow)?),
        Value::Double(number) => Value::Double(-number),
        _ => return Err(no_such_overload()),
    })
}

fn within<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(match &call.arguments[1] {
        Value::List(list) => list.contains(&call.arguments[0]),
        Value::Map(map) => match (call.arguments[0].to_key(), map) {
            (Some(Key::String(name)), Map::Json(fields, _)) => fields.contains_key(&*name),
            (Some(key), map) => map.get(&key).is_some(),
            (None, _) => false,
        },
        _ => return Err(no_such_overload()),
    }))
}

fn size<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let size = call.arguments[0].size().ok_or_else(no_such_overload)?;
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// A list of texts.
pub(super) fn texts<'a>(items: impl Iterator<Item = String>) -> Value<'a> {
    Value::List(List::Made(Arc::new(items.map(Value::from).collect())))
}
