//! `x-kubernetes-validations`: rules in CEL that a definition gives to its objects.
//!
//! [`Rules`] compiles those of a schema when the first object is looked at, and runs them on what is
//! new, beside what was: transition rules where there is an old value, none of what an update left
//! alone. [`check`] is the other side: whether a definition's rules may stand.

pub mod check;
mod compile;
mod declared;

use crate::api::{ErrorList, FieldError, Path};
use crate::cel::{Bindings, Failure, FailureKind, RUNTIME_BUDGET, Value as Cel};
use crate::schema::custom::validate::correlated;
use crate::schema::custom::{Additional, ListKind, Structural, Type};
use compile::{Compiled, Set};
pub use declared::{at_path, declared};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The longest text that a messageExpression may make.
const MESSAGE_LIMIT: usize = 5 * 1024;

/// The rules of one version.
pub struct Rules {
    schema: Arc<Structural>,
    made: OnceLock<Option<Node>>,
}

/// The rules of a node, and those below it.
struct Node {
    set: Set,
    /// `object`, as errors show the value of one.
    kind: &'static str,
    all_of: Vec<Node>,
    items: Option<Box<Node>>,
    /// What tells the items of a list apart.
    list: Option<ListKind>,
    additional: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
}

/// What was there before, for an update.
#[derive(Clone, Copy, Default)]
struct Before<'v> {
    value: Option<&'v Value>,
    /// This part, or the nearest above it that has an old value, is as it was.
    same: bool,
}

impl Rules {
    pub fn new(schema: Arc<Structural>) -> Self {
        Self { schema, made: OnceLock::new() }
    }

    /// None: there are none.
    fn node(&self) -> Option<&Node> {
        self.made.get_or_init(|| Node::new(&self.schema, &self.schema, true)).as_ref()
    }

    /// Whether there are any.
    pub fn exist(&self) -> bool {
        self.schema.any(&|node| !node.rules.is_empty())
    }

    /// Every rule that does not hold.
    pub fn validate(&self, object: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
        if !self.exist() {
            return;
        }
        let Some(node) = self.node() else { return };
        let mut run = Run { budget: Some(RUNTIME_BUDGET), errors };
        let before = Before { value: old, same: old.is_some_and(|old| old == object) };
        run.node(node, object, before, path);
    }
}

impl Node {
    /// `rules` says what holds, `schema` what the value is: they differ below `allOf`.
    fn new(rules: &Structural, schema: &Structural, resource: bool) -> Option<Self> {
        let below = |rules: &Structural, schema: &Structural| Self::new(rules, schema, schema.embedded);
        let set = Set::new(&rules.rules, schema, resource);
        let items = match (&rules.items, &schema.items) {
            (Some(rules), Some(schema)) => below(rules, schema).map(Box::new),
            _ => None,
        };
        let additional = match (&rules.additional, &schema.additional) {
            (Some(Additional::Schema(rules)), Some(Additional::Schema(schema))) => below(rules, schema).map(Box::new),
            _ => None,
        };
        let properties: BTreeMap<String, Self> = rules
            .properties
            .iter()
            .filter_map(|(name, rules)| Some((name.to_owned(), below(rules, schema.properties.get(name)?)?)))
            .collect();
        let all_of: Vec<Self> =
            rules.checks().all_of.iter().filter_map(|rules| Self::new(rules, schema, resource)).collect();
        let empty = set.rules.is_empty() && items.is_none() && additional.is_none();
        if empty && properties.is_empty() && all_of.is_empty() {
            return None;
        }
        let kind = schema.kind.map_or("", Type::name);
        Some(Self { set, kind, all_of, items, list: schema.list.clone(), additional, properties })
    }
}

