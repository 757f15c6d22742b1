//! Values of CEL while an expression runs.
//!
//! What comes from JSON is looked at in place, by its declaration, and only where the expression
//! goes; what the expression makes is counted by reference, so that copies are cheap.

use super::Failure;
use super::authorizer::Authorization;
use super::declaration::{Declared, ListDeclaration, Semantics};
use super::escape::escape;
use super::library::time::Time;
use super::library::{addresses, format, quantity, semver, url};
use crate::schema::scalars::parse_duration;
use base64::Engine;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Time),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Self>>),
    Type(Arc<str>),
    Quantity(Arc<quantity::Quantity>),
    Url(Arc<url::Url>),
    Ip(addresses::Ip),
    Cidr(addresses::Cidr),
    Semver(Arc<semver::Semver>),
    Format(&'static format::Format),
    Authorization(Arc<Authorization<'a>>),
    /// In a map, of a value that could not be computed: whoever wants it fails as it did.
    Failed(Arc<Failure>),
}

#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

#[derive(Clone, Debug)]
pub enum List<'a> {
    /// `None`: of no schema.
    Json(&'a [Json], Option<Arc<ListDeclaration>>),
    Made(Arc<Vec<Value<'a>>>),
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Declared),
    Made(Arc<BTreeMap<Key, Value<'a>>>),
    /// An object of a type that expressions can make.
    Object(Arc<str>, Arc<BTreeMap<Key, Value<'a>>>),
}

/// What a map has as a key; whole numbers are the same key whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<&str> for Value<'_> {
    fn from(text: &str) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(items)))
    }
}

impl Key {
    fn to_value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::String(text) => Value::String(Text::Shared(text.clone())),
        }
    }
}

