//! An expression that is checked and can run.

use super::overloads::Overload;
use super::value::Value;
use cel::common::ast::operators;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Node {
    pub id: u64,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Constant(Value<'static>),
    /// Bound from outside.
    Variable(Arc<str>),
    /// Of a comprehension.
    Local(Arc<str>),
    Select {
        operand: Box<Node>,
        field: Arc<str>,
    },
    OptionalSelect {
        operand: Box<Node>,
        field: Arc<str>,
    },
    /// `has(a.b)`.
    Test {
        operand: Box<Node>,
        field: Arc<str>,
    },
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    Conditional(Box<[Node; 3]>),
    /// `or`, `orValue`: the second only where the first has no value.
    OrElse {
        pair: Box<(Node, Node)>,
        unwrap: bool,
    },
    Call {
        name: &'static str,
        overloads: Vec<&'static Overload>,
        member: bool,
        arguments: Vec<Node>,
    },
    /// With those that are left out when they have no value.
    List(Vec<(Node, bool)>),
    Map(Vec<Entry>),
    Object {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Node, bool)>,
    },
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

#[derive(Debug)]
pub(super) struct Fold {
    pub range: Node,
    pub variable: Arc<str>,
    pub second: Option<Arc<str>>,
    pub accumulator: Arc<str>,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
    /// It loops over nothing: a name for a value.
    pub bind: bool,
}

/// A call, or the form of its own that it is.
pub(super) fn call(
    name: &'static str,
    overloads: Vec<&'static Overload>,
    member: bool,
    mut arguments: Vec<Node>,
) -> Kind {
    match (name, arguments.len()) {
        (operators::CONDITIONAL, 3) => match <[Node; 3]>::try_from(arguments) {
            Ok(parts) => return Kind::Conditional(Box::new(parts)),
            Err(rest) => arguments = rest,
        },
        ("or" | "orValue", 2) if member => {
            if let (Some(second), Some(first)) = (arguments.pop(), arguments.pop()) {
                return Kind::OrElse { pair: Box::new((first, second)), unwrap: name == "orValue" };
            }
        }
        _ => {}
    }
    Kind::Call { name, overloads, member, arguments }
}

/// A list; of constants alone it is one.
pub(super) fn list(elements: Vec<(Node, bool)>) -> Kind {
    let constants: Option<Vec<Value<'static>>> = elements
        .iter()
        .map(|(node, optional)| match &node.kind {
            Kind::Constant(value) if !optional => Some(value.clone()),
            _ => None,
        })
        .collect();
    match constants {
        // An empty list is what comprehensions begin with: it stays one that can be told from others.
        Some(values) if !values.is_empty() => Kind::Constant(values.into()),
        _ => Kind::List(elements),
    }
}
