//! Whether a definition's rules may stand: they compile, and what they cost at worst is bounded.
//!
//! Source: the CEL part of `ValidateCustomResourceDefinitionOpenAPISchema`.

use super::super::ratchet::Strictness;
use super::compile::{Compiled, Set};
use crate::api::{ErrorList, FieldError, Fields, Path};
use crate::cel::{Declared, ESTIMATE_LIMIT, ESTIMATE_LIMIT_TOTAL};
use crate::schema::custom::Structural;
use crate::schema::custom::{Additional, ListKind, Type};
use serde_json::Value;

/// How much of the whole a rule must cost to be named.
const SHARE: u64 = ESTIMATE_LIMIT_TOTAL / 100;
const NAMED: usize = 4;

/// What is wrong with the rules of a version's schema, which is structural. `wrong`: the fields of the
/// schema that are wrong already; rules there and above are not looked at.
pub fn validate(schema: &Value, wrong: &[String], strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    let structural = Structural::parse(schema);
    if !structural.any(&|node| !node.rules.is_empty()) {
        return;
    }
    let mut walk = Walk { errors, wrong, strict, total: 0, expensive: Vec::new() };
    walk.node(schema, &structural, &Place { path, count: Some(1), uncorrelated: None, resource: true });
    let Walk { total, mut expensive, .. } = walk;
    if total > ESTIMATE_LIMIT_TOTAL {
        expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (field, _) in expensive.into_iter().take(NAMED) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError { field, ..FieldError::forbidden(path, detail) });
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, too_much(what, total, ESTIMATE_LIMIT_TOTAL)));
    }
}

fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let advice = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared";
    if factor > 100.0 {
        return format!("{what} exceeds budget by factor of more than 100x ({advice})");
    }
    if factor < 1.5 {
        // One digit would say that nothing is exceeded.
        return format!("{what} exceeds budget by factor of {factor:.6}x ({advice})");
    }
    format!("{what} exceeds budget by factor of {factor:.1}x ({advice})")
}

/// Where a node is.
struct Place<'p> {
    path: &'p Path<'p>,
    /// How many values there may be of it; None: nobody says.
    count: Option<u64>,
    /// The topmost part above whose elements cannot be told apart between two states.
    uncorrelated: Option<&'p str>,
    resource: bool,
}

struct Walk<'e> {
    errors: &'e mut ErrorList,
    wrong: &'e [String],
    strict: &'e Strictness,
    total: u64,
    /// Places of rules, and what they cost.
    expensive: Vec<(String, u64)>,
}

/// How many more there may be of what is below.
fn factor(schema: &Structural) -> Option<u64> {
    let bound = |limit: Option<i64>| limit.map(|limit| u64::try_from(limit).unwrap_or_default());
    match schema.kind {
        Some(Type::Object) if schema.additional.is_some() => bound(schema.checks().max_properties),
        Some(Type::Array) => bound(schema.checks().max_items),
        _ => Some(1),
    }
}

impl Walk<'_> {
    fn node(&mut self, source: &Value, schema: &Structural, place: &Place<'_>) {
        let path = place.path;
        let count = place.count.and_then(|count| Some(count.saturating_mul(factor(schema)?)));
        if let Some(Additional::Schema(own)) = &schema.additional {
            let below = path.child("additionalProperties");
            let place = Place { path: &below, count, resource: own.embedded, ..*place };
            self.node(source.at("additionalProperties"), own, &place);
        }
        for (name, own) in schema.properties.iter() {
            let properties = path.child("properties");
            let below = properties.key(name);
            let place = Place { path: &below, count, resource: own.embedded, ..*place };
            self.node(source.at("properties").at(name), own, &place);
        }
        if let Some(own) = &schema.items {
            let below = path.child("items");
            let own_path = path.to_string();
            let correlated = matches!(schema.list, Some(ListKind::Map(_)));
            let uncorrelated = place.uncorrelated.or((!correlated).then_some(own_path.as_str()));
            let place = Place { path: &below, count, uncorrelated, resource: own.embedded };
            self.node(source.at("items"), own, &place);
        }
        let own_path = path.to_string();
        if schema.rules.is_empty() || self.wrong.iter().any(|field| is_at_or_below(field, &own_path)) {
            return;
        }
        let set = Set::new(&schema.rules, schema, place.resource);
        let list = path.child("x-kubernetes-validations");
        for (index, rule) in set.rules.iter().enumerate() {
            let source = &source.list_at("x-kubernetes-validations")[index];
            self.rule(rule, &set.declared, source, place, &list.index(index));
        }
    }

    fn rule(&mut self, rule: &Compiled, declared: &Declared, source: &Value, place: &Place<'_>, path: &Path<'_>) {
        let at_rule = path.child("rule");
        let cost = match place.count {
            Some(count) => rule.cost.saturating_mul(count),
            None => rule.cost.saturating_mul(cardinality(declared)),
        };
        if rule.text.trim().is_empty() {
            return;
        }
        if self.strict.rule_costs && cost > ESTIMATE_LIMIT {
            self.errors.push(FieldError::forbidden(&at_rule, too_much("estimated rule cost", cost, ESTIMATE_LIMIT)));
        }
        self.observe(&at_rule, cost);
        let shown = || Some(as_go(source));
        if let Err(error) = &rule.program {
            self.errors
                .push(FieldError { shown: shown(), ..FieldError::invalid(&at_rule, Value::Null, error.as_str()) });
        }
        let at_message = path.child("messageExpression");
        match &rule.message_program {
            Some(Err(error)) => {
                let error = FieldError::invalid(&at_message, Value::Null, error.as_str());
                self.errors.push(FieldError { shown: shown(), ..error });
            }
            Some(Ok(_)) => {
                if self.strict.rule_costs && rule.message_cost > ESTIMATE_LIMIT {
                    let detail = too_much("estimated messageExpression cost", rule.message_cost, ESTIMATE_LIMIT);
                    self.errors.push(FieldError::forbidden(&at_message, detail));
                }
                self.observe(&at_message, rule.message_cost);
            }
            None => {}
        }
        if rule.uses_old {
            if let Some(part) = place.uncorrelated {
                let detail =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {part}");
                self.errors.push(FieldError::invalid(&at_rule, rule.text.as_str(), detail));
            }
        } else if source.has("optionalOldSelf") {
            let value = source.at("optionalOldSelf").clone();
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(&path.child("optionalOldSelf"), value, detail));
        }
    }

    fn observe(&mut self, path: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= SHARE {
            self.expensive.push((path.to_string(), cost));
        }
    }
}

fn is_at_or_below(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Where nobody bounds how many there are: as many of the smallest as a request holds.
fn cardinality(declared: &Declared) -> u64 {
    const LARGEST_REQUEST: u64 = 3 << 20;
    LARGEST_REQUEST / (declared.min_bytes() + 1)
}

/// A rule as Go prints its declaration.
fn as_go(rule: &Value) -> String {
    let text = |field: &str| {
        Value::from(rule.str_at(field))
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
    };
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        rule.at("reason"),
        text("fieldPath"),
        rule.at("optionalOldSelf")
    )
}
