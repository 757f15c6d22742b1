//! Reading and defaulting fields of an object in JSON form.
//!
//! Objects that reach a strategy passed the strict walk: what is present has its declared type. So
//! these accessors do not report a wrong type; like Go's zero values, what is absent reads as
//! empty. `has` tells a pointer that is set from one that is not.

use serde_json::{Map, Value};
use std::sync::LazyLock;

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// Typed reading of a field by name.
pub trait Fields {
    /// The field; null where it is absent.
    fn at(&self, name: &str) -> &Value;

    /// The field, unless absent or null: a pointer that is set.
    fn get_set(&self, name: &str) -> Option<&Value>;

    /// The entries of a map or an object's fields.
    fn entries(&self) -> &Map<String, Value>;

    /// The elements of a list.
    fn items(&self) -> &[Value];

    /// Present and not null.
    fn has(&self, name: &str) -> bool {
        self.get_set(name).is_some()
    }

    /// The string; empty where it is absent.
    fn str_at(&self, name: &str) -> &str {
        self.at(name).as_str().unwrap_or_default()
    }

    fn optional_str(&self, name: &str) -> Option<&str> {
        self.at(name).as_str()
    }

    /// The integer; 0 where it is absent.
    fn int_at(&self, name: &str) -> i64 {
        self.at(name).as_i64().unwrap_or_default()
    }

    fn optional_int(&self, name: &str) -> Option<i64> {
        self.at(name).as_i64()
    }

    /// The flag; false where it is absent.
    fn bool_at(&self, name: &str) -> bool {
        self.at(name).as_bool().unwrap_or_default()
    }

    fn optional_bool(&self, name: &str) -> Option<bool> {
        self.at(name).as_bool()
    }

    /// The list; empty where it is absent.
    fn list_at(&self, name: &str) -> &[Value] {
        self.at(name).items()
    }

    /// The map; empty where it is absent.
    fn map_at(&self, name: &str) -> &Map<String, Value> {
        self.at(name).entries()
    }

    /// The strings of a list.
    fn strs_at<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str>
    where
        Self: 'a,
    {
        self.list_at(name).iter().map(|item| item.as_str().unwrap_or_default())
    }
}

impl Fields for Value {
    fn at(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }

    fn get_set(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    fn entries(&self) -> &Map<String, Value> {
        self.as_object().unwrap_or(&EMPTY)
    }

    fn items(&self) -> &[Value] {
        self.as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// What Go's reader of JSON calls a value.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The Go type of a value in an object without a type of its own.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Writing of fields, for defaults.
pub trait FieldsMut {
    /// The field as an object, made where it is absent.
    fn object_mut(&mut self, name: &str) -> &mut Value;

    /// The field for change, unless absent or null.
    fn set_mut(&mut self, name: &str) -> Option<&mut Value>;

    /// The elements of a list for change; none where it is absent.
    fn items_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Value>;

    /// Sets a field that is absent or null.
    fn set_default(&mut self, name: &str, value: impl Into<Value>);

    /// Sets a string that is absent, null or empty: a Go string without a pointer.
    fn set_default_str(&mut self, name: &str, value: &str);

    /// Sets an integer that is absent, null or zero: a Go integer without a pointer.
    fn set_default_int(&mut self, name: &str, value: i64);

    fn set(&mut self, name: &str, value: impl Into<Value>);

    fn clear(&mut self, name: &str);

    /// Takes the field of `from`, or clears it where `from` has none.
    fn copy(&mut self, name: &str, from: &Value);
}

impl FieldsMut for Value {
    fn object_mut(&mut self, name: &str) -> &mut Value {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        let field = &mut self[name];
        if !field.is_object() {
            *field = Value::Object(Map::new());
        }
        field
    }

    fn set_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.get_mut(name).filter(|value| !value.is_null())
    }

    fn items_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Value> {
        self.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
    }

    fn set_default(&mut self, name: &str, value: impl Into<Value>) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    fn set_default_str(&mut self, name: &str, value: &str) {
        if self.str_at(name).is_empty() {
            self.set(name, value);
        }
    }

    fn set_default_int(&mut self, name: &str, value: i64) {
        if self.int_at(name) == 0 {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        self[name] = value.into();
    }

    fn clear(&mut self, name: &str) {
        if let Some(object) = self.as_object_mut() {
            object.remove(name);
        }
    }

    fn copy(&mut self, name: &str, from: &Value) {
        match from.get_set(name) {
            Some(value) => self.set(name, value.clone()),
            None => self.clear(name),
        }
    }
}

/// Equal to a client: absent, null and empty lists and maps are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    compare(a, b, &|value| match value {
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    })
}

/// Equal as Go's values are: a struct that is there differs from one that is not. Both went through
/// decoding, which leaves no empty map.
pub fn equal(a: &Value, b: &Value) -> bool {
    compare(a, b, &|_| false)
}

fn compare(a: &Value, b: &Value, nothing: &dyn Fn(&Value) -> bool) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        value => nothing(value),
    };
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(name, value)| compare(value, b.at(name), nothing))
                && right.iter().all(|(name, value)| left.contains_key(name) || empty(value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| compare(left, right, nothing))
        }
        _ => a == b || (empty(a) && empty(b)),
    }
}
