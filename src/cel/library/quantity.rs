//! Quantities: `quantity("1Gi").isGreaterThan(quantity("500Mi"))`.

use super::no_such_overload;
use super::order::{compare, is_greater, is_less};
use crate::api::quantity;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use std::sync::Arc;

pub(in crate::cel) use crate::api::quantity::Quantity;

type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) const ROWS: &[Row] = &[
    ("quantity", "string_to_quantity", "string -> Quantity", parse, Cost::Read),
    ("isQuantity", "is_quantity_string", "string -> bool", is_quantity, Cost::Read),
    ("sign", "quantity_sign", "Quantity -> int", sign, Cost::One),
    (".sign", "quantity_sign_member", "Quantity -> int", sign, Cost::One),
    (".isGreaterThan", "quantity_is_greater_than", "Quantity, Quantity -> bool", is_greater, Cost::One),
    (".isLessThan", "quantity_is_less_than", "Quantity, Quantity -> bool", is_less, Cost::One),
    (".compareTo", "quantity_compare_to", "Quantity, Quantity -> int", compare, Cost::One),
    (".asApproximateFloat", "quantity_get_float", "Quantity -> double", as_float, Cost::One),
    (".asInteger", "quantity_get_int", "Quantity -> int", as_integer, Cost::One),
    (".isInteger", "quantity_is_integer", "Quantity -> bool", is_integer, Cost::One),
    (".add", "quantity_add", "Quantity, Quantity -> Quantity", add, Cost::One),
    (".add", "quantity_add_int", "Quantity, int -> Quantity", add, Cost::One),
    (".sub", "quantity_sub", "Quantity, Quantity -> Quantity", sub, Cost::One),
    (".sub", "quantity_sub_int", "Quantity, int -> Quantity", sub, Cost::One),
];

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Quantity(Arc::new(quantity))
}

fn given<'c, 'a>(call: &'c Call<'a, '_>, index: usize) -> Result<&'c Quantity, Failure> {
    match call.arguments.get(index) {
        Some(Value::Quantity(quantity)) => Ok(quantity),
        _ => Err(no_such_overload()),
    }
}

fn parse<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Quantity::parse(call.text(0)?).map(made).map_err(|error| Failure::new(error.to_string()))
}

fn is_quantity<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(Quantity::parse(call.text(0)?).is_ok()))
}

fn sign<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let quantity = given(call, 0)?;
    Ok(Value::Int(if quantity.is_zero() {
        0
    } else if quantity.is_negative() {
        -1
    } else {
        1
    }))
}

fn as_float<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Double(given(call, 0)?.approximate()))
}

fn as_integer<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    given(call, 0)?.whole().map(Value::Int).ok_or_else(|| Failure::new("cannot convert value to integer"))
}

fn is_integer<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(given(call, 0)?.whole().is_some()))
}

/// A quantity, or a whole number.
fn operand(call: &Call) -> Result<Quantity, Failure> {
    match call.arguments.get(1) {
        Some(Value::Int(number)) => Ok(Quantity::new(*number, quantity::Format::DecimalSi)),
        _ => given(call, 1).cloned(),
    }
}

fn add<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut total = given(call, 0)?.clone();
    total.add(&operand(call)?);
    Ok(made(total))
}

fn sub<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut total = given(call, 0)?.clone();
    total.sub(&operand(call)?);
    Ok(made(total))
}
