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

impl Node {
    /// The fields of a variable that are named here.
    pub fn fields_of<'n>(&'n self, variable: &str, found: &mut Vec<&'n str>) {
        if let Kind::Select { operand, field } | Kind::OptionalSelect { operand, field } | Kind::Test { operand, field } =
            &self.kind
            && matches!(&operand.kind, Kind::Variable(name) if **name == *variable)
        {
            found.push(field);
        }
        self.kind.below().into_iter().for_each(|node| node.fields_of(variable, found));
    }
}

impl Kind {
    /// What it is made of.
    pub fn below(&self) -> Vec<&Node> {
        let mut below: Vec<&Node> = Vec::new();
        match self {
            Kind::Constant(_) | Kind::Variable(_) | Kind::Local(_) => {}
            Kind::Select { operand, .. } | Kind::OptionalSelect { operand, .. } | Kind::Test { operand, .. } => {
                below.push(operand);
            }
            Kind::And(pair) | Kind::Or(pair) | Kind::OrElse { pair, .. } => below.extend([&pair.0, &pair.1]),
            Kind::Conditional(parts) => below.extend(parts.iter()),
            Kind::Call { arguments, .. } => below.extend(arguments),
            Kind::List(elements) => below.extend(elements.iter().map(|(element, _)| element)),
            Kind::Map(entries) => below.extend(entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
            Kind::Object { fields, .. } => below.extend(fields.iter().map(|(_, value, _)| value)),
            Kind::Fold(fold) => below.extend([&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]),
        }
        below
    }
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