impl<'a> Value<'a> {
    /// A JSON value as its declaration has it.
    pub fn from_json(json: &'a Json, declared: &Declared) -> Self {
        let text = json.as_str();
        let converted = match (declared, text) {
            (Declared::Double, _) => json.as_f64().map(Value::Double),
            (Declared::Duration, Some(text)) => parse_duration(text).ok().map(Value::Duration),
            (Declared::Timestamp, Some(text)) => Time::parse(text).map(Value::Timestamp),
            (Declared::Date, Some(text)) => date(text).map(Value::Timestamp),
            (Declared::Bytes { .. }, Some(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into()))
            }
            _ => None,
        };
        if let Some(value) = converted {
            return value;
        }
        match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => match number.as_i64() {
                Some(int) => Value::Int(int),
                None => match number.as_f64() {
                    Some(double) if matches!(declared, Declared::Int) && double.fract() == 0.0 => {
                        Value::Int(double as i64)
                    }
                    double => Value::Double(double.unwrap_or(f64::NAN)),
                },
            },
            Json::String(text) => Value::String(Text::Borrowed(text)),
            Json::Array(items) => {
                let declared = match declared {
                    Declared::List(list) => Some(list.clone()),
                    _ => None,
                };
                Value::List(List::Json(items, declared))
            }
            Json::Object(fields) => {
                let declared = match declared {
                    Declared::Object(_) | Declared::Map(_) => declared.clone(),
                    _ => Declared::Dyn,
                };
                Value::Map(Map::Json(fields, declared))
            }
        }
    }

    /// What JSON would say of it. Err: it has no such form.
    pub fn to_json(&self) -> Result<Json, Failure> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(bool) => Json::Bool(*bool),
            Self::Int(number) => Json::from(*number),
            Self::Uint(number) => Json::from(*number),
            Self::Double(number) => Json::from(*number),
            Self::String(text) => Json::String(text.as_str().to_owned()),
            Self::Bytes(bytes) => Json::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Duration(nanoseconds) => Json::String(format!("{}s", super::library::convert::seconds(*nanoseconds))),
            Self::Timestamp(time) => Json::String(time.to_string()),
            Self::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Self::List(List::Made(items)) => Json::Array(items.iter().map(Self::to_json).collect::<Result<_, _>>()?),
            Self::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
            Self::Map(Map::Made(entries) | Map::Object(_, entries)) => {
                let mut fields = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    let name = match key {
                        Key::Bool(bool) => bool.to_string(),
                        Key::Int(number) => number.to_string(),
                        Key::Uint(number) => number.to_string(),
                        Key::String(text) => text.to_string(),
                    };
                    fields.insert(name, value.to_json()?);
                }
                Json::Object(fields)
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            other => return Err(Failure::new(format!("unsupported type {} in JSON", other.type_name()))),
        })
    }

    /// The name of its type, as `type(x)` gives it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(Map::Json(_, Declared::Object(object))) => object.name(),
            Self::Map(Map::Object(name, _)) => name,
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => super::declaration::opaque("Quantity"),
            Self::Url(_) => super::declaration::opaque("URL"),
            Self::Ip(_) => super::declaration::opaque("IP"),
            Self::Cidr(_) => super::declaration::opaque("CIDR"),
            Self::Semver(_) => super::declaration::opaque("Semver"),
            Self::Format(_) => super::declaration::opaque("Format"),
            Self::Authorization(authorization) => authorization.type_name(),
            Self::Failed(_) => "error",
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// `size()`: characters, bytes, items, entries. None: it has no size.
    pub fn size(&self) -> Option<u64> {
        Some(match self {
            Self::String(text) => text.as_str().chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            _ => return None,
        })
    }

    /// `==`.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => a.as_str() == b.as_str(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.equals(b),
            (Self::Map(a), Self::Map(b)) => a.equals(b),
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            _ => compare_numbers(self, other) == Some(std::cmp::Ordering::Equal),
        }
    }

    /// Empty, zero, null: what `optional.ofNonZeroValue` leaves out.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(bool) => !bool,
            Self::Int(number) => *number == 0,
            Self::Uint(number) => *number == 0,
            Self::Double(number) => *number == 0.0,
            Self::Duration(number) => *number == 0,
            Self::Timestamp(time) => time.is_zero(),
            Self::Optional(value) => value.as_ref().is_none_or(|value| value.is_zero()),
            other => other.size() == Some(0),
        }
    }

    /// As a map would have it. Err: it cannot be a key.
    pub fn to_key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(bool) => Key::Bool(*bool),
            Self::Int(number) => Key::Int(*number),
            Self::Uint(number) => i64::try_from(*number).map_or(Key::Uint(*number), Key::Int),
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Key::Int(*number as i64),
            Self::String(text) => Key::String(text.as_str().into()),
            _ => return None,
        })
    }

    /// A field of a map or an object, by the name in the expression. Ok(None): it is not there.
    pub fn select(&self, name: &str) -> Result<Option<Self>, Failure> {
        match self {
            Self::Map(map) => map.field(name),
            Self::Optional(Some(value)) => value.select(name),
            _ => Ok(None),
        }
    }
}

fn date(text: &str) -> Option<Time> {
    Time::parse(&format!("{text}T00:00:00Z"))
}

/// Numbers across their types; None: not numbers, or not comparable.
pub fn compare_numbers(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    use Value::{Double, Int, Uint};
    Some(match (a, b) {
        (Int(a), Int(b)) => a.cmp(b),
        (Uint(a), Uint(b)) => a.cmp(b),
        (Double(a), Double(b)) => a.partial_cmp(b)?,
        (Int(a), Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Uint(a), Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Double(a), Int(b)) => compare_double(*a, i128::from(*b))?,
        (Double(a), Uint(b)) => compare_double(*a, i128::from(*b))?,
        (Int(a), Double(b)) => compare_double(*b, i128::from(*a))?.reverse(),
        (Uint(a), Double(b)) => compare_double(*b, i128::from(*a))?.reverse(),
        _ => return None,
    })
}

