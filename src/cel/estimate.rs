//! What an expression may cost at worst, from the bounds that its declarations give.
//!
//! A rule of a CRD is refused by this figure, so it is Kubernetes's, step by step: sizes of values
//! flow up the tree, loops cost their range's size, and what is not bounded is as large as a request
//! may be.

use super::Environment;
use super::cost::{CHECK, COMPARE_FACTOR, LIST, MAP, OBJECT, REGEX_FACTOR, STRING_FACTOR};
use super::declaration::{Declared, Type};
use super::library::format::MAX_REGEX_SIZE;
use super::overloads::{Cost, Overload};
use super::tree::{Fold, Kind, Node};
use super::value::Value;
use cel::common::ast::operators;
use std::collections::HashMap;
use std::sync::Arc;

/// From the least to the most, of a size or a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub min: u64,
    pub max: u64,
}

impl Estimate {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Self {
        let scale = |value: u64| (value as f64 * factor).ceil() as u64;
        Self { min: scale(self.min), max: scale(self.max) }
    }

    fn either(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// What is known of a node's value.
#[derive(Clone, Debug, Default)]
struct Known {
    declared: Option<Declared>,
    size: Option<Estimate>,
    /// Of the keys and the values of a map, or of the items of a list.
    entries: Option<(Estimate, Estimate)>,
}

impl Known {
    fn size(&self) -> Estimate {
        self.size.unwrap_or(Estimate::UNKNOWN)
    }

    fn of(declared: Option<Declared>) -> Self {
        let size = declared.as_ref().map(|declared| Estimate { min: 0, max: declared.max_elements() });
        Self { declared, size, entries: None }
    }

    fn sized(size: Estimate) -> Self {
        Self { size: Some(size), ..Self::default() }
    }
}

pub(super) fn estimate(root: &Node, types: &HashMap<u64, Type>, environment: &Environment) -> Estimate {
    let mut estimator = Estimator { types, environment, locals: Vec::new() };
    estimator.node(root).0
}

struct Estimator<'a> {
    types: &'a HashMap<u64, Type>,
    environment: &'a Environment,
    locals: Vec<(Arc<str>, Known)>,
}

impl Estimator<'_> {
    fn node(&mut self, node: &Node) -> (Estimate, Known) {
        let (cost, mut known) = self.kind(node);
        if known.size.is_none() && self.types.get(&node.id).is_some_and(is_scalar) {
            known.size = Some(Estimate::fixed(1));
        }
        (cost, known)
    }

