//! Running a checked expression, and counting what it costs.
//!
//! The count is Kubernetes's: one for each name and field, what [`super::cost`] says for each call.
//! Errors are values until somebody needs the value: `a && b` is false when either is.

use super::cost;
use super::declaration::Declared;
use super::library::no_such_overload;
use super::macros::MAP_INSERT;
use super::overloads::Overload;
use super::tree::{Entry, Fold, Kind, Node};
use super::value::{Key, List, Map, Value};
use super::{Bindings, Failure, FailureKind};
use cel::common::ast::operators;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a function of the library is called with.
pub(super) struct Call<'a, 'r> {
    pub name: &'static str,
    pub arguments: &'r mut [Value<'a>],
}

type Arguments<'a> = SmallVec<[Value<'a>; 3]>;
type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) struct Run<'a, 'r> {
    bindings: &'r Bindings<'a>,
    locals: Vec<(Arc<str>, Outcome<'a>)>,
    cost: u64,
    limit: u64,
}

impl<'a, 'r> Run<'a, 'r> {
    pub fn new(bindings: &'r Bindings<'a>, limit: u64) -> Self {
        Self { bindings, locals: Vec::new(), cost: 0, limit }
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    fn charge(&mut self, cost: u64) -> Result<(), Failure> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            return Err(Failure {
                kind: FailureKind::Cost,
                message: "operation cancelled: actual cost limit exceeded".to_owned(),
            });
        }
        Ok(())
    }

    pub fn evaluate(&mut self, node: &Node) -> Outcome<'a> {
        match &node.kind {
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Variable(name) => {
                self.charge(1)?;
                self.bindings.get(name).unwrap_or_else(|| Err(Failure::new(format!("no such attribute(s): {name}"))))
            }
            Kind::Local(name) => {
                self.charge(1)?;
                let local = self.locals.iter().rev().find(|(local, _)| local == name);
                local.map_or_else(
                    || Err(Failure::new(format!("no such attribute(s): {name}"))),
                    |(_, value)| value.clone(),
                )
            }
            Kind::Select { operand, field } => {
                let operand = self.evaluate(operand)?;
                self.charge(1)?;
                select(&operand, field)
            }
            Kind::OptionalSelect { operand, field } => {
                let operand = self.evaluate(operand)?;
                self.charge(1)?;
                if matches!(operand, Value::Optional(None)) {
                    return Ok(operand);
                }
                Ok(Value::Optional(operand.select(field)?.map(Arc::new)))
            }
            Kind::Test { operand, field } => {
                let operand = self.evaluate(operand)?;
                Ok(Value::Bool(operand.select(field)?.is_some()))
            }
            Kind::And(pair) => self.logical(pair, false),
            Kind::Or(pair) => self.logical(pair, true),
            Kind::Conditional(parts) => match self.evaluate(&parts[0])? {
                Value::Bool(true) => self.evaluate(&parts[1]),
                Value::Bool(false) => self.evaluate(&parts[2]),
                _ => Err(no_such_overload()),
            },
            Kind::OrElse { pair, unwrap } => match self.evaluate(&pair.0)? {
                Value::Optional(Some(value)) if *unwrap => Ok((*value).clone()),
                Value::Optional(None) => self.evaluate(&pair.1),
                other @ Value::Optional(_) => Ok(other),
                other if *unwrap => Ok(other),
                _ => Err(no_such_overload()),
            },
            Kind::Call { name, overloads, member, arguments } => self.call(name, overloads, *member, arguments),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Object { name, fields } => self.object(name, fields),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    /// `&&` ends at false, `||` at true, on either side.
    fn logical(&mut self, pair: &(Node, Node), end: bool) -> Outcome<'a> {
        let left = match self.evaluate(&pair.0) {
            Ok(Value::Bool(bool)) if bool == end => return Ok(Value::Bool(end)),
            Ok(Value::Bool(_)) => None,
            Ok(_) => Some(no_such_overload()),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => Some(failure),
        };
        match (self.evaluate(&pair.1), left) {
            (Ok(Value::Bool(bool)), _) if bool == end => Ok(Value::Bool(end)),
            (Err(failure), _) if failure.is_final() => Err(failure),
            (_, Some(failure)) => Err(failure),
            (Ok(Value::Bool(bool)), None) => Ok(Value::Bool(bool)),
            (Ok(_), None) => Err(no_such_overload()),
            (Err(failure), None) => Err(failure),
        }
    }

    fn call(
        &mut self,
        name: &'static str,
        overloads: &[&'static Overload],
        member: bool,
        arguments: &[Node],
    ) -> Outcome<'a> {
        match name {
            operators::NOT_STRICTLY_FALSE => {
                let value = self.evaluate(&arguments[0]);
                self.charge(1)?;
                return match value {
                    Ok(Value::Bool(bool)) => Ok(Value::Bool(bool)),
                    Err(failure) if failure.is_final() => Err(failure),
                    _ => Ok(Value::Bool(true)),
                };
            }
            operators::INDEX | operators::OPT_INDEX => {
                let operand = self.evaluate(&arguments[0])?;
                let index = self.evaluate(&arguments[1])?;
                self.charge(1)?;
                return at(&operand, &index, name == operators::OPT_INDEX);
            }
            _ => {}
        }
        let mut values = Arguments::new();
        for argument in arguments {
            values.push(self.evaluate(argument)?);
        }
        let Some(overload) = overloads.iter().find(|overload| overload.takes(&values)) else {
            self.charge(1)?;
            return Err(mismatch(name, &values, member));
        };
        let before = cost::of_call(overload.cost, &values);
        self.charge(before)?;
        let result = (overload.function)(&mut Call { name, arguments: &mut values })?;
        self.charge(cost::of_result(overload.cost, &result))?;
        Ok(result)
    }

    fn list(&mut self, elements: &[(Node, bool)]) -> Outcome<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            let value = self.evaluate(element)?;
            match value {
                Value::Optional(value) if *optional => items.extend(value.map(Arc::unwrap_or_clone)),
                _ if *optional => {
                    return Err(Failure::new(format!(
                        "cannot initialize optional list element from non-optional value {}",
                        super::library::convert::display(&value)
                    )));
                }
                value => items.push(value),
            }
        }
        self.charge(cost::LIST)?;
        Ok(items.into())
    }

    fn map(&mut self, entries: &[Entry]) -> Outcome<'a> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.evaluate(&entry.key)?;
            let value = self.evaluate(&entry.value)?;
            let Some(key) = key.to_key() else {
                return Err(Failure::new(format!("unsupported key type: {}", key.type_name())));
            };
            match value {
                Value::Optional(value) if entry.optional => {
                    if let Some(value) = value {
                        map.insert(key, Arc::unwrap_or_clone(value));
                    }
                }
                value => {
                    map.insert(key, value);
                }
            }
        }
        self.charge(cost::MAP)?;
        Ok(Value::Map(Map::Made(Arc::new(map))))
    }

    fn object(&mut self, name: &Arc<str>, fields: &[(Arc<str>, Node, bool)]) -> Outcome<'a> {
        let mut map = BTreeMap::new();
        for (field, node, optional) in fields {
            let value = self.evaluate(node)?;
            match value {
                Value::Optional(value) if *optional => {
                    if let Some(value) = value {
                        map.insert(Key::String(field.clone()), Arc::unwrap_or_clone(value));
                    }
                }
                value => {
                    map.insert(Key::String(field.clone()), value);
                }
            }
        }
        self.charge(cost::OBJECT)?;
        Ok(Value::Map(Map::Object(name.clone(), Arc::new(map))))
    }

    fn fold(&mut self, fold: &Fold) -> Outcome<'a> {
        let depth = self.locals.len();
        let outcome = self.fold_scoped(fold, depth);
        self.locals.truncate(depth);
        outcome
    }

    fn fold_scoped(&mut self, fold: &Fold, depth: usize) -> Outcome<'a> {
        let range = self.evaluate(&fold.range)?;
        let init = self.evaluate(&fold.init)?;
        self.locals.push((fold.accumulator.clone(), Ok(init)));
        if !fold.bind {
            match &range {
                Value::List(list) => {
                    for (index, item) in list.iter().enumerate() {
                        let (first, second) = match fold.second {
                            Some(_) => (Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), Some(item)),
                            None => (item, None),
                        };
                        if !self.iterate(fold, depth, first, second)? {
                            break;
                        }
                    }
                }
                Value::Map(map) => {
                    for key in map.keys() {
                        let second = match fold.second {
                            Some(_) => key.to_key().and_then(|key| map.get(&key)),
                            None => None,
                        };
                        if !self.iterate(fold, depth, key, second)? {
                            break;
                        }
                    }
                }
                _ => return Err(no_such_overload()),
            }
        }
        self.evaluate(&fold.result)
    }

    /// One round. False: it was the last.
    fn iterate(
        &mut self,
        fold: &Fold,
        depth: usize,
        first: Value<'a>,
        second: Option<Value<'a>>,
    ) -> Result<bool, Failure> {
        self.locals.truncate(depth + 1);
        self.locals.push((fold.variable.clone(), Ok(first)));
        if let (Some(name), Some(value)) = (&fold.second, second) {
            self.locals.push((name.clone(), Ok(value)));
        }
        if matches!(self.evaluate(&fold.condition)?, Value::Bool(false)) {
            self.locals.truncate(depth + 1);
            return Ok(false);
        }
        let outcome = self.step(fold, &fold.step, depth);
        self.locals.truncate(depth + 1);
        match outcome {
            Ok(()) => {}
            // `all` and `exists` may yet find what settles them.
            Err(failure) if !failure.is_final() && matches!(fold.step.kind, Kind::And(_) | Kind::Or(_)) => {
                self.locals[depth].1 = Err(failure);
            }
            Err(failure) => return Err(failure),
        }
        Ok(true)
    }

    /// The accumulator's next value. What is added to a list or a map is added in place.
    fn step(&mut self, fold: &Fold, node: &Node, depth: usize) -> Result<(), Failure> {
        let is_accumulator = |node: &Node| matches!(&node.kind, Kind::Local(name) if *name == fold.accumulator);
        match &node.kind {
            Kind::Conditional(parts) if is_accumulator(&parts[2]) => match self.evaluate(&parts[0])? {
                Value::Bool(true) => self.step(fold, &parts[1], depth),
                Value::Bool(false) => self.charge(1),
                _ => Err(no_such_overload()),
            },
            Kind::Call { name, arguments, .. }
                if matches!(*name, operators::ADD | MAP_INSERT) && is_accumulator(&arguments[0]) =>
            {
                let mut values = Arguments::new();
                for argument in &arguments[1..] {
                    values.push(self.evaluate(argument)?);
                }
                self.charge(2)?;
                let accumulated = std::mem::replace(&mut self.locals[depth].1, Ok(Value::Null))?;
                self.locals[depth].1 = Ok(add_to(accumulated, &values)?);
                Ok(())
            }
            _ => {
                let value = self.evaluate(node)?;
                self.locals[depth].1 = Ok(value);
                Ok(())
            }
        }
    }
}

