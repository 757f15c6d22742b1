//! JSON to an object of a kind, in one pass: what Go's decoder and encoder make of it together.
//!
//! Unknown fields are dropped, types are checked, values put into their canonical form, empty
//! fields left out or written as the type's declaration says. What is wrong is told as
//! Kubernetes's decoder tells it: a type error ends it, unknown and duplicate fields are listed in
//! [`Decoded::strict`].

use super::scalars;
use super::scan::{MAX_DEPTH, Scanner, Syntax, Token, syntax_error};
use super::table::{Flat, ListType, Schema, Shape, StructId, TypeId, TypeTable};
use crate::api::field::go_quote;
use crate::api::quantity::Quantity;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Kubernetes keeps no more.
const MAX_STRICT_ERRORS: usize = 100;

/// An object, and what a strict reader finds wrong with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.replicas"`, in the order of the text.
    pub strict: Vec<String>,
    /// `kind` of the text; empty: it has none.
    pub kind: String,
    /// `apiVersion` of the text.
    pub api_version: String,
}

/// The text cannot be an object of the kind; the message is Go's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// Where a value is, as frames of the walk.
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

/// Printed only in errors.
enum Step<'p> {
    Root,
    Field(StructId, &'p Flat),
    Key(&'p str),
    Index(usize),
}

/// Why the walk ends early.
enum Stop {
    Syntax,
    Error(String),
}

impl From<Syntax> for Stop {
    fn from(_: Syntax) -> Self {
        Self::Syntax
    }
}

struct Walk<'t, 'b> {
    table: &'t TypeTable,
    scanner: Scanner<'b>,
    strict: Vec<String>,
    /// Off below types that decode themselves.
    lists_strict: bool,
    /// Built-in kinds are protobuf in Kubernetes's store; CRDs are JSON.
    empty_is_null: bool,
    /// The first type error; the walk goes on behind it.
    error: Option<String>,
}

/// Decode the JSON text of an object of `schema`. `apiVersion` and `kind` of the result are the
/// schema's, whatever the text says: compare [`Decoded::kind`] where it matters.
pub fn decode(schema: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    if let Some(structural) = &schema.structural {
        return super::custom::decode(schema, structural, bytes);
    }
    let mut walk = Walk {
        table: &schema.table,
        scanner: Scanner::new(bytes),
        strict: Vec::new(),
        lists_strict: true,
        empty_is_null: schema.gvk.group != "apiextensions.k8s.io",
        error: None,
    };
    let root = Path { parent: None, step: Step::Root };
    let result = walk.document(schema.root, &root);
    let object = match result {
        Ok(object) => match walk.error {
            None => object,
            Some(error) => return Err(DecodeError(error)),
        },
        // Go reads the whole text for syntax first.
        Err(stop) => {
            let error = syntax_error(bytes).unwrap_or_else(|| match stop {
                Stop::Syntax => "invalid JSON".to_owned(),
                Stop::Error(error) => error,
            });
            return Err(DecodeError(error));
        }
    };
    let mut object = match object {
        Value::Object(map) => map,
        // `null` is an empty object.
        _ => zero_struct(&schema.table, schema.table.as_struct(schema.root)),
    };
    let mut take = |key: &str| match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (kind, api_version) = (take("kind"), take("apiVersion"));
    object.insert("apiVersion".to_owned(), schema.gvk.api_version().into());
    object.insert("kind".to_owned(), schema.gvk.kind.clone().into());
    Ok(Decoded { object: Value::Object(object), strict: walk.strict, kind, api_version })
}

/// Decode the text of one type of a table, with what a strict reader finds. The message is Go's.
pub(super) fn decode_part(table: &TypeTable, kind: TypeId, bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut walk = Walk {
        table,
        scanner: Scanner::new(bytes),
        strict: Vec::new(),
        lists_strict: true,
        empty_is_null: false,
        error: None,
    };
    let root = Path { parent: None, step: Step::Root };
    match (walk.document(kind, &root), walk.error) {
        (Ok(value), None) => Ok((value, walk.strict)),
        (_, Some(error)) | (Err(Stop::Error(error)), _) => Err(error),
        (Err(Stop::Syntax), None) => Err("invalid JSON".to_owned()),
    }
}

/// The value again, as decoding its text gives it. For objects that were put together from parts.
pub fn normalize(schema: &Schema, object: &Value) -> Result<Decoded, DecodeError> {
    let bytes = serde_json::to_vec(object).map_err(|error| DecodeError(error.to_string()))?;
    decode(schema, &bytes)
}

/// What an object of the kind is when nothing is set.
pub fn zero_object(schema: &Schema) -> Value {
    let mut object = zero_struct(&schema.table, schema.table.as_struct(schema.root));
    object.insert("apiVersion".to_owned(), schema.gvk.api_version().into());
    object.insert("kind".to_owned(), schema.gvk.kind.clone().into());
    Value::Object(object)
}

/// What Go writes for the zero value of a type.
pub(super) fn zero(table: &TypeTable, kind: TypeId) -> Value {
    match table.shape(kind) {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float | Shape::IntOrString => {
            Value::from(0)
        }
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Duration => Value::String("0s".to_owned()),
        Shape::Struct { id, .. } => Value::Object(zero_struct(table, Some(id))),
        _ => Value::Null,
    }
}

fn zero_struct(table: &TypeTable, id: Option<StructId>) -> Map<String, Value> {
    let mut map = Map::new();
    if let Some(id) = id {
        add_always(table, id, 0, &mut map);
    }
    map
}

/// The fields that Go writes though they are not set. `there`: a bit for each of the struct's fields
/// that is in the map.
pub(super) fn add_always(table: &TypeTable, id: StructId, there: u128, map: &mut Map<String, Value>) {
    let mut missing = table.always(id) & !there;
    while missing != 0 {
        let field = &table.fields(id)[missing.trailing_zeros() as usize].field;
        let value = if field.pointer() { Value::Null } else { zero(table, field.kind) };
        map.insert(table.name(field.name).to_owned(), value);
        missing &= missing - 1;
    }
}

/// Whether Go's encoder leaves the field out.
pub(super) fn left_out(flat: &Flat, value: &Value) -> bool {
    if flat.always {
        return false;
    }
    match value {
        Value::Null => true,
        _ if flat.field.pointer() => false,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn token_name(token: Token) -> &'static str {
    match token {
        Token::Null => "null",
        Token::Bool(_) => "bool",
        Token::Number => "number",
        Token::String => "string",
        Token::Array => "array",
        Token::Object => "object",
    }
}

impl<'t> Walk<'t, '_> {
    fn document(&mut self, root: TypeId, path: &Path) -> Result<Value, Stop> {
        let token = self.scanner.token()?;
        let value = self.value(root, token, path)?;
        self.scanner.end()?;
        Ok(value)
    }

    fn value(&mut self, kind: TypeId, token: Token, path: &Path) -> Result<Value, Stop> {
        let shape = self.table.shape(kind);
        if token == Token::Null {
            // Go leaves the zero value; a pointer becomes nil, which the caller sees.
            return Ok(Value::Null);
        }
        match (shape, token) {
            (Shape::Struct { id, .. }, Token::Object) => self.object(id, path),
            (Shape::String, Token::String) => Ok(Value::String(self.scanner.string()?.into_owned())),
            (Shape::List { element, list }, Token::Array) => self.list(element, list, path),
            (Shape::Map { value, .. }, Token::Object) => self.map(value, path),
            (Shape::Bool, Token::Bool(value)) => Ok(Value::Bool(value)),
            (Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float, Token::Number) => {
                self.number(kind, shape, path)
            }
            (Shape::Bytes, Token::String) => {
                let text = self.scanner.string()?;
                match scalars::decode_base64(&text) {
                    Ok(bytes) => Ok(Value::String(scalars::encode_base64(&bytes))),
                    Err(error) => {
                        self.save(error);
                        Ok(Value::Null)
                    }
                }
            }
            (Shape::Bytes, Token::Array) => self.byte_list(path),
            (Shape::Time | Shape::MicroTime | Shape::Duration, _) => {
                if token != Token::String {
                    return self.stop_type(token, "string", path);
                }
                let text = self.scanner.string()?;
                let canonical = match shape {
                    Shape::Time => scalars::time(&text),
                    Shape::MicroTime => scalars::micro_time(&text),
                    _ => scalars::duration(&text),
                };
                canonical.map(Value::String).map_err(Stop::Error)
            }
            (Shape::Quantity, _) => self.quantity(token),
            (Shape::IntOrString, Token::String) => Ok(Value::String(self.scanner.string()?.into_owned())),
            (Shape::IntOrString, Token::Number) => {
                let text = self.scanner.number()?;
                match text.parse::<i32>() {
                    Ok(value) => Ok(value.into()),
                    Err(_) => Err(Stop::Error(type_error(self.table, &format!("number {text}"), "int32", path))),
                }
            }
            (Shape::IntOrString, _) => self.stop_type(token, "int32", path),
            (Shape::RawExtension | Shape::FieldsV1, _) => Ok(self.scanner.value(token, &mut |_| {})?),
            (Shape::Any | Shape::Deduced, _) => self.any(token, path),
            (Shape::SchemaOrArray(schema), _) => self.schema_or(schema, token, path, Or::Array),
            (Shape::SchemaOrBool(schema), _) => self.schema_or(schema, token, path, Or::Bool),
            (Shape::SchemaOrStringArray(schema), _) => self.schema_or(schema, token, path, Or::Strings),
            _ => {
                self.save(type_error(self.table, token_name(token), self.table.go_name(kind), path));
                self.scanner.skip(token)?;
                Ok(Value::Null)
            }
        }
    }

    fn object(&mut self, id: StructId, path: &Path) -> Result<Value, Stop> {
        let table = self.table;
        let fields = table.fields(id);
        let mut map = Map::new();
        // A struct has fewer than 128 fields: see the test.
        let (mut seen, mut there) = (0_u128, 0_u128);
        let mut first = true;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            let token = self.scanner.token()?;
            let Some(at) = table.position(id, &key) else {
                self.scanner.skip(token)?;
                self.unknown(&key, path);
                continue;
            };
            let (flat, bit) = (&fields[at], 1 << at);
            if seen & bit != 0 {
                self.list_strict("duplicate", &key, path);
                map.remove(&*key);
                there &= !bit;
            }
            seen |= bit;
            let step = Step::Field(id, flat);
            let value = self.value(flat.field.kind, token, &Path { parent: Some(path), step })?;
            // A raw value is a struct to Go's encoder, whatever is in it.
            let raw = matches!(table.shape(flat.field.kind), Shape::RawExtension);
            // Absent and empty lists are one in the store's encoding.
            let empty = flat.always && self.empty_is_null && !raw && value.as_array().is_some_and(Vec::is_empty);
            // An empty list of entries is said: it takes those that there are away.
            let left_out = !raw && left_out(flat, &value) && !(key == "managedFields" && value.is_array());
            if !empty && !left_out && !(value.is_null() && !flat.field.pointer()) {
                map.insert(key.into_owned(), value);
                there |= bit;
            }
        }
        add_always(table, id, there, &mut map);
        Ok(Value::Object(map))
    }

    fn list(&mut self, element: TypeId, _list: ListType, path: &Path) -> Result<Value, Stop> {
        let mut list = Vec::new();
        while self.scanner.element(list.is_empty())? {
            let token = self.scanner.token()?;
            let step = Step::Index(list.len());
            let value = self.value(element, token, &Path { parent: Some(path), step })?;
            list.push(self.filled(element, token, value));
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, element: TypeId, path: &Path) -> Result<Value, Stop> {
        let mut map = Map::new();
        let mut first = true;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            let token = self.scanner.token()?;
            let step = Step::Key(&key);
            let value = self.value(element, token, &Path { parent: Some(path), step })?;
            let value = self.filled(element, token, value);
            if map.contains_key(key.as_ref()) {
                self.list_strict("duplicate", &key, path);
            }
            map.insert(key.into_owned(), value);
        }
        Ok(Value::Object(map))
    }

    /// Elements of lists and maps are never absent: null is zero.
    fn filled(&self, kind: TypeId, token: Token, value: Value) -> Value {
        match (token, self.table.shape(kind)) {
            (Token::Null, Shape::Bytes) => Value::String(String::new()),
            (Token::Null, _) => zero(self.table, kind),
            _ => value,
        }
    }

    fn number(&mut self, kind: TypeId, shape: Shape, path: &Path) -> Result<Value, Stop> {
        let text = self.scanner.number()?;
        let value = match shape {
            Shape::Int32 => text.parse::<i32>().ok().map(Value::from),
            Shape::Int64 => text.parse::<i64>().ok().map(Value::from),
            Shape::Uint32 => text.parse::<u32>().ok().map(Value::from),
            Shape::Uint64 => text.parse::<u64>().ok().map(Value::from),
            _ => text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|_| super::scan::number(text).into()),
        };
        Ok(value.unwrap_or_else(|| {
            self.save(type_error(self.table, &format!("number {text}"), self.table.go_name(kind), path));
            Value::Null
        }))
    }

    fn byte_list(&mut self, path: &Path) -> Result<Value, Stop> {
        let mut bytes = Vec::new();
        while self.scanner.element(bytes.is_empty())? {
            let token = self.scanner.token()?;
            let byte = if token == Token::Number {
                let text = self.scanner.number()?;
                text.parse::<u8>().map_err(|_| format!("number {text}"))
            } else {
                self.scanner.skip(token)?;
                if token == Token::Null { Ok(0) } else { Err(token_name(token).to_owned()) }
            };
            bytes.push(byte.unwrap_or_else(|what| {
                self.save(type_error(self.table, &what, "uint8", path));
                0
            }));
        }
        Ok(Value::String(scalars::encode_base64(&bytes)))
    }

    fn quantity(&mut self, token: Token) -> Result<Value, Stop> {
        let text: Cow<str> = match token {
            // The text between the quotes, escapes and all.
            Token::String => {
                let raw = self.scanner.raw()?;
                String::from_utf8_lossy(&raw[1..raw.len() - 1])
            }
            Token::Number => self.scanner.number()?.into(),
            _ => {
                self.scanner.skip(token)?;
                "{".into()
            }
        };
        match Quantity::parse(text.trim()) {
            Ok(quantity) => Ok(Value::String(quantity.into_text())),
            Err(error) => Err(Stop::Error(error.to_string())),
        }
    }

    fn any(&mut self, token: Token, _path: &Path) -> Result<Value, Stop> {
        Ok(self.scanner.value(token, &mut |_| {})?)
    }

    /// Types that decode themselves: their schemas are not read strictly.
    fn schema_or(&mut self, schema: TypeId, token: Token, path: &Path, or: Or) -> Result<Value, Stop> {
        let lists_strict = std::mem::replace(&mut self.lists_strict, false);
        let result = match (token, &or) {
            (Token::Object, _) => {
                let depth = self.error.is_some();
                let value = self.value(schema, token, path);
                // Their errors end the walk, as errors of a type's own decoder do.
                match (value, self.error.take()) {
                    (Ok(_), Some(error)) if !depth => Err(Stop::Error(error)),
                    (value, error) => {
                        self.error = error;
                        value
                    }
                }
            }
            (Token::Array, Or::Array) => self.list(schema, ListType::Atomic, path),
            (Token::Array, Or::Strings) => {
                let mut list = Vec::new();
                while self.scanner.element(list.is_empty())? {
                    let token = self.scanner.token()?;
                    match token {
                        Token::String => list.push(Value::String(self.scanner.string()?.into_owned())),
                        Token::Null => list.push(Value::String(String::new())),
                        _ => return self.stop_type(token, "string", path),
                    }
                }
                Ok(Value::Array(list))
            }
            (Token::Bool(value), Or::Bool) => Ok(Value::Bool(value)),
            // Neither a schema nor a list of them, and not absent: an empty text stands for it.
            (Token::String | Token::Number | Token::Bool(_), Or::Array) => {
                self.scanner.skip(token)?;
                Ok(Value::String(String::new()))
            }
            (_, Or::Bool) => Err(Stop::Error("boolean or JSON schema expected".to_owned())),
            _ => {
                self.scanner.skip(token)?;
                Ok(Value::Null)
            }
        };
        self.lists_strict = lists_strict;
        result
    }

    /// A type error that Go's decoder remembers while it goes on.
    fn save(&mut self, error: String) {
        self.error.get_or_insert(error);
    }

    /// A type error in a type's own decoder: it ends the walk.
    fn stop_type<T>(&mut self, token: Token, go: &str, path: &Path) -> Result<T, Stop> {
        let what = match token {
            Token::Number => format!("number {}", self.scanner.number()?),
            token => token_name(token).to_owned(),
        };
        let what = if go == "string" { token_name(token).to_owned() } else { what };
        Err(Stop::Error(type_error(self.table, &what, go, path)))
    }

    fn unknown(&mut self, key: &str, path: &Path) {
        self.list_strict("unknown", key, path);
    }

    fn list_strict(&mut self, what: &str, name: &str, path: &Path) {
        if !self.lists_strict || self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut full = String::new();
        write_path(self.table, path, &mut full);
        if !full.is_empty() {
            full.push('.');
        }
        full.push_str(name);
        let error = format!("{what} field {}", go_quote(&full));
        if !self.strict.contains(&error) {
            self.strict.push(error);
        }
    }
}

