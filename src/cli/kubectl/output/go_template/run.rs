//! A template and an object: what is printed.

use super::{Command, Kind, Node, Operand, Pipeline, Result, Template, format, functions, position};
use crate::api::field::go_quote;
use serde_json::Value;

/// How deep templates may call each other.
const DEPTH: usize = 200;

impl Template {
    /// Err: what was printed up to there, and why it ended. `strict`: what is absent is an error.
    pub fn print(&self, object: &Value, strict: bool) -> std::result::Result<String, (String, String)> {
        let mut run = Run {
            template: self,
            name: "output",
            out: String::new(),
            variables: vec![(String::new(), Some(object.clone()))],
            strict,
            depth: 0,
        };
        match run.nodes(&self.nodes, &Some(object.clone())) {
            Ok(_) => Ok(run.out),
            Err(error) => Err((run.out, error)),
        }
    }
}

/// What goes on behind a node.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'t> {
    template: &'t Template,
    name: &'t str,
    out: String,
    variables: Vec<(String, Option<Value>)>,
    strict: bool,
    depth: usize,
}

/// What `if` asks.
fn holds(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    }
}

impl<'t> Run<'t> {
    fn error(&self, at: usize, text: &str, what: &str) -> String {
        let (line, column) = position(&self.template.text, at);
        format!("template: output:{line}:{column}: executing {} at <{text}>: {what}", go_quote(self.name))
    }

    fn nodes(&mut self, nodes: &'t [Node], dot: &Option<Value>) -> Result<Flow> {
        for node in nodes {
            let known = self.variables.len();
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::On
                }
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&format::shown(value.as_ref()));
                    }
                    continue;
                }
                Node::If(asked, then, otherwise) => {
                    let value = self.pipeline(asked, dot)?;
                    self.nodes(if holds(value.as_ref()) { then } else { otherwise }, dot)?
                }
                Node::With(asked, then, otherwise) => {
                    let value = self.pipeline(asked, dot)?;
                    if holds(value.as_ref()) { self.nodes(then, &value)? } else { self.nodes(otherwise, dot)? }
                }
                Node::Range(over, body, otherwise) => self.range(over, body, otherwise, dot)?,
                Node::Template(name, with) => {
                    let value = with.as_ref().map(|with| self.pipeline(with, dot)).transpose()?.flatten();
                    self.call(name, value)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            self.variables.truncate(known);
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &'t Pipeline,
        body: &'t [Node],
        otherwise: &'t [Node],
        dot: &Option<Value>,
    ) -> Result<Flow> {
        let items: Vec<(Value, Value)> = match self.commands(over, dot)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => (0..).map(Value::from).zip(list).collect(),
            Some(Value::Object(map)) => map.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            Some(Value::Number(number)) if number.is_i64() => {
                (0..number.as_i64().unwrap_or_default()).map(|n| (n.into(), n.into())).collect()
            }
            Some(other) => {
                let first = &over.commands[0].0[0];
                let what = format!("range can't iterate over {}", format::plain(&other));
                return Err(self.error(first.place, &first.text, &what));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let known = self.variables.len();
        for (key, value) in items {
            let values = match over.variables.len() {
                2 => vec![Some(key), Some(value.clone())],
                _ => vec![Some(value.clone())],
            };
            self.bind(over, values);
            let flow = self.nodes(body, &Some(value))?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn call(&mut self, name: &'t str, value: Option<Value>) -> Result<()> {
        let template = self.template;
        let Some(nodes) = template.defined.get(name) else {
            return Err(format!(
                "template: output: executing {} at <{{{{template {}}}}}>: template {} not defined",
                go_quote(self.name),
                go_quote(name),
                go_quote(name)
            ));
        };
        if self.depth == DEPTH {
            return Err(format!("exceeded maximum template depth ({DEPTH})"));
        }
        self.depth += 1;
        let variables = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        let outer = std::mem::replace(&mut self.name, name);
        self.nodes(nodes, &value)?;
        (self.variables, self.name) = (variables, outer);
        self.depth -= 1;
        Ok(())
    }

    /// Gives a pipeline's variables their values.
    fn bind(&mut self, pipeline: &Pipeline, values: Vec<Option<Value>>) {
        for (name, value) in pipeline.variables.iter().zip(values) {
            let known = self.variables.iter_mut().rfind(|(known, _)| pipeline.assigns && known == name);
            match known {
                Some((_, known)) => *known = value,
                None => self.variables.push((name.clone(), value)),
            }
        }
    }

    fn pipeline(&mut self, pipeline: &'t Pipeline, dot: &Option<Value>) -> Result<Option<Value>> {
        let value = self.commands(pipeline, dot)?;
        self.bind(pipeline, vec![value.clone()]);
        Ok(value)
    }

    fn commands(&mut self, pipeline: &'t Pipeline, dot: &Option<Value>) -> Result<Option<Value>> {
        let mut last: Option<Option<Value>> = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.flatten())
    }

    /// `last`: what the command before it gave.
    fn command(
        &mut self,
        Command(operands): &'t Command,
        dot: &Option<Value>,
        last: Option<Option<Value>>,
    ) -> Result<Option<Value>> {
        let (first, arguments) = operands.split_first().expect("a command has a word");
        let Kind::Function(name) = &first.kind else {
            if !arguments.is_empty() || last.is_some() {
                let what = format!("can't give argument to non-function {}", first.text);
                return Err(self.error(first.place, &first.text, &what));
            }
            if matches!(first.kind, Kind::Nil) {
                return Err(self.error(first.place, &first.text, "nil is not a command"));
            }
            return self.operand(first, dot);
        };
        let mut values = Vec::new();
        // The first that decides is the last that is looked at.
        let decides = |value: &Value| match name.as_str() {
            "and" => !holds(Some(value)),
            "or" => holds(Some(value)),
            _ => false,
        };
        for argument in arguments {
            let value = self.operand(argument, dot)?.unwrap_or(Value::Null);
            if decides(&value) {
                return Ok(Some(value));
            }
            values.push(value);
        }
        values.extend(last.map(|last| last.unwrap_or(Value::Null)));
        functions::call(name, &values).map_err(|what| {
            let end = operands.last().map_or(first.place, |last| last.place + last.text.len());
            let text = self.template.text.get(first.place..end).unwrap_or(&first.text);
            self.error(first.place, text, &what)
        })
    }

    fn operand(&mut self, operand: &'t Operand, dot: &Option<Value>) -> Result<Option<Value>> {
        let mut value = match &operand.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil => Some(Value::Null),
            Kind::Constant(value) => Some(value.clone()),
            Kind::Variable(name) => {
                self.variables.iter().rfind(|(known, _)| known == name).and_then(|(_, value)| value.clone())
            }
            Kind::Function(name) => {
                functions::call(name, &[]).map_err(|what| self.error(operand.place, &operand.text, &what))?
            }
            Kind::Group(pipeline) => {
                let known = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                self.variables.truncate(known);
                value
            }
        };
        for name in &operand.fields {
            let refused = |what: String| Err(self.error(operand.place, &operand.text, &what));
            value = match value {
                None if self.strict => return refused(format!("nil data; no entry for key {}", go_quote(name))),
                None => None,
                Some(Value::Object(mut map)) => match map.remove(name) {
                    None if self.strict => return refused(format!("map has no entry for key {}", go_quote(name))),
                    found => found,
                },
                Some(Value::Null) => return refused(format!("nil pointer evaluating interface {{}}.{name}")),
                Some(_) => return refused(format!("can't evaluate field {name} in type interface {{}}")),
            };
        }
        Ok(value)
    }
}
