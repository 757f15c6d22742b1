//! What the names of an expression stand for.
//!
//! [`Type`] is what the checker reasons about. [`Declared`] is a type with what a schema says beyond
//! it: bounds for the cost estimate, and how a JSON value becomes a value of CEL. Objects are
//! looked up field by field, so that a recursive schema is no trouble.

use std::fmt;
use std::sync::Arc;

/// A type of CEL.
#[derive(Clone, Debug)]
pub enum Type {
    Dyn,
    /// Of an expression that is wrong; it goes with everything.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Object(Arc<dyn ObjectType>),
    /// Known by name alone: quantities, addresses, the authorizer.
    Opaque(&'static str),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A hole in a signature, by its letter.
    Parameter(char),
    /// A hole that the checker is to fill.
    Variable(u32),
}

/// A kind of object: its fields are asked for by name, when an expression names them.
pub trait ObjectType: Send + Sync + fmt::Debug {
    fn name(&self) -> &str;

    /// A field by the name that expressions use ([`super::escape`]).
    fn field(&self, name: &str) -> Option<Field>;

    /// The fewest bytes that it takes as JSON: `{}` and what is required of it.
    fn min_bytes(&self) -> u64 {
        2
    }
}

/// The bytes of the largest request.
const MAX_REQUEST: u64 = 3 << 20;
/// The longest duration, time and day as JSON.
const MAX_DURATION: u64 = 32;
const MAX_TIME: u64 = 32;
const MAX_DAY: u64 = 12;

/// One field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// As JSON has it.
    pub name: Arc<str>,
    pub declared: Declared,
}

/// How lists compare and add up.
#[derive(Clone, Debug, Default)]
pub enum Semantics {
    #[default]
    Atomic,
    Set,
    /// By the values of these keys.
    Map(Arc<[Arc<str>]>),
}

/// A type as a schema declares it. `max`: bytes (four for each character of a `maxLength`), items or
/// entries at most.
#[derive(Clone, Debug)]
pub enum Declared {
    /// Whatever the JSON value is.
    Dyn,
    Null,
    Bool,
    Int,
    Double,
    String {
        max: Option<u64>,
    },
    /// Base64 in JSON.
    Bytes {
        max: Option<u64>,
    },
    /// `1h2m` in JSON.
    Duration,
    /// RFC 3339 in JSON.
    Timestamp,
    /// A day, `2006-01-02`, in JSON.
    Date,
    /// A number or a string.
    IntOrString {
        max: Option<u64>,
    },
    List(Arc<ListDeclaration>),
    Map(Arc<MapDeclaration>),
    Object(Arc<dyn ObjectType>),
    /// `optionalOldSelf` and what the library makes.
    Typed(Type),
}

#[derive(Clone, Debug)]
pub struct ListDeclaration {
    pub items: Declared,
    pub max: Option<u64>,
    pub semantics: Semantics,
}

#[derive(Clone, Debug)]
pub struct MapDeclaration {
    pub values: Declared,
    pub max: Option<u64>,
}

impl Declared {
    pub fn list(items: Self, max: Option<u64>, semantics: Semantics) -> Self {
        Self::List(Arc::new(ListDeclaration { items, max, semantics }))
    }

    pub fn map(values: Self, max: Option<u64>) -> Self {
        Self::Map(Arc::new(MapDeclaration { values, max }))
    }

    pub fn string() -> Self {
        Self::String { max: None }
    }

    /// The fewest bytes that a value takes as JSON.
    pub fn min_bytes(&self) -> u64 {
        match self {
            Self::Dyn | Self::Typed(_) | Self::Int | Self::Double | Self::IntOrString { .. } => 1,
            Self::Null | Self::Bool => 4,
            Self::String { .. } | Self::Bytes { .. } | Self::List(_) | Self::Map(_) => 2,
            Self::Duration => 3,
            Self::Timestamp => 21,
            Self::Date => MAX_DAY,
            Self::Object(object) => object.min_bytes(),
        }
    }

    /// How large a value gets: by its own bound, else by what fits into a request.
    pub(super) fn max_elements(&self) -> u64 {
        match self {
            Self::String { max } | Self::Bytes { max } | Self::IntOrString { max } => max.unwrap_or(MAX_REQUEST - 2),
            Self::List(list) => list.max.unwrap_or_else(|| (MAX_REQUEST - 2) / (list.items.min_bytes() + 1)),
            Self::Map(map) => map.max.unwrap_or_else(|| (MAX_REQUEST - 2) / (map.values.min_bytes() + 6)),
            Self::Duration => MAX_DURATION,
            Self::Timestamp => MAX_TIME,
            Self::Date => MAX_DAY,
            _ => 0,
        }
    }

