//! One policy on one write with one parameter.

use super::super::expressions::{self, Compiled, Deciding, Subject};
use super::definition::{Mutation, Policy};
use crate::cel::{Bindings, Failure, FailureKind, Key, Map, Question, RUNTIME_BUDGET, Value as Cel};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The longest message that an expression may give.
const MAX_MESSAGE: usize = 5 * 1024;

/// What a run looks at.
pub(super) struct Run<'a> {
    pub policy: &'a Policy,
    pub subject: &'a Subject,
    pub parameters: Option<&'a Value>,
    pub deciding: &'a Deciding<'a>,
    pub question: &'a Question,
}

/// What a validation that does not hold says.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    /// Of the validation.
    pub index: usize,
    pub message: String,
    /// Empty: Invalid.
    pub reason: String,
    /// An error that does not matter: it is only counted.
    pub admits: bool,
    pub started: Instant,
}

impl Denial {
    pub fn error(message: String, admits: bool) -> Self {
        Self { index: 0, message, reason: String::new(), admits, started: Instant::now() }
    }
}

/// The audit annotations that are set, and the errors that refuse the write.
#[derive(Default)]
pub(super) struct Annotations {
    pub set: Vec<(String, String)>,
    pub failed: Vec<Denial>,
}

impl Run<'_> {
    /// None: the conditions say that it is not about this write.
    pub async fn conditions(&self) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        self.policy.conditions.hold(self.subject, self.parameters, self.deciding, self.question).await
    }

    /// What does not hold, errors among it.
    pub async fn validate(&self) -> Vec<Denial> {
        self.deciding.run(|| self.validate_once()).await
    }

    pub async fn annotations(&self) -> Annotations {
        if self.policy.annotations.is_empty() {
            return Annotations::default();
        }
        self.deciding.run(|| self.annotations_once()).await
    }

    fn scope(&self) -> Scope<'_> {
        let environment = &self.policy.environment;
        let mut bindings = self.subject.bindings(environment).authorizer(self.deciding, self.question.clone());
        if let Some(parameters) = self.parameters {
            bindings = bindings.json("params", parameters, environment);
        } else {
            bindings.set("params", Cel::Null);
        }
        Scope { variables: &self.policy.variables, bindings, known: BTreeMap::new(), budget: RUNTIME_BUDGET }
    }

    fn validate_once(&self) -> Vec<Denial> {
        let mut scope = self.scope();
        let mut denials = Vec::new();
        for (index, validation) in self.policy.validations.iter().enumerate() {
            let started = Instant::now();
            let denial = |message, reason, admits| Denial { index, message, reason, admits, started };
            match scope.run(&validation.condition) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let computed = validation.message_expression.as_ref().and_then(|message| scope.message(message));
                    let fixed = (!validation.message.is_empty()).then(|| validation.message.clone());
                    let message = computed
                        .or(fixed)
                        .unwrap_or_else(|| format!("failed expression: {}", validation.condition.expression));
                    denials.push(denial(message, validation.reason.clone(), false));
                }
                Err(error) => denials.push(denial(error, String::new(), self.policy.fail_open)),
            }
            if scope.budget == 0 {
                break;
            }
        }
        denials
    }

    fn annotations_once(&self) -> Annotations {
        let mut scope = self.scope();
        let mut annotations = Annotations::default();
        for (key, compiled) in &self.policy.annotations {
            let started = Instant::now();
            match scope.run(compiled) {
                Ok(Cel::String(text)) if !text.as_str().trim().is_empty() => {
                    annotations.set.push((key.clone(), text.as_str().trim().to_owned()));
                }
                Ok(_) => {}
                Err(_) if self.policy.fail_open => {}
                Err(message) => annotations.failed.push(Denial { started, ..Denial::error(message, false) }),
            }
        }
        annotations
    }

    /// What a mutation's expression gives, as JSON.
    pub async fn mutation(&self, mutation: &Mutation) -> Result<Value, String> {
        self.deciding
            .run(|| {
                let value = self.scope().run(&mutation.expression)?;
                if !mutation.is_patch {
                    let mut wrong = Vec::new();
                    check_names(&value, "Object", &mut wrong);
                    if !wrong.is_empty() {
                        return Err(format!("type mismatch: {}", wrong.join("\n")));
                    }
                }
                value.to_json().map_err(|failure| failure.message)
            })
            .await
    }
}

/// The names of one run, and what is left of its budget. A variable is evaluated once, and only when an
/// expression that names it runs.
struct Scope<'b> {
    variables: &'b [(String, Compiled)],
    bindings: Bindings<'b>,
    known: BTreeMap<Key, Cel<'b>>,
    budget: u64,
}

impl<'b> Scope<'b> {
    fn run(&mut self, compiled: &Compiled) -> Result<Cel<'b>, String> {
        if let Ok(program) = &compiled.program {
            for name in program.fields_of("variables") {
                self.know(name);
            }
            self.bindings.set("variables", Cel::Map(Map::Made(Arc::new(self.known.clone()))));
        }
        expressions::run(compiled, &self.bindings, &mut self.budget)
    }

    fn know(&mut self, name: &str) {
        let key = Key::String(name.into());
        if self.known.contains_key(&key) {
            return;
        }
        // The check has seen to it that variables name only those before them.
        let Some((_, compiled)) = self.variables.iter().find(|(known, _)| known == name) else { return };
        let value = self.run(compiled).unwrap_or_else(|message| {
            let message = format!("composited variable \"{name}\" fails to evaluate: {message}");
            Cel::Failed(Arc::new(Failure { kind: FailureKind::Error, message }))
        });
        self.known.insert(key, value);
    }

    /// One line of text, not too long.
    fn message(&mut self, expression: &Compiled) -> Option<String> {
        let value = self.run(expression).ok()?;
        let text = value.as_str()?.trim().to_owned();
        (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then_some(text)
    }
}

/// Types of objects are named after where they are: `Object.spec` at `spec`.
fn check_names(value: &Cel, path: &str, wrong: &mut Vec<String>) {
    match value {
        Cel::Map(Map::Object(name, fields)) => {
            if **name != *path {
                wrong.push(format!(
                    "unexpected type name \"{name}\", expected \"{path}\", which matches field name path from root Object type"
                ));
            }
            for (key, value) in fields.iter() {
                if let Key::String(key) = key {
                    check_names(value, &format!("{path}.{key}"), wrong);
                }
            }
        }
        Cel::Map(Map::Made(entries)) => entries.values().for_each(|value| check_names(value, path, wrong)),
        Cel::List(list) => list.iter().for_each(|value| check_names(&value, path, wrong)),
        _ => {}
    }
}