enum Or {
    Array,
    Bool,
    Strings,
}

/// `spec.containers[0].name`, with keys of maps as fields.
fn write_path(table: &TypeTable, path: &Path, out: &mut String) {
    if let Some(parent) = path.parent {
        write_path(table, parent, out);
    }
    let name = match path.step {
        Step::Root => return,
        Step::Field(_, flat) => table.name(flat.field.name),
        Step::Key(name) => name,
        Step::Index(index) => return out.push_str(&format!("[{index}]")),
    };
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}

/// `json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container`
fn type_error(table: &TypeTable, what: &str, go: &str, path: &Path) -> String {
    let mut fields = Vec::new();
    let mut owner_of_last = None;
    let mut step = Some(path);
    while let Some(path) = step {
        if let Step::Field(owner, flat) = path.step {
            owner_of_last.get_or_insert(table.struct_name(owner));
            fields.push(table.name(flat.field.name));
            fields.extend(Some(table.name(flat.embedded)).filter(|embedded| !embedded.is_empty()));
        }
        step = path.parent;
    }
    fields.reverse();
    match owner_of_last {
        Some(owner) => {
            format!("json: cannot unmarshal {what} into Go struct field {owner}.{} of type {go}", fields.join("."))
        }
        None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
    }
}

const _: () = assert!(MAX_DEPTH < 128, "serde_json reads stored objects again");