    pub fn type_of(&self) -> Type {
        match self {
            Self::Dyn | Self::IntOrString { .. } => Type::Dyn,
            Self::Null => Type::Null,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Double => Type::Double,
            Self::String { .. } => Type::String,
            Self::Bytes { .. } => Type::Bytes,
            Self::Duration => Type::Duration,
            Self::Timestamp | Self::Date => Type::Timestamp,
            Self::List(list) => Type::list(list.items.type_of()),
            Self::Map(map) => Type::map(Type::String, map.values.type_of()),
            Self::Object(object) => Type::Object(object.clone()),
            Self::Typed(kind) => kind.clone(),
        }
    }
}

impl Type {
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn optional(inner: Self) -> Self {
        Self::Optional(Arc::new(inner))
    }

    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The same but for nothing: no holes filled, no wildcards.
    pub fn is_exactly(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b))
            | (Self::Optional(a), Self::Optional(b))
            | (Self::Type(a), Self::Type(b)) => a.is_exactly(b),
            (Self::Map(a), Self::Map(b)) => a.0.is_exactly(&b.0) && a.1.is_exactly(&b.1),
            (Self::Object(a), Self::Object(b)) => a.name() == b.name(),
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Parameter(a), Self::Parameter(b)) => a == b,
            (Self::Variable(a), Self::Variable(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && self.is_plain(),
        }
    }

    /// No parts of its own.
    fn is_plain(&self) -> bool {
        !matches!(
            self,
            Self::List(_)
                | Self::Optional(_)
                | Self::Type(_)
                | Self::Map(_)
                | Self::Object(_)
                | Self::Opaque(_)
                | Self::Parameter(_)
                | Self::Variable(_)
        )
    }

    /// The name of the type as a value: `type(x) == string`.
    pub fn value_name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "error",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(object) => object.name(),
            Self::Opaque(name) => name,
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Parameter(_) | Self::Variable(_) => "dyn",
        }
    }
}

/// As the checker's errors write it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(pair) => write!(f, "map({}, {})", pair.0, pair.1),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type(inner) => write!(f, "type({inner})"),
            Self::Parameter(letter) => write!(f, "{letter}"),
            Self::Variable(number) => write!(f, "_var{number}"),
            other => f.write_str(other.value_name()),
        }
    }
}

/// The type that a signature names: `list(A)`, `map(K, V)`, `optional(A)`, `Quantity`.
pub(super) fn parse_type(text: &str) -> Type {
    let text = text.trim();
    if let Some((outer, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        return match outer {
            "list" => Type::list(parse_type(inner)),
            "optional" => Type::optional(parse_type(inner)),
            "type" => Type::Type(Arc::new(parse_type(inner))),
            "map" => {
                let (key, value) = inner.split_once(',').unwrap_or((inner, "dyn"));
                Type::map(parse_type(key), parse_type(value))
            }
            other => unreachable!("signature: {other}"),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        letter if letter.len() == 1 => Type::Parameter(letter.chars().next().unwrap_or('A')),
        name => Type::Opaque(opaque(name)),
    }
}

/// The opaque types, by the names that signatures use.
const OPAQUE: &[(&str, &str)] = &[
    ("Quantity", "kubernetes.Quantity"),
    ("URL", "kubernetes.URL"),
    ("IP", "net.IP"),
    ("CIDR", "net.CIDR"),
    ("Semver", "kubernetes.Semver"),
    ("Format", "kubernetes.NamedFormat"),
    ("Authorizer", "kubernetes.authorization.Authorizer"),
    ("PathCheck", "kubernetes.authorization.PathCheck"),
    ("GroupCheck", "kubernetes.authorization.GroupCheck"),
    ("ResourceCheck", "kubernetes.authorization.ResourceCheck"),
    ("Decision", "kubernetes.authorization.Decision"),
];

pub(super) fn opaque(name: &str) -> &'static str {
    OPAQUE.iter().find(|(short, _)| *short == name).map_or_else(|| unreachable!("signature: {name}"), |(_, full)| full)
}
