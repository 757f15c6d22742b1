//! One policy on one write with one parameter.

use super::super::expressions::{self, Compiled, Deciding, Subject};
use super::definition::{Mutation, Policy};
use crate::cel::{Bindings, Failure, FailureKind, Key, Map, Question, RUNTIME_BUDGET, Value as Cel};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    pub message: String,
    /// Empty: Invalid.
    pub reason: String,
}

impl Denial {
    fn error(message: String) -> Self {
        Self { message, reason: String::new() }
    }
}

impl Run<'_> {
    /// None: the conditions say that it is not about this write.
    pub async fn conditions(&self) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        self.policy.conditions.hold(self.subject, self.parameters, self.deciding, self.question).await
    }

    /// What does not hold; errors are denials unless the policy fails open.
    pub async fn validate(&self) -> Vec<Denial> {
        self.deciding.run(|| self.validate_once()).await
    }

    /// The audit annotations, those that are set.
    pub async fn annotations(&self) -> Result<Vec<(String, String)>, String> {
        if self.policy.annotations.is_empty() {
            return Ok(Vec::new());
        }
        self.deciding.run(|| self.annotations_once()).await
    }

    fn bindings<'b>(&'b self, budget: &mut u64) -> Bindings<'b> {
        let environment = &self.policy.environment;
        let mut bindings = self.subject.bindings(environment).authorizer(self.deciding, self.question.clone());
        if let Some(parameters) = self.parameters {
            bindings = bindings.json("params", parameters, environment);
        } else {
            bindings.set("params", Cel::Null);
        }
        let mut known: BTreeMap<Key, Cel<'b>> = BTreeMap::new();
        for (name, compiled) in &self.policy.variables {
            bindings.set("variables", Cel::Map(Map::Made(Arc::new(known.clone()))));
            let value = match expressions::run(compiled, &bindings, budget) {
                Ok(value) => value,
                Err(message) => {
                    let message = format!("composited variable \"{name}\" fails to evaluate: {message}");
                    Cel::Failed(Arc::new(Failure { kind: FailureKind::Error, message }))
                }
            };
            known.insert(Key::String(name.as_str().into()), value);
        }
        bindings.set("variables", Cel::Map(Map::Made(Arc::new(known))));
        bindings
    }

    fn validate_once(&self) -> Vec<Denial> {
        let mut budget = RUNTIME_BUDGET;
        let bindings = self.bindings(&mut budget);
        let mut denials = Vec::new();
        for validation in &self.policy.validations {
            match expressions::run(&validation.condition, &bindings, &mut budget) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let computed = validation
                        .message_expression
                        .as_ref()
                        .and_then(|expression| message(expression, &bindings, &mut budget));
                    let fixed = (!validation.message.is_empty()).then(|| validation.message.clone());
                    let message = computed
                        .or(fixed)
                        .unwrap_or_else(|| format!("failed expression: {}", validation.condition.expression));
                    denials.push(Denial { message, reason: validation.reason.clone() });
                }
                Err(error) if !self.policy.fail_open => denials.push(Denial::error(error)),
                Err(error) => tracing::debug!(policy = self.policy.name, error, "validation failed open"),
            }
            if budget == 0 {
                break;
            }
        }
        denials
    }

    fn annotations_once(&self) -> Result<Vec<(String, String)>, String> {
        let mut budget = RUNTIME_BUDGET;
        let bindings = self.bindings(&mut budget);
        let mut set = Vec::new();
        for (key, compiled) in &self.policy.annotations {
            match expressions::run(compiled, &bindings, &mut budget) {
                Ok(Cel::String(text)) if !text.as_str().trim().is_empty() => {
                    set.push((key.clone(), text.as_str().trim().to_owned()));
                }
                Ok(_) => {}
                Err(_) if self.policy.fail_open => {}
                Err(error) => return Err(error),
            }
        }
        Ok(set)
    }

    /// What a mutation's expression gives, as JSON.
    pub async fn mutation(&self, mutation: &Mutation) -> Result<Value, String> {
        self.deciding
            .run(|| {
                let mut budget = RUNTIME_BUDGET;
                let bindings = self.bindings(&mut budget);
                let value = expressions::run(&mutation.expression, &bindings, &mut budget)?;
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

/// One line of text, not too long.
fn message(expression: &Compiled, bindings: &Bindings, budget: &mut u64) -> Option<String> {
    let value = expressions::run(expression, bindings, budget).ok()?;
    let text = value.as_str()?.trim().to_owned();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then_some(text)
}
