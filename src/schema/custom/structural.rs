//! A definition's schema as a tree, read once from its JSON: types, what is pruned and defaulted,
//! and the checks of OpenAPI.
//!
//! One node serves everything that Kubernetes calls structural, and the nodes below `allOf`,
//! `anyOf`, `oneOf` and `not`, which only check. A large definition has thousands of them, most
//! without checks: a node is small, and what few have is apart.

use crate::api::regular::regular_expression;
use crate::api::{Fields, Path};
use regex::Regex;
use serde_json::Value;
use std::sync::{LazyLock, OnceLock};

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
#[derive(Debug, PartialEq)]
pub enum Additional {
    Allowed(bool),
    Schema(Box<Structural>),
}

/// One node of a schema.
#[derive(Debug, Default, PartialEq)]
pub struct Structural {
    /// Of one type; None: of any, or [`Structural::int_or_string`].
    pub kind: Option<Type>,
    pub properties: Properties,
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
    /// None: nothing beyond its type.
    checks: Option<Box<Checks>>,
    /// Members of `x-kubernetes-validations`.
    pub rules: Box<[Value]>,
    /// What it was read from, at the root.
    source: Option<Source>,
}

/// The declared members of an object, by name.
#[derive(Debug, Default, PartialEq)]
pub struct Properties(Box<[(Box<str>, Structural)]>);

impl Properties {
    /// `declared`: in the order of names.
    fn new(declared: &serde_json::Map<String, Value>) -> Self {
        Self(declared.iter().map(|(name, own)| (name.as_str().into(), Structural::parse(own))).collect())
    }

    pub fn get(&self, name: &str) -> Option<&Structural> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Structural)> {
        self.0.iter().map(|(name, own)| (&**name, own))
    }
}

/// A schema's JSON with its descriptions, which only OpenAPI documents tell: compressed.
#[derive(Debug, PartialEq)]
struct Source(Box<[u8]>);

impl Source {
    /// Zstandard's level: schemas repeat themselves so much that more brings little.
    const LEVEL: i32 = 3;

    fn new(schema: &Value) -> Self {
        let text = schema.to_string();
        Self(zstd::encode_all(text.as_bytes(), Self::LEVEL).expect("memory takes what is written").into())
    }

    fn read(&self) -> Value {
        let text = zstd::decode_all(&*self.0).expect("what was compressed here");
        serde_json::from_slice(&text).expect("what was printed here")
    }
}

/// What a value must hold beyond its type.
#[derive(Debug, Default, PartialEq)]
pub struct Checks {
    pub format: Box<str>,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<Box<Pattern>>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub unique_items: bool,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub required: Box<[String]>,
    pub choices: Box<[Value]>,
    pub all_of: Box<[Structural]>,
    pub any_of: Box<[Structural]>,
    pub one_of: Box<[Structural]>,
    pub not: Option<Box<Structural>>,
}

/// A regular expression, made when it is first asked.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    regex: OnceLock<Result<Regex, String>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
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
        Self { source: Some(Source::new(schema)), ..Self::parse(schema) }
    }

    /// Of a list of which nothing else is known.
    pub fn of_list(list: Option<ListKind>) -> Self {
        Self { list, ..Self::default() }
    }

    /// The same, as a Kubernetes object or as none.
    pub fn embedded(self, embedded: bool) -> Self {
        Self { embedded, ..self }
    }

    /// The JSON of a root: what is published.
    pub fn published(&self) -> Value {
        self.source.as_ref().map(Source::read).unwrap_or_default()
    }

    pub fn checks(&self) -> &Checks {
        self.checks.as_deref().unwrap_or_else(|| Checks::none())
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
            properties: Properties::new(schema.map_at("properties")),
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
            checks: Some(Checks::parse(schema)).filter(|checks| checks != Checks::none()).map(Box::new),
            rules: schema.list_at("x-kubernetes-validations").into(),
            source: None,
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
            || self.properties.iter().any(|(_, own)| own.any(test))
            || self.items.as_deref().is_some_and(|own| own.any(test))
            || additional.is_some_and(|own| own.any(test))
    }
}

impl Checks {
    fn none() -> &'static Self {
        static NONE: LazyLock<Checks> = LazyLock::new(Checks::default);
        &NONE
    }

    fn parse(schema: &Value) -> Self {
        let number = |name: &str| schema.at(name).as_f64();
        let count = |name: &str| schema.at(name).as_i64();
        let all = |name: &str| schema.list_at(name).iter().map(Structural::parse).collect();
        Self {
            format: schema.str_at("format").into(),
            minimum: number("minimum"),
            exclusive_minimum: schema.bool_at("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: schema.bool_at("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: Some(schema.str_at("pattern"))
                .filter(|text| !text.is_empty())
                .map(|text| Box::new(Pattern::new(text))),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: schema.bool_at("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: schema.strs_at("required").map(str::to_owned).collect(),
            choices: schema.list_at("enum").into(),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: schema.get_set("not").map(|own| Box::new(Structural::parse(own))),
        }
    }
}
