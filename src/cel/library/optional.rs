//! Optional values. `or` and `orValue` are the evaluator's: their second argument may not be needed.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) const ROWS: &[Row] = &[
    ("optional.of", "optional_of", "V -> optional(V)", of, Cost::One),
    ("optional.ofNonZeroValue", "optional_ofNonZeroValue", "V -> optional(V)", of_non_zero, Cost::One),
    ("optional.none", "optional_none", " -> optional(V)", none, Cost::One),
    (".value", "optional_value", "optional(V) -> V", value, Cost::One),
    (".hasValue", "optional_hasValue", "optional(V) -> bool", has_value, Cost::One),
    (".or", "optional_or_optional", "optional(V), optional(V) -> optional(V)", value, Cost::One),
    (".orValue", "optional_orValue_value", "optional(V), V -> V", value, Cost::One),
    (".first", "list_first", "list(V) -> optional(V)", first, Cost::One),
    (".last", "list_last", "list(V) -> optional(V)", last, Cost::One),
    ("optional.unwrap", "optional_unwrap", "list(optional(V)) -> list(V)", unwrap, Cost::One),
    (".unwrapOpt", "optional_unwrapOpt", "list(optional(V)) -> list(V)", unwrap, Cost::One),
];

fn of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Optional(Some(Arc::new(call.take(0)))))
}

fn of_non_zero<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let value = call.take(0);
    Ok(Value::Optional(if value.is_zero() { None } else { Some(Arc::new(value)) }))
}

fn none<'a>(_: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Optional(None))
}

fn value<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    match call.take(0) {
        Value::Optional(Some(value)) => Ok(Arc::unwrap_or_clone(value)),
        Value::Optional(None) => Err(Failure::new("optional.none() dereference")),
        _ => Err(no_such_overload()),
    }
}

fn has_value<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    match &call.arguments[0] {
        Value::Optional(value) => Ok(Value::Bool(value.is_some())),
        _ => Err(no_such_overload()),
    }
}

fn first<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Optional(call.list(0)?.get(0).map(Arc::new)))
}

fn last<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let list = call.list(0)?;
    Ok(Value::Optional(list.len().checked_sub(1).and_then(|index| list.get(index)).map(Arc::new)))
}

fn unwrap<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut items = Vec::new();
    for item in call.list(0)?.iter() {
        match item {
            Value::Optional(value) => items.extend(value.map(Arc::unwrap_or_clone)),
            _ => return Err(no_such_overload()),
        }
    }
    Ok(items.into())
}
