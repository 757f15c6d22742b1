//! A definition's schema as a tree, read once from its JSON: types, what is pruned and defaulted,
//! and the checks of OpenAPI.
//!
//! One node serves everything that Kubernetes calls structural, and the nodes below `allOf`,
//! `anyOf`, `oneOf` and `not`, which only check.

use crate::api::regular::regular_expression;
use crate::api::{Fields, Path};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A type of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "array" => Self::Array,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "object" => Self::Object,
            "string" => Self::String,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Object => "object",
            Self::String => "string",
        }
    }
}

/// Who owns the elements of a list, and what may not come twice in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// By these fields of its elements.
    Map(Vec<String>),
}

/// `additionalProperties`
#[derive(Debug)]
pub enum Additional {
    Allowed(bool),
    Schema(Box<Structural>),
}

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Structural {
    /// Of one type; None: of any, or [`Structural::int_or_string`].
    pub kind: Option<Type>,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Structural>>,
    pub default: Option<Value>,
    pub nullable: bool,
    /// Unknown fields stay.
    pub preserve: bool,
    /// A Kubernetes object: with `apiVersion`, `kind` and `metadata`.
    pub embedded: bool,
    pub int_or_string: bool,
    pub list: Option<ListKind>,
    /// Owned as a whole.
    pub atomic: bool,
    pub checks: Checks,
    /// Members of `x-kubernetes-validations`.
    pub rules: Vec<Value>,
    /// The JSON that it was read from, at the root: what is published.
    pub source: Value,
}

/// What a value must hold beyond its type.
#[derive(Debug, Default)]
pub struct Checks {
    pub format: String,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub unique_items: bool,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub required: Vec<String>,
    pub choices: Vec<Value>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// A regular expression, made when it is first asked.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    regex: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), regex: OnceLock::new() }
    }

    /// `Err`: the expression itself is wrong.
    pub fn matches(&self, text: &str) -> Result<bool, String> {
        let made = self.regex.get_or_init(|| regular_expression(&self.text));
        made.as_ref().map(|regex| regex.is_match(text)).map_err(Clone::clone)
    }
}

impl Structural {
    /// Of the whole schema of a version.
    pub fn root(schema: &Value) -> Self {
        Self { source: schema.clone(), ..Self::parse(schema) }
    }

    /// Of a JSONSchemaProps that passed the decoder: what is present has its type.
    pub fn parse(schema: &Value) -> Self {
        let flag = |name: &str| schema.bool_at(name);
        let list = match schema.str_at("x-kubernetes-list-type") {
            "set" => Some(ListKind::Set),
            "map" => Some(ListKind::Map(schema.strs_at("x-kubernetes-list-map-keys").map(str::to_owned).collect())),
            "atomic" => Some(ListKind::Atomic),
            _ => None,
        };
        Self {
            kind: Type::parse(schema.str_at("type")),
            properties: schema
                .map_at("properties")
                .iter()
                .map(|(name, own)| (name.clone(), Self::parse(own)))
                .collect(),
            additional: match schema.at("additionalProperties") {
                Value::Bool(allowed) => Some(Additional::Allowed(*allowed)),
                own @ Value::Object(_) => Some(Additional::Schema(Box::new(Self::parse(own)))),
                _ => None,
            },
            items: schema.get_set("items").filter(|items| items.is_object()).map(|own| Box::new(Self::parse(own))),
            default: schema.get_set("default").cloned(),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list,
            atomic: schema.str_at("x-kubernetes-map-type") == "atomic",
            checks: Checks::parse(schema),
            rules: schema.list_at("x-kubernetes-validations").to_vec(),
            source: Value::Null,
        }
    }

    /// The node of a member of a map; None: nothing is said of it.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }

    /// The path of a member: a field where it is declared, else a key.
    pub fn member_path<'p>(&self, path: &'p Path<'p>, name: &'p str) -> Path<'p> {
        if self.properties.contains_key(name) { path.child(name) } else { path.key(name) }
    }

    /// This node and all below it that say what a value is.
    pub fn any(&self, test: &dyn Fn(&Self) -> bool) -> bool {
        let additional = match &self.additional {
            Some(Additional::Schema(schema)) => Some(&**schema),
            _ => None,
        };
        test(self)
            || self.properties.values().any(|own| own.any(test))
            || self.items.as_deref().is_some_and(|own| own.any(test))
            || additional.is_some_and(|own| own.any(test))
    }
}

impl Checks {
    fn parse(schema: &Value) -> Self {
        let number = |name: &str| schema.at(name).as_f64();
        let count = |name: &str| schema.at(name).as_i64();
        let all = |name: &str| schema.list_at(name).iter().map(Structural::parse).collect();
        Self {
            format: schema.str_at("format").to_owned(),
            minimum: number("minimum"),
            exclusive_minimum: schema.bool_at("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: schema.bool_at("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: Some(schema.str_at("pattern")).filter(|text| !text.is_empty()).map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: schema.bool_at("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: schema.strs_at("required").map(str::to_owned).collect(),
            choices: schema.list_at("enum").to_vec(),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: schema.get_set("not").map(|own| Box::new(Structural::parse(own))),
        }
    }
}