/// Items to a list, entries to a map, numbers to a number.
fn add_to<'a>(accumulated: Value<'a>, values: &[Value<'a>]) -> Outcome<'a> {
    match (accumulated, values) {
        (Value::List(List::Made(mut items)), [Value::List(more)]) => {
            Arc::make_mut(&mut items).extend(more.iter());
            Ok(Value::List(List::Made(items)))
        }
        (Value::Map(Map::Made(mut entries)), [Value::Map(more)]) => {
            for key in more.keys() {
                let Some((key, value)) = key.to_key().and_then(|key| more.get(&key).map(|value| (key, value))) else {
                    continue;
                };
                insert(Arc::make_mut(&mut entries), key, value)?;
            }
            Ok(Value::Map(Map::Made(entries)))
        }
        (Value::Map(Map::Made(mut entries)), [key, value]) => {
            let key = key.to_key().ok_or_else(no_such_overload)?;
            insert(Arc::make_mut(&mut entries), key, value.clone())?;
            Ok(Value::Map(Map::Made(entries)))
        }
        (Value::Int(number), [Value::Int(more)]) => {
            number.checked_add(*more).map(Value::Int).ok_or_else(|| Failure::new("integer overflow"))
        }
        _ => Err(no_such_overload()),
    }
}

fn insert<'a>(entries: &mut BTreeMap<Key, Value<'a>>, key: Key, value: Value<'a>) -> Result<(), Failure> {
    match entries.entry(key) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        std::collections::btree_map::Entry::Occupied(entry) => {
            let key = super::library::convert::display_key(entry.key());
            Err(Failure::new(format!("insert failed: key {key} already exists")))
        }
    }
}

