//! Whether a value is one of a schema, in the words of Kubernetes's validator (`kube-openapi`).
//!
//! [`validate`] of a new value; [`validate_update`] lets errors pass in parts that an update did not
//! change. Of alternatives that all fail, the one that fits best tells why.

use super::formats;
use super::numbers;
use super::structural::{Additional, ListKind, Structural, Type};
use crate::api::field::go_quote;
use crate::api::{ErrorList, FieldError, Path};
use serde_json::{Map, Value};

/// All that is wrong with a value; `path` is where it is in the object.
pub fn validate(value: &Value, schema: &Structural, path: &Path<'_>) -> ErrorList {
    Place::root().check(value, schema, None).into_errors(path)
}

/// As [`validate`], for a value that was `old` before.
pub fn validate_update(value: &Value, old: &Value, schema: &Structural, path: &Path<'_>) -> ErrorList {
    Place::root().ratcheted(value, schema, old).into_errors(path)
}

/// One finding: the validator's text, where it is, and what the API makes of it.
pub(super) struct Finding {
    /// None: about no field.
    name: Option<String>,
    text: String,
    what: What,
}

enum What {
    Required,
    NotOneOf(Value, Vec<Value>),
    TooLong(i64),
    TooMany(usize, i64),
    Type(String),
    Invalid(Value),
}

/// What came of a value, and how many checks looked at it: the best of several failures is the one
/// with the most.
#[derive(Default)]
pub(super) struct Outcome {
    findings: Vec<Finding>,
    checks: usize,
}

impl Outcome {
    fn one(finding: Finding) -> Self {
        Self { findings: vec![finding], checks: 0 }
    }

    fn is_valid(&self) -> bool {
        self.findings.is_empty()
    }

    /// The same text is told once.
    fn add(&mut self, finding: Finding) {
        if !self.findings.iter().any(|known| known.text == finding.text) {
            self.findings.push(finding);
        }
    }

    fn merge(&mut self, other: Self) {
        other.findings.into_iter().for_each(|finding| self.add(finding));
        self.checks += other.checks;
    }

    fn into_errors(self, path: &Path<'_>) -> ErrorList {
        self.findings.into_iter().map(|finding| finding.into_error(path)).collect()
    }
}

impl Finding {
    fn into_error(self, path: &Path<'_>) -> FieldError {
        let name = self.name.as_deref().map_or("", |name| name.trim_start_matches('.'));
        let below = path.child(name);
        let path = if name.is_empty() { path } else { &below };
        match self.what {
            What::Required => FieldError::required(path, ""),
            What::NotOneOf(value, choices) => {
                let shown: Vec<String> =
                    choices.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                FieldError::not_supported(path, value, &shown)
            }
            What::TooLong(limit) => FieldError::too_long(path, limit),
            What::TooMany(actual, limit) => FieldError::too_many(path, actual, limit),
            What::Type(found) => FieldError::type_invalid(path, found, self.text),
            What::Invalid(value) => FieldError::invalid(path, value, self.text),
        }
    }
}

/// The type of a value, as messages name it.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The types that a node takes, as messages list them.
fn types(schema: &Structural) -> &'static [&'static str] {
    if schema.int_or_string {
        return &["integer", "string"];
    }
    match schema.kind {
        None => &[],
        Some(Type::Array) => &["array"],
        Some(Type::Boolean) => &["boolean"],
        Some(Type::Integer) => &["integer"],
        Some(Type::Number) => &["number"],
        Some(Type::Object) => &["object"],
        Some(Type::String) => &["string"],
    }
}

/// Where a value is below the validated one: `spec.parts[0]`.
pub(super) struct Place {
    path: String,
}

impl Place {
    fn root() -> Self {
        Self { path: String::new() }
    }