    fn kind(&mut self, node: &Node) -> (Estimate, Known) {
        match &node.kind {
            // The name of a type is taken for what the expression is about.
            Kind::Constant(Value::Type(_)) => {
                (Estimate::fixed(1), Known::of(self.environment.declared("self").cloned()))
            }
            Kind::Constant(value) => constant(value),
            Kind::Variable(name) => (Estimate::fixed(1), Known::of(self.environment.declared(name).cloned())),
            Kind::Local(name) => {
                let known = self.locals.iter().rev().find(|(local, _)| local == name).map(|(_, known)| known.clone());
                (Estimate::fixed(1), known.unwrap_or_default())
            }
            Kind::Select { operand, field } | Kind::OptionalSelect { operand, field } => {
                let (cost, known) = self.node(operand);
                let selects = matches!(self.types.get(&operand.id), Some(Type::Map(_) | Type::Object(_)))
                    || matches!(node.kind, Kind::OptionalSelect { .. });
                let cost = if selects { cost.plus(Estimate::fixed(1)) } else { cost };
                let declared = match &known.declared {
                    Some(Declared::Object(object)) => object.field(field).map(|field| field.declared),
                    Some(Declared::Map(map)) => Some(map.values.clone()),
                    _ => None,
                };
                (cost, Known::of(declared))
            }
            Kind::Test { operand, .. } => (self.node(operand).0, Known::default()),
            Kind::And(pair) | Kind::Or(pair) => {
                let (left, right) = (self.node(&pair.0).0, self.node(&pair.1).0);
                (Estimate { min: left.min, max: left.plus(right).max }, Known::default())
            }
            Kind::Conditional(parts) => {
                let (condition, _) = self.node(&parts[0]);
                let (yes, if_true) = self.node(&parts[1]);
                let (no, if_false) = self.node(&parts[2]);
                let entries = if_true.entries.zip(if_false.entries);
                let known = Known {
                    declared: None,
                    size: Some(if_true.size().either(if_false.size())),
                    entries: entries.map(|(a, b)| (a.0.either(b.0), a.1.either(b.1))),
                };
                (condition.plus(yes.either(no)), known)
            }
            Kind::OrElse { pair, .. } => {
                let (left, first) = self.node(&pair.0);
                let (right, second) = self.node(&pair.1);
                let size = first.size().either(second.size());
                (left.plus(right).plus(Estimate::fixed(1)), Known::sized(size))
            }
            Kind::Call { name, overloads, member, arguments } => self.call(name, overloads, *member, arguments),
            Kind::List(elements) => {
                let mut cost = Estimate::fixed(LIST);
                let mut items: Option<Estimate> = None;
                for (element, _) in elements {
                    let (element, known) = self.node(element);
                    cost = cost.plus(element);
                    items = Some(items.map_or(known.size(), |items| items.either(known.size())));
                }
                let entries = Some((Estimate::fixed(1), items.unwrap_or(Estimate::fixed(0))));
                (cost, Known { declared: None, size: Some(Estimate::fixed(elements.len() as u64)), entries })
            }
            Kind::Map(entries) => {
                let mut cost = Estimate::fixed(MAP);
                let mut sizes: Option<(Estimate, Estimate)> = None;
                for entry in entries {
                    let (key_cost, key) = self.node(&entry.key);
                    let (value_cost, value) = self.node(&entry.value);
                    cost = cost.plus(key_cost).plus(value_cost);
                    let (key, value) = (key.size(), value.size());
                    sizes = Some(sizes.map_or((key, value), |(k, v)| (k.either(key), v.either(value))));
                }
                let size = Some(Estimate::fixed(entries.len() as u64));
                let entries = Some(sizes.unwrap_or((Estimate::fixed(0), Estimate::fixed(0))));
                (cost, Known { declared: None, size, entries })
            }
            Kind::Object { fields, .. } => {
                let cost =
                    fields.iter().fold(Estimate::fixed(OBJECT), |cost, (_, value, _)| cost.plus(self.node(value).0));
                (cost, Known::default())
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn fold(&mut self, fold: &Fold) -> (Estimate, Known) {
        let (range_cost, range) = self.node(&fold.range);
        let (init_cost, init) = self.node(&fold.init);
        let mut cost = range_cost.plus(init_cost);
        let depth = self.locals.len();
        self.locals.push((fold.accumulator.clone(), init.clone()));
        if fold.bind {
            let (result_cost, result) = self.node(&fold.result);
            self.locals.truncate(depth);
            return (cost.plus(result_cost), result);
        }
        let (keys, values) = self.entries(&range, &fold.range);
        match &fold.second {
            Some(second) => {
                self.locals.push((fold.variable.clone(), keys));
                self.locals.push((second.clone(), values));
            }
            None => {
                let is_list = matches!(self.types.get(&fold.range.id), Some(Type::List(_)))
                    || matches!(range.declared, Some(Declared::List(_)));
                self.locals.push((fold.variable.clone(), if is_list { values } else { keys }));
            }
        }
        let (condition, _) = self.node(&fold.condition);
        let (step, stepped) = self.node(&fold.step);
        self.locals.truncate(depth + 1);
        cost = cost.plus(self.node(&fold.result).0);
        self.locals.truncate(depth);
        let rounds = range.size();
        cost = cost.plus(rounds.times(step.plus(condition)));
        let known = match &fold.init.kind {
            Kind::List(_) | Kind::Map(_) => Known { declared: None, size: Some(rounds), entries: stepped.entries },
            _ => Known { declared: None, size: init.size, entries: None },
        };
        (cost, known)
    }

    /// What is known of a range's keys (or indices) and values.
    fn entries(&self, range: &Known, node: &Node) -> (Known, Known) {
        if let Some((keys, values)) = range.entries {
            return (Known::sized(keys), Known::sized(values));
        }
        match &range.declared {
            Some(Declared::List(list)) => (Known::sized(Estimate::fixed(1)), Known::of(Some(list.items.clone()))),
            Some(Declared::Map(map)) => (Known::sized(Estimate::fixed(0)), Known::of(Some(map.values.clone()))),
            _ => {
                let scalar = |of: &Type| {
                    if is_scalar(of) { Known::sized(Estimate::fixed(1)) } else { Known::default() }
                };
                match self.types.get(&node.id) {
                    Some(Type::List(element)) => (Known::sized(Estimate::fixed(1)), scalar(element)),
                    Some(Type::Map(pair)) => (scalar(&pair.0), scalar(&pair.1)),
                    _ => (Known::default(), Known::default()),
                }
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        overloads: &[&'static Overload],
        member: bool,
        arguments: &[Node],
    ) -> (Estimate, Known) {
        let mut sum = Estimate::fixed(0);
        let mut known = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (cost, of) = self.node(argument);
            sum = sum.plus(cost);
            known.push(of);
        }
        match name {
            "dyn" => return (sum.plus(Estimate::fixed(1)), known.pop().unwrap_or_default()),
            operators::INDEX | operators::OPT_INDEX => {
                let target = known.first().cloned().unwrap_or_default();
                let (_, values) = match arguments.first() {
                    Some(node) => self.entries(&target, node),
                    None => return (sum, Known::default()),
                };
                return (sum.plus(Estimate::fixed(1)), values);
            }
            _ => {}
        }
        let mut cost: Option<Estimate> = None;
        let mut size: Option<Estimate> = None;
        let mut entries = None;
        for overload in overloads {
            let (one, result) = self.overload(name, overload, member, arguments, &known);
            cost = Some(cost.map_or(one, |cost| cost.either(one)));
            if let Some(result) = result {
                size = Some(size.map_or(result, |size| size.either(result)));
            }
            if name == operators::ADD
                && let [Known { entries: Some(a), .. }, Known { entries: Some(b), .. }] = known.as_slice()
            {
                entries = Some((a.0.either(b.0), a.1.either(b.1)));
            }
        }
        (sum.plus(cost.unwrap_or(Estimate::fixed(1))), Known { declared: None, size, entries })
    }

    /// The cost of one overload, and the size of what it makes.
    fn overload(
        &self,
        name: &str,
        overload: &Overload,
        member: bool,
        arguments: &[Node],
        known: &[Known],
    ) -> (Estimate, Option<Estimate>) {
        let size = |index: usize| known.get(index).map_or(Estimate::UNKNOWN, Known::size);
        let one = Estimate::fixed(1);
        match overload.cost {
            Cost::One if overload.id == "add_list" => (one, Some(size(0).plus(size(1)))),
            Cost::One => (one, None),
            Cost::Check => (Estimate::fixed(CHECK), None),
            Cost::Items => (size(1), None),
            Cost::Traverse if matches!(overload.arguments.first(), Some(Type::List(_))) => {
                let item = self.item_cost(known.first(), arguments.first(), overload);
                (size(0).times(item), None)
            }
            Cost::Traverse => (size(0).scaled(STRING_FACTOR), None),
            // What is looked for, as the reference has it.
            Cost::Read if matches!(name, "startsWith" | "endsWith") => (size(1).scaled(STRING_FACTOR), None),
            Cost::Read => {
                let read = size(0);
                let made = match overload.id {
                    "string_to_bytes" => Some(Estimate { min: read.min, max: read.max.saturating_mul(4) }),
                    "bytes_to_string" => Some(Estimate { min: read.min / 4, max: read.max }),
                    "strings_quote" => Some(Estimate {
                        min: read.min.saturating_add(2),
                        max: read.max.saturating_mul(2).saturating_add(2),
                    }),
                    _ if member => Some(read),
                    _ => None,
                };
                (read.scaled(STRING_FACTOR), made)
            }
            Cost::ReadTwice => {
                let made = match name {
                    "replace" => Some(replaced(size(0), size(1), size(2))),
                    "split" => Some(Estimate { min: 0, max: size(0).max }),
                    _ => None,
                };
                (size(0).scaled(2.0 * STRING_FACTOR), made)
            }
            Cost::Join => {
                let items = item_size(known.first());
                let list = size(0);
                let mut made = list.times(items);
                if known.len() > 1 {
                    let separators = Estimate { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    made = made.plus(size(1).times(separators));
                }
                (made.scaled(STRING_FACTOR), Some(made))
            }
            // Of what Kubernetes knows the size of; `!=` it does not look at.
            Cost::Shorter if name == operators::EQUALS && small(&self.types_of(arguments)).is_some() => {
                (small(&self.types_of(arguments)).unwrap_or(one), None)
            }
            Cost::Shorter => {
                let shortest = size(0).max.min(size(1).max);
                (Estimate { min: u64::from(shortest > 0), max: shortest }.scaled(STRING_FACTOR), None)
            }
            Cost::Both => {
                let made = size(0).plus(size(1));
                (made.scaled(STRING_FACTOR), Some(made))
            }
            Cost::Regex => {
                let text = size(0).plus(one).scaled(STRING_FACTOR);
                let cost = text.times(size(1).scaled(REGEX_FACTOR));
                let made = (name != "matches").then_some(Estimate { min: 0, max: size(0).max });
                (cost, made)
            }
            Cost::Contains => (size(0).scaled(STRING_FACTOR).times(size(1).scaled(STRING_FACTOR)), None),
            Cost::ContainsIp | Cost::ContainsIpText => {
                let mut cost = ADDRESS.plus(ADDRESS).scaled(STRING_FACTOR);
                if overload.cost == Cost::ContainsIpText {
                    cost = cost.plus(size(1).scaled(STRING_FACTOR));
                }
                (cost, None)
            }
            Cost::ContainsCidr | Cost::ContainsCidrText => {
                let mut cost =
                    ADDRESS.plus(ADDRESS).scaled(STRING_FACTOR).plus(ADDRESS.scaled(STRING_FACTOR)).plus(one);
                if overload.cost == Cost::ContainsCidrText {
                    cost = cost.plus(size(1).scaled(STRING_FACTOR));
                }
                (cost, None)
            }
            Cost::Product => (size(0).times(size(1)).plus(one), None),
            Cost::Slice => {
                let (start, end) = (whole(arguments.get(1), 0), whole(arguments.get(2), size(0).max));
                made(1.0, Estimate::fixed(end.wrapping_sub(start)))
            }
            Cost::Range => made(1.0, Estimate::fixed(whole(arguments.first(), u64::MAX))),
            Cost::Reverse => made(1.0, size(0)),
            Cost::Flatten => {
                let depth = if arguments.len() > 1 { whole(arguments.get(1), u64::MAX) } else { 1 };
                made(depth as f64, size(0))
            }
            Cost::Distinct => made(COMPARE_FACTOR, size(0).times(size(0))),
            Cost::Sort | Cost::SortBy => {
                let keys = usize::from(overload.cost == Cost::SortBy);
                let text = matches!(overload.arguments.get(keys), Some(Type::List(of)) if matches!(**of, Type::String | Type::Bytes));
                let factor = if text { COMPARE_FACTOR + STRING_FACTOR } else { COMPARE_FACTOR };
                made(factor, size(keys).times(size(keys)))
            }
            Cost::Format => (size(0).scaled(STRING_FACTOR), None),
            Cost::Validate => {
                let cost = size(1).scaled(STRING_FACTOR).scaled(MAX_REGEX_SIZE as f64 * REGEX_FACTOR);
                (cost, None)
            }
        }
    }

    fn types_of(&self, nodes: &[Node]) -> Vec<&Type> {
        nodes.iter().filter_map(|node| self.types.get(&node.id)).collect()
    }

    /// One for each item, and for text what reading it costs.
    fn item_cost(&self, list: Option<&Known>, node: Option<&Node>, overload: &Overload) -> Estimate {
        let one = Estimate::fixed(1);
        let is_text = |of: &Type| matches!(of, Type::String | Type::Bytes);
        let declared = matches!(overload.arguments.first(), Some(Type::List(element)) if is_text(element))
            || matches!(node.and_then(|node| self.types.get(&node.id)), Some(Type::List(element)) if is_text(element));
        match (list, node) {
            (Some(_), Some(_)) if declared => one.plus(item_size(list).scaled(STRING_FACTOR)),
            _ => one,
        }
    }
}

/// A list of such a size is made.
fn made(factor: f64, size: Estimate) -> (Estimate, Option<Estimate>) {
    (size.scaled(factor).plus(Estimate::fixed(1 + LIST)), Some(size))
}

/// A literal whole number.
fn whole(node: Option<&Node>, otherwise: u64) -> u64 {
    match node.map(|node| &node.kind) {
        Some(Kind::Constant(Value::Int(number))) => u64::try_from(*number).unwrap_or(0),
        _ => otherwise,
    }
}

/// Bytes of an address.
const ADDRESS: Estimate = Estimate { min: 4, max: 16 };

fn constant(value: &Value) -> (Estimate, Known) {
    match value {
        Value::List(list) => {
            let items = list.iter().map(|item| Estimate::fixed(item.size().unwrap_or(1)));
            let items = items.reduce(Estimate::either).unwrap_or(Estimate::fixed(0));
            let size = Some(Estimate::fixed(list.len() as u64));
            (Estimate::fixed(LIST), Known { declared: None, size, entries: Some((Estimate::fixed(1), items)) })
        }
        value => (Estimate::fixed(0), Known::sized(Estimate::fixed(value.size().unwrap_or(1)))),
    }
}

/// How large the items of a list are, by its declaration alone.
fn item_size(list: Option<&Known>) -> Estimate {
    match list.and_then(|list| list.declared.as_ref()) {
        Some(Declared::List(list)) => Known::of(Some(list.items.clone())).size(),
        _ => Estimate::UNKNOWN,
    }
}

/// What comparing two of the same opaque type costs.
fn small(types: &[&Type]) -> Option<Estimate> {
    match types {
        [Type::Opaque(a), Type::Opaque(b)] if a == b => {
            let max = if a.ends_with(".NamedFormat") { FORMAT_SIZE } else { 1 };
            Some(Estimate { min: 1, max })
        }
        _ => None,
    }
}

/// A tenth of how long a format gets.
const FORMAT_SIZE: u64 = 7;

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

/// How long a text gets when parts of it are replaced.
fn replaced(text: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let most = if old.min == 0 {
        text.max.saturating_add(1).saturating_mul(new.max).saturating_add(text.max)
    } else if new.max <= old.min {
        text.max
    } else {
        text.max.div_ceil(old.min).saturating_mul(new.max)
    };
    let least = if old.max == 0 {
        text.min.saturating_add(1).saturating_mul(new.min).saturating_add(text.min)
    } else if old.max <= new.min {
        text.min
    } else {
        text.min.div_ceil(old.max).saturating_mul(new.min)
    };
    Estimate { min: least, max: most }
}