fn select<'a>(operand: &Value<'a>, field: &str) -> Outcome<'a> {
    match operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => Ok(Value::Optional(value.select(field)?.map(Arc::new))),
        Value::Map(Map::Json(_, Declared::Object(_)) | Map::Object(..)) | Value::Map(_) | Value::Null => {
            operand.select(field)?.ok_or_else(|| Failure::new(format!("no such key: {field}")))
        }
        _ => Err(no_such_overload()),
    }
}

/// `operand[index]`; optional: a value that may be missing.
fn at<'a>(operand: &Value<'a>, index: &Value<'a>, optional: bool) -> Outcome<'a> {
    if let Value::Optional(inner) = operand {
        return match inner {
            None => Ok(Value::Optional(None)),
            Some(value) => at(value, index, true),
        };
    }
    let (found, missing) = match operand {
        Value::List(list) => {
            let index = match (index, index.to_key()) {
                (Value::Int(_) | Value::Uint(_) | Value::Double(_), Some(Key::Int(index))) => index,
                (Value::Uint(_) | Value::Double(_), _) => {
                    let shown = super::library::convert::display(index);
                    return Err(Failure::new(format!("unsupported index value {shown} in list")));
                }
                _ => return Err(Failure::new(format!("unsupported index type '{}' in list", index.type_name()))),
            };
            let found = usize::try_from(index).ok().and_then(|index| list.get(index));
            (found, format!("index out of bounds: {index}"))
        }
        Value::Map(map) => {
            let Some(key) = index.to_key() else {
                return Err(Failure::new(format!("unsupported key type: {}", index.type_name())));
            };
            let found = match map.get(&key) {
                Some(Value::Failed(failure)) => return Err((*failure).clone()),
                found => found,
            };
            (found, format!("no such key: {}", super::library::convert::display_key(&key)))
        }
        _ => return Err(no_such_overload()),
    };
    match (found, optional) {
        (found, true) => Ok(Value::Optional(found.map(Arc::new))),
        (Some(found), false) => Ok(found),
        (None, false) => Err(Failure::new(missing)),
    }
}

