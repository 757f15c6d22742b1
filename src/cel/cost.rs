//! What calls cost while an expression runs: Kubernetes's figures.

use super::overloads::Cost;
use super::value::Value;

pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;
pub(super) const OBJECT: u64 = 40;
/// Of an authorization check.
pub(super) const CHECK: u64 = 350_000;
/// A tenth for each character that is read.
pub(super) const STRING_FACTOR: f64 = 0.1;
/// Two for each pair of items.
pub(super) const COMPARE_FACTOR: f64 = 2.0;
/// A quarter for each character of a regular expression.
pub(super) const REGEX_FACTOR: f64 = 0.25;

/// Known before the call.
pub(super) fn of_call(cost: Cost, arguments: &[Value]) -> u64 {
    let size = |index: usize| arguments.get(index).map_or(1, actual_size);
    match cost {
        Cost::One => 1,
        Cost::Check => CHECK,
        Cost::Traverse => arguments.first().map_or(0, traversal),
        Cost::Items => size(1),
        Cost::Read => read(size(0)),
        Cost::ReadTwice => read_times(size(0), 2.0),
        Cost::Join => 0,
        Cost::Shorter => read(size(0).min(size(1))),
        Cost::Both => read(size(0) + size(1)),
        Cost::Regex => read(1 + size(0)).saturating_mul(scaled(size(1), REGEX_FACTOR)),
        Cost::Contains => read(size(0)).saturating_mul(read(size(1))),
        Cost::ContainsIp => read(2 * network(arguments)),
        Cost::ContainsIpText => read(2 * network(arguments)) + read(size(1)),
        Cost::ContainsCidr => read(2 * network(arguments)) + read(network(arguments)) + 1,
        Cost::ContainsCidrText => read(2 * network(arguments)) + read(network(arguments)) + 1 + read(size(1)),
        Cost::Product => size(0).saturating_mul(size(1)),
        Cost::Format => read(size(0)),
        Cost::Slice => {
            let place = |index: usize| match arguments.get(index) {
                Some(Value::Int(place)) => u64::try_from(*place).unwrap_or(0).min(size(0)),
                _ => 0,
            };
            list_of(place(2).saturating_sub(place(1)), 1.0)
        }
        Cost::Range => match arguments.first() {
            Some(Value::Int(number)) => list_of(u64::try_from(*number).unwrap_or(0), 1.0),
            _ => 1,
        },
        Cost::Reverse => list_of(size(0), 1.0),
        Cost::Flatten => match arguments.get(1) {
            Some(Value::Int(depth)) => list_of(size(0), *depth as f64),
            _ => list_of(size(0), 1.0),
        },
        Cost::Distinct | Cost::Sort => compared(arguments.first()),
        Cost::SortBy => compared(arguments.get(1)),
        Cost::Validate => {
            let length = match arguments.first() {
                Some(Value::Format(format)) => format.regex_size,
                _ => super::library::format::MAX_REGEX_SIZE,
            };
            read(1 + size(1)).saturating_mul(scaled(length, REGEX_FACTOR))
        }
    }
}

/// Known only after it.
pub(super) fn of_result(cost: Cost, result: &Value) -> u64 {
    match cost {
        Cost::Join => read_times(actual_size(result), 2.0),
        _ => 0,
    }
}

/// A list that is made.
fn list_of(size: u64, factor: f64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

/// Of items that are each compared with each.
fn compared(list: Option<&Value>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let size = list.len() as u64;
    let text = matches!(list.get(0), Some(Value::String(_) | Value::Bytes(_)));
    list_of(size.saturating_mul(size), if text { COMPARE_FACTOR + STRING_FACTOR } else { COMPARE_FACTOR })
}

fn read(size: u64) -> u64 {
    scaled(size, STRING_FACTOR)
}

fn read_times(size: u64, times: f64) -> u64 {
    scaled(size, times * STRING_FACTOR)
}

fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn actual_size(value: &Value) -> u64 {
    value.size().unwrap_or(1)
}

/// Bytes of the network's address.
fn network(arguments: &[Value]) -> u64 {
    match arguments.first() {
        Some(Value::Cidr(cidr)) => cidr.byte_length(),
        _ => 1,
    }
}

/// A list costs its items, what is text a tenth of it.
fn traversal(value: &Value) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => read(actual_size(value)),
        Value::List(list) => list.iter().map(|item| traversal(&item)).fold(0, u64::saturating_add),
        Value::Map(map) => map.len() as u64,
        _ => 1,
    }
}
