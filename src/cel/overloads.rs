//! The functions of the environment: a row per overload, with its signature, what it does, and what
//! it costs.
//!
//! A row's name begins with a dot when it is called on its first argument. What a call costs is
//! Kubernetes's figure (`Cost`); the estimate before a run uses the same row.

use super::Failure;
use super::declaration::{Type, parse_type};
use super::evaluate::Call;
use super::library;
use super::value::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

pub(super) type Function = for<'a> fn(&mut Call<'a, '_>) -> Result<Value<'a>, Failure>;

/// One row as it is written down: name, identifier, signature (`string, int -> bool`), function, cost.
pub(super) type Row = (&'static str, &'static str, &'static str, Function, Cost);

/// What a call costs, by the sizes of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    One,
    /// Of an authorization check: two are allowed in one expression.
    Check,
    /// Over the first argument: a tenth of its size, or an item each for a list.
    Traverse,
    /// Over the second argument, an item each: `in` a list.
    Items,
    /// A string is read once, twice.
    Read,
    ReadTwice,
    /// The result of `join`.
    Join,
    /// As far as the shorter one goes.
    Shorter,
    /// Both are copied.
    Both,
    /// Text times expression.
    Regex,
    /// Text times text.
    Contains,
    /// A network and an address, the address as text or not.
    ContainsIp,
    ContainsIpText,
    ContainsCidr,
    ContainsCidrText,
    /// The items of the first for each of the second.
    Product,
    Format,
    /// A list that is made: part of one, numbers up to one, one in another order, lists in one.
    Slice,
    Range,
    Reverse,
    Flatten,
    /// Each item beside each other: without equal ones, sorted, sorted by the second argument.
    Distinct,
    Sort,
    SortBy,
    /// The text of `validate`, by the expression behind its format.
    Validate,
}

#[derive(Debug)]
pub(super) struct Overload {
    pub id: &'static str,
    pub member: bool,
    pub arguments: Vec<Type>,
    pub result: Type,
    pub function: Function,
    pub cost: Cost,
}

pub(super) struct Functions {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Functions>> = LazyLock::new(|| {
    let mut functions = HashMap::new();
    for (name, id, signature, function, cost) in library::ROWS.iter().copied().flatten() {
        let (member, name) = match name.strip_prefix('.') {
            Some(name) => (true, name),
            None => (false, *name),
        };
        let (arguments, result) = parse_signature(signature);
        let overload = Overload { id, member, arguments, result, function: *function, cost: *cost };
        let entry = functions.entry(name).or_insert_with(|| Functions { name, overloads: Vec::new() });
        entry.overloads.push(overload);
    }
    functions
});

pub(super) fn find(name: &str) -> Option<&'static Functions> {
    FUNCTIONS.get(name)
}

fn parse_signature(signature: &str) -> (Vec<Type>, Type) {
    let (arguments, result) = signature.split_once("->").unwrap_or(("", signature));
    let mut types = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (index, character) in arguments.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                types.push(parse_type(&arguments[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    if !arguments[start..].trim().is_empty() {
        types.push(parse_type(&arguments[start..]));
    }
    (types, parse_type(result))
}

impl Overload {
    /// Whether values of such types at run time are what it takes.
    pub fn takes(&self, values: &[Value]) -> bool {
        if matches!(self.cost, Cost::Flatten | Cost::Sort | Cost::SortBy) {
            // These look at the items themselves.
            return self.arguments.len() == values.len();
        }
        self.arguments.len() == values.len()
            && self.arguments.iter().zip(values).all(|(wanted, value)| suits(wanted, value))
    }
}

fn suits(wanted: &Type, value: &Value) -> bool {
    match (wanted, value) {
        (Type::Dyn | Type::Parameter(_), _)
        | (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Map(_), Value::Map(_))
        | (Type::Type(_), Value::Type(_)) => true,
        (Type::List(element), Value::List(list)) => {
            matches!(**element, Type::Dyn | Type::Parameter(_))
                || list.get(0).is_none_or(|first| suits(element, &first))
        }
        (Type::Optional(inner), Value::Optional(value)) => {
            matches!(**inner, Type::Dyn | Type::Parameter(_)) || value.as_ref().is_none_or(|value| suits(inner, value))
        }
        (Type::Opaque(name), value) => value.type_name() == *name,
        _ => false,
    }
}