    fn field(&self, name: &str) -> Self {
        Self { path: if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) } }
    }

    /// An undeclared member keeps its dot at the root.
    fn entry(&self, name: &str) -> Self {
        Self { path: format!("{}.{name}", self.path) }
    }

    fn index(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path) }
    }

    fn finding(&self, text: &str, what: What) -> Finding {
        Finding { name: Some(self.path.clone()), text: format!("{} in body {text}", self.path), what }
    }

    pub(super) fn invalid(&self, value: impl Into<Value>, text: &str) -> Finding {
        self.finding(text, What::Invalid(value.into()))
    }

    /// About the whole, and no field: the text names the place itself.
    pub(super) fn nowhere(&self, text: String) -> Finding {
        Finding { name: None, text, what: What::Invalid("".into()) }
    }

    fn wrong_type(&self, wanted: &str, found: &str) -> Finding {
        self.finding(&format!("must be of type {wanted}: {}", go_quote(found)), What::Type(found.to_owned()))
    }

    /// Errors of a value that an update left alone are forgiven.
    fn ratcheted(&self, value: &Value, schema: &Structural, old: &Value) -> Outcome {
        let outcome = self.check(value, schema, Some(old));
        if !outcome.is_valid() && value == old {
            return Outcome { checks: outcome.checks, ..Outcome::default() };
        }
        outcome
    }

    fn below(&self, value: &Value, schema: &Structural, old: Option<&Value>) -> Outcome {
        match old {
            Some(old) => self.ratcheted(value, schema, old),
            None => self.check(value, schema, None),
        }
    }

    fn check(&self, value: &Value, schema: &Structural, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if value.is_null() {
            outcome.merge(self.kind(value, schema));
            outcome.merge(self.choices(value, schema));
            return outcome;
        }
        let mut part = |part: Outcome| {
            outcome.merge(part);
            outcome.checks += 1;
        };
        if !types(schema).is_empty() || !formats::effective(schema).is_empty() {
            part(self.kind(value, schema));
        }
        part(self.alternatives(value, schema, old));
        match value {
            Value::String(text) => {
                part(self.text(text, schema));
                let format = formats::effective(schema);
                if !format.is_empty() && formats::is_known(format) {
                    part(match formats::holds(format, text) {
                        true => Outcome::default(),
                        false => Outcome::one(self.wrong_type(format, text)),
                    });
                }
            }
            Value::Number(number) => {
                let mut found = Outcome { checks: 1, ..Outcome::default() };
                numbers::check(self, value, number, schema).into_iter().for_each(|finding| found.add(finding));
                part(found);
            }
            Value::Array(items) => part(self.items(items, schema, old)),
            _ => {}
        }
        part(self.choices(value, schema));
        if let Value::Object(map) = value {
            part(self.members(map, schema, old));
        }
        outcome.checks += 1;
        outcome
    }

    fn kind(&self, value: &Value, schema: &Structural) -> Outcome {
        let wanted = types(schema);
        let found = kind_of(value);
        if value.is_null() {
            if !wanted.is_empty() && !schema.nullable {
                return Outcome::one(self.wrong_type(&wanted.join(","), found));
            }
            return Outcome { checks: 1, ..Outcome::default() };
        }
        let format = formats::effective(schema);
        let whole_float = found == "number" && numbers::is_whole(value) && wanted.contains(&"integer");
        let whole_number = found == "integer" && wanted.contains(&"number");
        let textual = value.is_string() || value.is_array();
        let fits = wanted.contains(&found) || whole_float;
        if !textual && !format.is_empty() && !(fits || whole_number) {
            let found = match found {
                "integer" => "int64",
                "number" => "float64",
                _ => "",
            };
            return Outcome::one(self.wrong_type(format, found));
        }
        let numeric = wanted.contains(&"number") || wanted.contains(&"integer");
        if !numeric && !format.is_empty() && textual {
            return Outcome { checks: 1, ..Outcome::default() };
        }
        if !(fits || whole_number) {
            return Outcome::one(self.wrong_type(&wanted.join(","), found));
        }
        Outcome { checks: 1, ..Outcome::default() }
    }

    fn choices(&self, value: &Value, schema: &Structural) -> Outcome {
        let choices = &schema.checks().choices;
        let same = |choice: &Value| match (choice, value) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            _ => choice == value && !value.is_null(),
        };
        if choices.is_empty() || choices.iter().any(same) {
            return Outcome::default();
        }
        let shown: Vec<String> = choices.iter().map(crate::schema::go_print).collect();
        let text = format!("should be one of [{}]", shown.join(" "));
        Outcome::one(self.finding(&text, What::NotOneOf(value.clone(), choices.to_vec())))
    }

    /// The first that does not hold.
    fn text(&self, text: &str, schema: &Structural) -> Outcome {
        let checks = schema.checks();
        let length = text.chars().count() as i64;
        if let Some(limit) = checks.max_length.filter(|limit| length > *limit) {
            let text = format!("should be at most {limit} chars long");
            return Outcome::one(self.finding(&text, What::TooLong(limit)));
        }
        if let Some(limit) = checks.min_length.filter(|limit| length < *limit) {
            return Outcome::one(self.invalid(text, &format!("should be at least {limit} chars long")));
        }
        if let Some(pattern) = &checks.pattern {
            match pattern.matches(text) {
                Ok(true) => {}
                Ok(false) => {
                    return Outcome::one(self.invalid(text, &format!("should match '{}'", pattern.text)));
                }
                Err(error) => {
                    let why = format!("should match '{}, but pattern is invalid: {error}'", pattern.text);
                    return Outcome::one(self.invalid(text, &why));
                }
            }
        }
        Outcome::default()
    }

    fn items(&self, items: &[Value], schema: &Structural, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome { checks: 1, ..Outcome::default() };
        if let Some(own) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                outcome.merge(self.index(index).below(item, own, correlated(item, schema, old)));
            }
        }
        let checks = schema.checks();
        let count = items.len() as i64;
        if let Some(limit) = checks.min_items.filter(|limit| count < *limit) {
            outcome.add(self.invalid(count, &format!("should have at least {limit} items")));
        }
        if let Some(limit) = checks.max_items.filter(|limit| count > *limit) {
            let text = format!("should have at most {limit} items");
            outcome.add(self.finding(&text, What::TooMany(items.len(), limit)));
        }
        if checks.unique_items && items.iter().enumerate().any(|(at, item)| items[..at].contains(item)) {
            outcome.add(self.invalid("", "shouldn't contain duplicates"));
        }
        outcome
    }

    fn members(&self, map: &Map<String, Value>, schema: &Structural, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        let checks = schema.checks();
        let count = map.len() as i64;
        if let Some(limit) = checks.min_properties.filter(|limit| count < *limit) {
            outcome.add(self.invalid(count, &format!("should have at least {limit} properties")));
        }
        if let Some(limit) = checks.max_properties.filter(|limit| count > *limit) {
            let text = format!("should have at most {limit} properties");
            outcome.add(self.finding(&text, What::TooMany(map.len(), limit)));
        }
        let was = |name: &str| old.and_then(|old| old.get(name));
        match &schema.additional {
            Some(Additional::Allowed(false)) => {
                for name in map.keys().filter(|name| !schema.properties.contains_key(*name)) {
                    let text = format!("{}.{name} in body is a forbidden property", self.path);
                    let what = What::Invalid(name.as_str().into());
                    outcome.add(Finding { name: Some(self.path.clone()), text, what });
                }
            }
            Some(Additional::Schema(own)) => {
                for (name, value) in map.iter().filter(|(name, _)| !schema.properties.contains_key(*name)) {
                    outcome.merge(self.entry(name).below(value, own, was(name)));
                }
            }
            _ => {}
        }
        for (name, own) in schema.properties.iter() {
            if let Some(value) = map.get(name) {
                // What an object is, is no part of an update.
                let told = self.path.is_empty() && matches!(name, "apiVersion" | "kind");
                outcome.merge(self.field(name).below(value, own, if told { None } else { was(name) }));
            }
        }
        for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
            let place = self.entry(name);
            let text = format!("{} in body is required", place.path);
            outcome.add(Finding { name: Some(place.path), text, what: What::Required });
        }
        outcome
    }

    fn alternatives(&self, value: &Value, schema: &Structural, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome { checks: 1, ..Outcome::default() };
        let checks = schema.checks();
        let place = go_quote(&self.path);
        let try_all =
            |list: &[Structural]| -> Vec<Outcome> { list.iter().map(|one| self.check(value, one, old)).collect() };
        if !checks.any_of.is_empty() {
            let mut tried = try_all(&checks.any_of);
            match tried.iter().position(Outcome::is_valid) {
                Some(first) => outcome.merge(tried.swap_remove(first)),
                None => {
                    outcome.add(self.nowhere(format!("{place} must validate at least one schema (anyOf)")));
                    outcome.merge(best(tried));
                }
            }
        }
        if !checks.one_of.is_empty() {
            let mut tried = try_all(&checks.one_of);
            let valid: Vec<usize> = (0..tried.len()).filter(|&at| tried[at].is_valid()).collect();
            let complaint =
                |found: &str| self.nowhere(format!("{place} must validate one and only one schema (oneOf). {found}"));
            match valid.as_slice() {
                [one] => outcome.merge(tried.swap_remove(*one)),
                [] => {
                    outcome.add(complaint("Found none valid"));
                    outcome.merge(best(tried));
                }
                many => outcome.add(complaint(&format!("Found {} valid alternatives", many.len()))),
            }
        }
        if !checks.all_of.is_empty() {
            let tried = try_all(&checks.all_of);
            let valid = tried.iter().filter(|one| one.is_valid()).count();
            let count = tried.len();
            tried.into_iter().for_each(|one| outcome.merge(one));
            if valid != count {
                let more = if valid == 0 { ". None validated" } else { "" };
                outcome.add(self.nowhere(format!("{place} must validate all the schemas (allOf){more}")));
            }
        }
        if let Some(not) = &checks.not
            && self.check(value, not, old).is_valid()
        {
            outcome.add(self.nowhere(format!("{place} must not validate the schema (not)")));
        }
        outcome
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// The first of those with the most checks.
fn best(tried: Vec<Outcome>) -> Outcome {
    let mut best: Option<Outcome> = None;
    for one in tried {
        if best.as_ref().is_none_or(|best| one.checks > best.checks) {
            best = Some(one);
        }
    }
    best.unwrap_or_default()
}

/// The element of an old list that is the same as `item`: by the keys of the list.
pub fn correlated<'o>(item: &Value, schema: &Structural, old: Option<&'o Value>) -> Option<&'o Value> {
    let Some(ListKind::Map(keys)) = &schema.list else { return None };
    let same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
    old?.as_array()?.iter().find(same).filter(|_| item.is_object())
}
