//! What of an expression is computed before it runs: conversions of literals, and regular expressions
//! that are literals. An expression in which that fails is refused.

use super::evaluate::Call;
use super::tree::{Kind, Node};
use super::value::Value;

pub(super) fn check(root: &Node) -> Result<(), String> {
    constant(root).map(|_| ())
}

/// The value of a node, where it has one before the expression runs.
fn constant(node: &Node) -> Result<Option<Value<'static>>, String> {
    let (name, overloads, arguments) = match &node.kind {
        Kind::Constant(value) => return Ok(Some(value.clone())),
        Kind::Call { name, overloads, arguments, .. } => (*name, overloads, arguments),
        other => {
            for below in other.below() {
                constant(below)?;
            }
            return Ok(None);
        }
    };
    let mut values = Vec::with_capacity(arguments.len());
    for argument in arguments {
        values.push(constant(argument)?);
    }
    match (name, values.as_mut_slice()) {
        (
            "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint",
            [Some(value)],
        ) => {
            let given = std::slice::from_mut(value);
            let Some(overload) = overloads.iter().find(|overload| overload.takes(given)) else { return Ok(None) };
            let result = (overload.function)(&mut Call { name, arguments: given });
            result.map(Some).map_err(|failure| failure.message)
        }
        ("matches" | "find" | "findAll", [_, Some(Value::String(pattern)), ..]) => {
            super::regular_expression(pattern.as_str()).map(|_| None)
        }
        _ => Ok(None),
    }
}