struct Run<'e> {
    /// None: it is used up, and nothing more is looked at.
    budget: Option<u64>,
    errors: &'e mut ErrorList,
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Run<'_> {
    fn node(&mut self, node: &Node, value: &Value, before: Before<'_>, path: &Path<'_>) {
        if value.is_null() || self.budget.is_none() {
            return;
        }
        self.rules(node, value, before, path);
        for part in &node.all_of {
            self.node(part, value, Before { same: false, ..before }, path);
        }
        match value {
            Value::Array(items) => {
                let Some(below) = &node.items else { return };
                for (index, item) in items.iter().enumerate() {
                    let old = match &node.list {
                        Some(ListKind::Map(_)) => correlated_item(item, node.list.as_ref(), before.value),
                        _ => None,
                    };
                    self.node(below, item, before.below(item, old), &path.index(index));
                }
            }
            Value::Object(map) => {
                let was = |name: &str| before.value.and_then(|old| old.get(name));
                for (name, value) in map {
                    if let Some(below) = &node.additional {
                        self.node(below, value, before.below(value, was(name)), &path.key(name));
                    }
                    if let Some(below) = node.properties.get(name) {
                        self.node(below, value, before.below(value, was(name)), &path.child(name));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, value: &Value, before: Before<'_>, path: &Path<'_>) {
        if node.set.rules.is_empty() {
            return;
        }
        let old = before.value.filter(|old| !old.is_null());
        let invalid = |detail: String| FieldError::invalid(path, node.kind, detail);
        let declared = &node.set.declared;
        let this = Cel::from_json(value, declared);
        let that = old.map(|old| Cel::from_json(old, declared));
        for rule in &node.set.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(error) => {
                    self.errors.push(invalid(format!("rule compile error: {error}")));
                    continue;
                }
            };
            if rule.uses_old && that.is_none() && !rule.optional_old {
                continue;
            }
            let mut bindings = Bindings::new().with("self", this.clone());
            match (&that, rule.optional_old) {
                (that, true) => bindings.set("oldSelf", Cel::Optional(that.clone().map(Arc::new))),
                (Some(that), false) => bindings.set("oldSelf", that.clone()),
                (None, false) => {}
            }
            let evaluation = program.evaluate(&bindings);
            if !self.spend(evaluation.cost) {
                self.errors.push(invalid(OUT_OF_BUDGET.to_owned()));
                return;
            }
            match evaluation.value {
                Ok(Cel::Bool(true)) => continue,
                Ok(_) => {}
                Err(failure) => {
                    self.errors.push(invalid(told(&failure, rule)));
                    if failure.kind == FailureKind::Cost {
                        self.budget = None;
                        return;
                    }
                    continue;
                }
            }
            let field_path = rule.field_path.as_deref().unwrap_or_default();
            let below = path.child(field_path);
            let at = if field_path.is_empty() { path } else { &below };
            let message = match self.message(rule, &bindings) {
                Ok(message) => message.unwrap_or_else(|| rule.told()),
                Err(error) => {
                    self.errors.push(FieldError::invalid(at, node.kind, error));
                    self.budget = None;
                    return;
                }
            };
            // What was wrong before, and was left alone, may stay so.
            if !rule.uses_old && before.same {
                continue;
            }
            self.errors.push(rule.error(at, value, message));
        }
    }

    /// The text of a messageExpression; `Ok(None)`: the rule's own must do.
    fn message(&mut self, rule: &Compiled, bindings: &Bindings<'_>) -> Result<Option<String>, String> {
        let Some(Ok(program)) = &rule.message_program else { return Ok(None) };
        let evaluation = program.evaluate(bindings);
        if !self.spend(evaluation.cost) {
            let error = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            return Err(error.to_owned());
        }
        let text = match evaluation.value {
            Ok(value) => value.as_str().unwrap_or_default().trim().to_owned(),
            Err(failure) if failure.kind == FailureKind::Cost => {
                let text = crate::api::field::go_quote(&rule.message_expression);
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {text}"
                ));
            }
            Err(_) => return Ok(None),
        };
        let good = !text.is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n');
        Ok(good.then_some(text))
    }

    fn spend(&mut self, cost: u64) -> bool {
        self.budget = self.budget.and_then(|budget| budget.checked_sub(cost));
        self.budget.is_some()
    }
}

impl<'v> Before<'v> {
    /// Of a part of the value.
    fn below(self, value: &Value, old: Option<&'v Value>) -> Self {
        let same = match old {
            Some(old) => old == value,
            None => self.same,
        };
        Self { value: old, same }
    }
}

fn correlated_item<'v>(item: &Value, list: Option<&ListKind>, old: Option<&'v Value>) -> Option<&'v Value> {
    let schema = Structural::of_list(list.cloned());
    correlated(item, &schema, old)
}

/// Why a rule could not be decided.
fn told(failure: &Failure, rule: &Compiled) -> String {
    let (what, name) = (&failure.message, rule.name());
    if failure.kind == FailureKind::Cost {
        return format!(
            "'{what}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
        );
    }
    if what.starts_with("no such overload") {
        return format!(
            "'{what}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
        );
    }
    format!("{what} evaluating rule: {name}")
}

impl Compiled {
    /// The rule as errors name it.
    fn name(&self) -> &str {
        if self.message.is_empty() { self.text.trim() } else { self.message.trim() }
    }

    fn told(&self) -> String {
        match self.message.as_str() {
            "" => format!("failed rule: {}", self.name()),
            message => message.trim().to_owned(),
        }
    }

    fn error(&self, path: &Path<'_>, value: &Value, message: String) -> FieldError {
        let whole = value.is_object() || value.is_array();
        let shown = whole.then(String::new);
        match self.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(path, message),
            "FieldValueRequired" => FieldError::required(path, message),
            "FieldValueDuplicate" => FieldError { shown, ..FieldError::duplicate(path, value.clone()) },
            _ => FieldError { shown, ..FieldError::invalid(path, value.clone(), message) },
        }
    }
}
