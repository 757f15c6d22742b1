//! Go's text templates, as `-o go-template` takes them: [`Template::parse`] once, [`Template::print`] per
//! object.
//!
//! Source: the documentation of Go's `text/template`. What is absent is `<no value>`; errors name the place
//! as Go does.

mod format;
mod functions;
mod lexer;
mod parser;
mod run;

use serde_json::Value;
use std::collections::BTreeMap;

/// A template and those that it defines.
#[derive(Clone, Debug)]
pub struct Template {
    pub text: String,
    nodes: Vec<Node>,
    defined: BTreeMap<String, Vec<Node>>,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    /// What is asked, what is done where it holds, and where not.
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

/// `$a, $b := command | command`
#[derive(Clone, Debug)]
struct Pipeline {
    variables: Vec<String>,
    /// They exist already.
    assigns: bool,
    commands: Vec<Command>,
}

/// A function and its arguments, or one operand.
#[derive(Clone, Debug)]
struct Command(Vec<Operand>);

#[derive(Clone, Debug)]
struct Operand {
    /// Where it stands in the template, and what stands there.
    place: usize,
    text: String,
    kind: Kind,
    /// `.a.b` behind it.
    fields: Vec<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Dot,
    Nil,
    Constant(Value),
    Variable(String),
    Function(String),
    Group(Box<Pipeline>),
}

/// None: no value.
type Result<T> = std::result::Result<T, String>;

/// Where an error of parsing or running is: `1:11`, lines from one, bytes from zero.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.len() - before.rfind('\n').map_or(0, |found| found + 1))
}

#[cfg(test)]
mod tests;
