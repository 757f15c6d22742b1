//! What has an order of its own: quantities and versions.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::value::Value;
use std::cmp::Ordering;

type Outcome<'a> = Result<Value<'a>, Failure>;

fn order(call: &Call) -> Result<Ordering, Failure> {
    match &*call.arguments {
        [Value::Quantity(one), Value::Quantity(other)] => Ok(one.cmp(other)),
        [Value::Semver(one), Value::Semver(other)] => Ok(one.cmp(other)),
        _ => Err(no_such_overload()),
    }
}

pub(super) fn is_greater<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(order(call)?.is_gt()))
}

pub(super) fn is_less<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(order(call)?.is_lt()))
}

pub(super) fn compare<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Int(order(call)? as i64))
}