/// Whether the operator is one of such values, with whatever other.
fn operates(name: &str, value: &Value) -> bool {
    use Value::{Bool, Bytes, Double, Duration, Int, List, String as Text, Timestamp, Uint};
    match name {
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            matches!(value, Bool(_) | Int(_) | Uint(_) | Double(_) | Text(_) | Bytes(_) | Duration(_) | Timestamp(_))
        }
        operators::ADD => {
            matches!(value, Int(_) | Uint(_) | Double(_) | Text(_) | Bytes(_) | List(_) | Duration(_) | Timestamp(_))
        }
        operators::SUBSTRACT => matches!(value, Int(_) | Uint(_) | Double(_) | Duration(_) | Timestamp(_)),
        operators::MULTIPLY | operators::DIVIDE => matches!(value, Int(_) | Uint(_) | Double(_)),
        operators::MODULO => matches!(value, Int(_) | Uint(_)),
        operators::LOGICAL_NOT | operators::NEGATE => matches!(value, Bool(_) | Int(_) | Double(_)),
        _ => true,
    }
}

fn mismatch(name: &str, values: &[Value], member: bool) -> Failure {
    if name.starts_with(['_', '!', '-', '@']) {
        return match values.first() {
            // What has no such operator at all.
            Some(first) if !operates(name, first) => Failure::new(format!("no such overload: {name}")),
            _ => no_such_overload(),
        };
    }
    let names: Vec<&str> = values.iter().map(Value::type_name).collect();
    let _ = member;
    Failure::new(format!("no such overload: {name}({})", names.join(", ")))
}