fn compare_double(a: f64, b: i128) -> Option<std::cmp::Ordering> {
    a.partial_cmp(&(b as f64))
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items, declared) => {
                let declared = declared.as_ref().map_or(&Declared::Dyn, |list| &list.items);
                items.get(index).map(|item| Value::from_json(item, declared))
            }
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub fn contains(&self, wanted: &Value) -> bool {
        self.iter().any(|item| item.equals(wanted))
    }

    fn semantics(&self) -> &Semantics {
        match self {
            Self::Json(_, Some(declared)) => &declared.semantics,
            _ => &Semantics::Atomic,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match self.semantics() {
            Semantics::Atomic => self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b)),
            Semantics::Set => self.iter().all(|item| other.contains(&item)),
            Semantics::Map(keys) => self.iter().all(|item| {
                other.iter().any(|candidate| same_keys(&item, &candidate, keys) && item.equals(&candidate))
            }),
        }
    }

    /// `+`. Sets stay sets, and of items with the same keys the right one wins, in its place.
    pub fn concat(&self, other: &Self) -> Value<'a>
    where
        Self: Clone,
    {
        let mut items: Vec<Value<'a>> = self.iter().collect();
        match self.semantics() {
            Semantics::Atomic => items.extend(other.iter()),
            Semantics::Set => {
                for item in other.iter() {
                    if !items.iter().any(|known| known.equals(&item)) {
                        items.push(item);
                    }
                }
            }
            Semantics::Map(keys) => {
                for item in other.iter() {
                    match items.iter_mut().find(|known| same_keys(known, &item, keys)) {
                        Some(known) => *known = item,
                        None => items.push(item),
                    }
                }
            }
        }
        items.into()
    }
}

fn same_keys(a: &Value, b: &Value, keys: &[Arc<str>]) -> bool {
    keys.iter().all(|key| {
        let name = escape(key).unwrap_or_default();
        match (a.select(&name), b.select(&name)) {
            (Ok(Some(a)), Ok(Some(b))) => a.equals(&b),
            (Ok(None), Ok(None)) => true,
            _ => false,
        }
    })
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(fields, _) => fields.len(),
            Self::Made(entries) | Self::Object(_, entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By the name in the expression.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>, Failure> {
        match self {
            Self::Json(fields, Declared::Object(object)) => {
                let Some(field) = object.field(name) else { return Ok(None) };
                Ok(fields.get(&*field.name).map(|value| Value::from_json(value, &field.declared)))
            }
            other => match other.get(&Key::String(name.into())) {
                Some(Value::Failed(failure)) => Err((*failure).clone()),
                found => Ok(found),
            },
        }
    }

    /// By key.
    pub fn get(&self, key: &Key) -> Option<Value<'a>> {
        match self {
            Self::Json(fields, declared) => {
                let Key::String(name) = key else { return None };
                let declared = match declared {
                    Declared::Map(map) => &map.values,
                    _ => &Declared::Dyn,
                };
                fields.get(&**name).map(|value| Value::from_json(value, declared))
            }
            Self::Made(entries) | Self::Object(_, entries) => entries.get(key).cloned(),
        }
    }

    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(fields, _) => fields.keys().map(|name| Value::String(Text::Borrowed(name))).collect(),
            Self::Made(entries) | Self::Object(_, entries) => entries.keys().map(Key::to_value).collect(),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        if let (Self::Json(a, Declared::Object(declared)), Self::Json(b, _)) = (self, other) {
            return a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    let Some(other) = b.get(name) else { return false };
                    match escape(name).and_then(|escaped| declared.field(&escaped)) {
                        Some(field) => {
                            Value::from_json(value, &field.declared).equals(&Value::from_json(other, &field.declared))
                        }
                        None => value == other,
                    }
                });
        }
        self.len() == other.len()
            && self.keys().iter().all(|key| {
                let Some(key) = key.to_key() else { return false };
                match (self.get(&key), other.get(&key)) {
                    (Some(a), Some(b)) => a.equals(&b),
                    _ => false,
                }
            })
    }
}
