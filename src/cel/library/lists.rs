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
            (".sort", "list_int_sort", "list(int) -> list(int)", sort, Cost::Sort),
            (".sort", "list_uint_sort", "list(uint) -> list(uint)", sort, Cost::Sort),
            (".sort", "list_double_sort", "list(double) -> list(double)", sort, Cost::Sort),
            (".sort", "list_bool_sort", "list(bool) -> list(bool)", sort, Cost::Sort),
            (".sort", "list_duration_sort", "list(duration) -> list(duration)", sort, Cost::Sort),
            (".sort", "list_timestamp_sort", "list(timestamp) -> list(timestamp)", sort, Cost::Sort),
            (".sort", "list_string_sort", "list(string) -> list(string)", sort, Cost::Sort),
            (".sort", "list_bytes_sort", "list(bytes) -> list(bytes)", sort, Cost::Sort),
            (".@sortByAssociatedKeys", "list_int_sortByAssociatedKeys", "list(T), list(int) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_uint_sortByAssociatedKeys", "list(T), list(uint) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_double_sortByAssociatedKeys", "list(T), list(double) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_bool_sortByAssociatedKeys", "list(T), list(bool) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_duration_sortByAssociatedKeys", "list(T), list(duration) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_timestamp_sortByAssociatedKeys", "list(T), list(timestamp) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_string_sortByAssociatedKeys", "list(T), list(string) -> list(T)", sort, Cost::SortBy),
            (".@sortByAssociatedKeys", "list_bytes_sortByAssociatedKeys", "list(T), list(bytes) -> list(T)", sort, Cost::SortBy),
            ("lists.range", "lists_range", "int -> list(int)", range, Cost::Range),
            (".slice", "list_slice", "list(T), int, int -> list(T)", slice, Cost::Slice),
            (".reverse", "list_reverse", "list(T) -> list(T)", reverse, Cost::Reverse),
            (".distinct", "list_distinct", "list(T) -> list(T)", distinct, Cost::Distinct),
            (".flatten", "list_flatten", "list(list(T)) -> list(T)", flatten, Cost::Flatten),
            (".flatten", "list_flatten_int", "list(dyn), int -> list(dyn)", flatten, Cost::Flatten),
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

/// By the second list, or by itself.
fn sort<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let list = call.list(0)?;
    let keys = if call.arguments.len() > 1 { call.list(1)? } else { list };
    if list.len() != keys.len() {
        return Err(Failure::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let mut pairs: Vec<(Value, Value)> = keys.iter().zip(list.iter()).collect();
    if let Some((first, _)) = pairs.first() {
        if order(first, first).is_err() && !matches!(first, Value::Double(_)) {
            return Err(Failure::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(key, _)| key.type_name() != first.type_name()) {
            return Err(Failure::new("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(a, _), (b, _)| order(a, b).unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
}

fn range<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok((0..call.int(0)?).map(Value::Int).collect::<Vec<_>>().into())
}

fn slice<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (list, start, end) = (call.list(0)?, call.int(1)?, call.int(2)?);
    let wrong = |what: String| Failure::new(format!("cannot slice({start}, {end}), {what}"));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(wrong("negative indexes not supported".to_owned()));
    };
    if from > to {
        return Err(wrong("start index must be less than or equal to end index".to_owned()));
    }
    if to > list.len() {
        return Err(wrong(format!("list is length {}", list.len())));
    }
    Ok((from..to).filter_map(|index| list.get(index)).collect::<Vec<_>>().into())
}

fn reverse<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut items: Vec<Value> = call.list(0)?.iter().collect();
    items.reverse();
    Ok(items.into())
}

fn distinct<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut items: Vec<Value> = Vec::new();
    for item in call.list(0)?.iter() {
        if !items.iter().any(|known| known.equals(&item)) {
            items.push(item);
        }
    }
    Ok(items.into())
}

fn flatten<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let depth = if call.arguments.len() > 1 { call.int(1)? } else { 1 };
    let Ok(depth) = u64::try_from(depth) else { return Err(Failure::new("level must be non-negative")) };
    let mut items = Vec::new();
    flatten_into(&mut items, call.list(0)?, depth);
    Ok(items.into())
}

fn flatten_into<'a>(items: &mut Vec<Value<'a>>, list: &List<'a>, depth: u64) {
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => flatten_into(items, &inner, depth - 1),
            other => items.push(other),
        }
    }
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
