//! The Common Expression Language as Kubernetes has it.
//!
//! [`compile`] parses and checks an expression against an [`Environment`]; [`Program::evaluate`] runs
//! it on [`Bindings`]. The grammar is the `cel` crate's; types, library, cost and evaluation are
//! here, because rules of CRDs and policies are accepted and refused by them. An expression is bounded
//! in length and depth before it is parsed, and in cost when it runs.

mod authorizer;
mod check;
mod constants;
mod cost;
mod declaration;
mod escape;
mod estimate;
mod evaluate;
mod infer;
mod library;
mod literals;
mod macros;
mod overloads;
mod parse;
mod tree;
mod value;

pub use crate::api::regular::regular_expression;
pub use authorizer::{Authorization, Authorizer, Decision, Question};
pub use declaration::{Declared, Field, ListDeclaration, MapDeclaration, ObjectType, Semantics, Type};
pub use escape::{escape, is_reserved, unescape};
pub use estimate::Estimate;
pub use value::{Key, List, Map, Text, Value};

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// What one run of an expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all expressions of one policy, or of the rules of one object, may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// What the match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// The estimate that a rule of a CRD may have, and all of them together.
pub const ESTIMATE_LIMIT: u64 = 10_000_000;
pub const ESTIMATE_LIMIT_TOTAL: u64 = 100_000_000;

/// The names that an expression may use, beside the library's.
#[derive(Clone, Default)]
pub struct Environment {
    variables: Vec<(Arc<str>, Declared)>,
    objects: Option<Arc<dyn ObjectTypes>>,
}

/// Types of objects that an expression may make: `Object.spec{…}`.
pub trait ObjectTypes: Send + Sync {
    fn find(&self, name: &str) -> Option<Arc<dyn ObjectType>>;
}

impl Environment {
    pub fn new() -> Self {
        Self::default()
    }

    /// With a variable more.
    #[must_use]
    pub fn variable(mut self, name: &str, declared: Declared) -> Self {
        self.variables.retain(|(known, _)| **known != *name);
        self.variables.push((name.into(), declared));
        self
    }

    /// With the `authorizer` that admission expressions have; `authorizer.requestResource` is a name
    /// of its own.
    #[must_use]
    pub fn authorizer(self) -> Self {
        let declared = |name| Declared::Typed(Type::Opaque(declaration::opaque(name)));
        self.variable("authorizer", declared("Authorizer"))
            .variable("authorizer.requestResource", declared("ResourceCheck"))
    }

    /// Without it again.
    #[must_use]
    pub fn without_authorizer(mut self) -> Self {
        self.variables.retain(|(known, _)| !known.starts_with("authorizer"));
        self
    }

    #[must_use]
    pub fn objects(mut self, types: Arc<dyn ObjectTypes>) -> Self {
        self.objects = Some(types);
        self
    }

    fn object_type(&self, name: &str) -> Option<Arc<dyn ObjectType>> {
        self.objects.as_ref()?.find(name)
    }

    fn declared(&self, name: &str) -> Option<&Declared> {
        self.variables.iter().find(|(known, _)| **known == *name).map(|(_, declared)| declared)
    }
}

/// An expression that can run, again and again.
#[derive(Debug)]
pub struct Program {
    root: tree::Node,
    types: HashMap<u64, Type>,
    depth: usize,
}

/// Compile an expression. Err: what is wrong with it, each error with its place in the text.
pub fn compile(expression: &str, environment: &Environment) -> Result<Program, String> {
    let parsed = parse::parse(expression)?;
    let depth = parsed.depth;
    let checked = parse::on_stack(depth, || check::check(&parsed.root, &parsed.source, environment))?;
    Ok(Program { root: checked.root, types: checked.types, depth })
}

/// What came of a run.
#[derive(Debug)]
pub struct Evaluation<'a> {
    pub value: Result<Value<'a>, Failure>,
    pub cost: u64,
}

impl Program {
    /// The type of what it gives.
    pub fn result(&self) -> Type {
        self.types.get(&self.root.id).cloned().unwrap_or(Type::Dyn)
    }

    /// What it is ready to run with: what is constant in it is computed. Err: that fails.
    pub fn prepare(&self) -> Result<(), String> {
        parse::on_stack(self.depth, || constants::check(&self.root))
    }

    /// The fields of a variable that it names.
    pub fn fields_of(&self, variable: &str) -> Vec<&str> {
        let mut found = Vec::new();
        parse::on_stack(self.depth, || self.root.fields_of(variable, &mut found));
        found
    }

    /// Whether it can give such a value, by its type.
    pub fn gives(&self, wanted: &Type) -> bool {
        let result = self.result();
        result.is_dyn_or_error() || result.is_exactly(wanted)
    }

    /// Run it; it is ended when it costs more than one run may.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>) -> Evaluation<'a> {
        parse::on_stack(self.depth / 16, || {
            let mut run = evaluate::Run::new(bindings, PER_CALL_LIMIT);
            let value = run.evaluate(&self.root);
            Evaluation { value, cost: run.cost() }
        })
    }

    /// What it may cost, by the bounds that the declarations give.
    pub fn estimate(&self, environment: &Environment) -> Estimate {
        parse::on_stack(self.depth, || estimate::estimate(&self.root, &self.types, environment))
    }
}

/// Values of variables.
#[derive(Clone, Default)]
pub struct Bindings<'a> {
    values: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    /// A JSON value, as the environment declares it.
    #[must_use]
    pub fn json(self, name: &'a str, value: &'a serde_json::Value, environment: &Environment) -> Self {
        let value = Value::from_json(value, environment.declared(name).unwrap_or(&Declared::Dyn));
        self.with(name, value)
    }

    /// Who answers `authorizer`; and what is asked of `authorizer.requestResource`.
    #[must_use]
    pub fn authorizer(self, authorizer: &'a dyn Authorizer, resource: Question) -> Self {
        let value = |authorization| Value::Authorization(Arc::new(authorization));
        self.with("authorizer", value(Authorization::Authorizer(authorizer, Question::default())))
            .with("authorizer.requestResource", value(Authorization::Resource(authorizer, resource)))
    }

    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((Cow::Borrowed(name), value));
    }

    fn get(&self, name: &str) -> Option<Result<Value<'a>, Failure>> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| Ok(value.clone()))
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Of the expression on these values.
    Error,
    /// It costs too much.
    Cost,
    /// The authorizer must be asked first.
    Pending,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Error, message: message.into() }
    }

    /// Nothing in the expression can make up for it.
    fn is_final(&self) -> bool {
        self.kind != FailureKind::Error
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests;
