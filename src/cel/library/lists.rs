//! Functions of lists: Kubernetes's own, and sets.

use super::no_such_overload;
use super::operators::{add, order};
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{List, Value};
use std::cmp::Ordering;

type Outcome<'a> = Result<Value<'a>, Failure>;

/// What has an order.
macro_rules! each_comparable {
    ($($name:literal, $result:tt, $function:ident);* $(;)?) => {
        &[$(
            ($name, concat!($name, "_int"), concat!("list(int) -> ", each_comparable!($result "int")), $function, Cost::Traverse),
            ($name, concat!($name, "_uint"), concat!("list(uint) -> ", each_comparable!($result "uint")), $function, Cost::Traverse),
            ($name, concat!($name, "_double"), concat!("list(double) -> ", each_comparable!($result "double")), $function, Cost::Traverse),
            ($name, concat!($name, "_bool"), concat!("list(bool) -> ", each_comparable!($result "bool")), $function, Cost::Traverse),
            ($name, concat!($name, "_duration"), concat!("list(duration) -> ", each_comparable!($result "duration")), $function, Cost::Traverse),
            ($name, concat!($name, "_timestamp"), concat!("list(timestamp) -> ", each_comparable!($result "timestamp")), $function, Cost::Traverse),
            ($name, concat!($name, "_string"), concat!("list(string) -> ", each_comparable!($result "string")), $function, Cost::Traverse),
            ($name, concat!($name, "_bytes"), concat!("list(bytes) -> ", each_comparable!($result "bytes")), $function, Cost::Traverse),
        )*
            (".sum", "list_int_sum_int", "list(int) -> int", sum_int, Cost::Traverse),
            (".sum", "list_uint_sum_uint", "list(uint) -> uint", sum_uint, Cost::Traverse),
            (".sum", "list_double_sum_double", "list(double) -> double", sum_double, Cost::Traverse),
            (".sum", "list_duration_sum_duration", "list(duration) -> duration", sum_duration, Cost::Traverse),
            (".indexOf", "list_a_index_of_int", "list(A), A -> int", index_of, Cost::Traverse),
            (".lastIndexOf", "list_a_last_index_of_int", "list(A), A -> int", last_index_of, Cost::Traverse),
            ("sets.contains", "list_sets_contains_list", "list(A), list(A) -> bool", contains, Cost::Product),
            ("sets.equivalent", "list_sets_equivalent_list", "list(A), list(A) -> bool", equivalent, Cost::Product),
            ("sets.intersects", "list_sets_intersects_list", "list(A), list(A) -> bool", intersects, Cost::Product),
        ]
    };
    (bool $type:literal) => { "bool" };
    (same $type:literal) => { $type };
}

pub(super) const ROWS: &[Row] = each_comparable! {
    ".isSorted", bool, is_sorted;
    ".max", same, max;
    ".min", same, min;
};

fn is_sorted<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut last: Option<Value> = None;
    for item in call.list(0)?.iter() {
        if let Some(last) = &last
            && order(last, &item)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        last = Some(item);
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(call: &Call<'a, '_>, name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in call.list(0)?.iter() {
        best = match best {
            Some(best) if order(&item, &best)? != wanted => Some(best),
            _ => Some(item),
        };
    }
    best.ok_or_else(|| Failure::new(format!("{name} called on empty list")))
}

fn max<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    extreme(call, "max", Ordering::Greater)
}

fn min<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    extreme(call, "min", Ordering::Less)
}

fn sum<'a>(call: &mut Call<'a, '_>, zero: Value<'a>) -> Outcome<'a> {
    let mut total = zero;
    for item in call.list(0)?.iter() {
        total = add(&mut Call { name: "_+_", arguments: &mut [total, item] })?;
    }
    Ok(total)
}

fn sum_int<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    sum(call, Value::Int(0))
}

fn sum_uint<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    sum(call, Value::Uint(0))
}

fn sum_double<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    sum(call, Value::Double(0.0))
}

fn sum_duration<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    sum(call, Value::Duration(0))
}

fn place(index: Option<usize>) -> Value<'static> {
    Value::Int(index.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1))
}

fn index_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let wanted = &call.arguments[1];
    Ok(place(call.list(0)?.iter().position(|item| item.equals(wanted))))
}

fn last_index_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let wanted = &call.arguments[1];
    let list = call.list(0)?;
    Ok(place((0..list.len()).rev().find(|index| list.get(*index).is_some_and(|item| item.equals(wanted)))))
}

fn two<'c, 'a>(call: &'c Call<'a, '_>) -> Result<(&'c List<'a>, &'c List<'a>), Failure> {
    match &*call.arguments {
        [Value::List(a), Value::List(b)] => Ok((a, b)),
        _ => Err(no_such_overload()),
    }
}

fn contains<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (a, b) = two(call)?;
    Ok(Value::Bool(b.iter().all(|item| a.contains(&item))))
}

fn equivalent<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (a, b) = two(call)?;
    Ok(Value::Bool(b.iter().all(|item| a.contains(&item)) && a.iter().all(|item| b.contains(&item))))
}

fn intersects<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (a, b) = two(call)?;
    Ok(Value::Bool(a.iter().any(|item| b.contains(&item))))
}
