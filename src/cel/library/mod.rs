//! The functions of Kubernetes's environment, a file per library.

pub(super) mod addresses;
mod authorization;
pub(super) mod convert;
pub(super) mod format;
pub(super) mod formatting;
mod lists;
mod operators;
mod optional;
mod order;
pub(super) mod quantity;
pub(super) mod semver;
mod strings;
pub(super) mod time;
pub(super) mod url;

use super::Failure;
use super::evaluate::Call;
use super::overloads::Row;
use super::value::{List, Value};

pub(super) const ROWS: &[&[Row]] = &[
    operators::ROWS,
    convert::ROWS,
    strings::ROWS,
    formatting::ROWS,
    lists::ROWS,
    time::ROWS,
    optional::ROWS,
    url::ROWS,
    addresses::ROWS,
    quantity::ROWS,
    semver::ROWS,
    format::ROWS,
    authorization::ROWS,
];

pub(super) fn no_such_overload() -> Failure {
    Failure::new("no such overload")
}

impl<'a> Call<'a, '_> {
    fn take(&mut self, index: usize) -> Value<'a> {
        self.arguments.get_mut(index).map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
    }

    fn text(&self, index: usize) -> Result<&str, Failure> {
        self.arguments.get(index).and_then(Value::as_str).ok_or_else(no_such_overload)
    }

    fn int(&self, index: usize) -> Result<i64, Failure> {
        match self.arguments.get(index) {
            Some(Value::Int(number)) => Ok(*number),
            _ => Err(no_such_overload()),
        }
    }

    fn bool(&self, index: usize) -> Result<bool, Failure> {
        match self.arguments.get(index) {
            Some(Value::Bool(bool)) => Ok(*bool),
            _ => Err(no_such_overload()),
        }
    }

    fn list(&self, index: usize) -> Result<&List<'a>, Failure> {
        match self.arguments.get(index) {
            Some(Value::List(list)) => Ok(list),
            _ => Err(no_such_overload()),
        }
    }
}
