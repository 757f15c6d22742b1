//! The v2 document as gnostic's `openapi.v2.Document`, which older clients of kubectl's age ask for.
//!
//! Takes the JSON pieces of the document and writes their messages: only the members that
//! [`super`] writes have a place here. Vendor extensions travel as YAML text; JSON is YAML.

use crate::schema::protobuf::{put_bytes, put_double, put_integer};
use serde_json::{Map, Value};

pub struct Document {
    out: Vec<u8>,
    paths: Vec<u8>,
    definitions: Vec<u8>,
    parameters: Vec<u8>,
}

pub(super) fn text(number: u16, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
        put_bytes(number, text.as_bytes(), out);
    }
}

pub(super) fn texts(number: u16, value: Option<&Value>, out: &mut Vec<u8>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        put_bytes(number, item.as_str().unwrap_or_default().as_bytes(), out);
    }
}

pub(super) fn flag(number: u16, value: Option<&Value>, out: &mut Vec<u8>) {
    if value.and_then(Value::as_bool) == Some(true) {
        put_integer(number, 1, out);
    }
}

pub(super) fn double(number: u16, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value.and_then(Value::as_f64) {
        put_double(number, value, out);
    }
}

pub(super) fn integer(number: u16, value: Option<&Value>, out: &mut Vec<u8>) {
    if let Some(value) = value.and_then(Value::as_i64) {
        put_integer(number, value, out);
    }
}

pub(super) fn nested(number: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(number, &inner, out);
}

/// `NamedX { name = 1, value = 2 }`
pub(super) fn named(number: u16, name: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    nested(number, out, |out| {
        put_bytes(1, name.as_bytes(), out);
        nested(2, out, write);
    });
}

fn any(number: u16, value: &Value, out: &mut Vec<u8>) {
    nested(number, out, |out| put_bytes(2, format!("{value}\n").as_bytes(), out));
}

/// `x-…` members as `NamedAny`.
fn extensions(number: u16, map: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        nested(number, out, |out| {
            put_bytes(1, name.as_bytes(), out);
            any(2, value, out);
        });
    }
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    text(1, map.get("$ref"), out);
    text(2, map.get("format"), out);
    text(3, map.get("title"), out);
    text(4, map.get("description"), out);
    if let Some(default) = map.get("default") {
        any(5, default, out);
    }
    double(6, map.get("multipleOf"), out);
    double(7, map.get("maximum"), out);
    flag(8, map.get("exclusiveMaximum"), out);
    double(9, map.get("minimum"), out);
    flag(10, map.get("exclusiveMinimum"), out);
    integer(11, map.get("maxLength"), out);
    integer(12, map.get("minLength"), out);
    text(13, map.get("pattern"), out);
    integer(14, map.get("maxItems"), out);
    integer(15, map.get("minItems"), out);
    flag(16, map.get("uniqueItems"), out);
    integer(17, map.get("maxProperties"), out);
    integer(18, map.get("minProperties"), out);
    texts(19, map.get("required"), out);
    for choice in map.get("enum").and_then(Value::as_array).into_iter().flatten() {
        any(20, choice, out);
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => nested(21, out, |out| put_integer(2, i64::from(*allowed), out)),
        Some(additional) => nested(21, out, |out| nested(1, out, |out| schema(additional, out))),
        None => {}
    }
    if let Some(kind) = map.get("type") {
        nested(22, out, |out| text(1, Some(kind), out));
    }
    if let Some(items) = map.get("items") {
        nested(23, out, |out| nested(1, out, |out| schema(items, out)));
    }
    for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        nested(24, out, |out| schema(part, out));
    }
    if let Some(Value::Object(properties)) = map.get("properties") {
        nested(25, out, |out| {
            for (name, property) in properties {
                named(1, name, out, |out| schema(property, out));
            }
        });
    }
    extensions(31, map, out);
}

/// `ParametersItem`
fn parameter(number: u16, value: &Value, out: &mut Vec<u8>) {
    nested(number, out, |out| match value.get("$ref") {
        Some(reference) => nested(2, out, |out| text(1, Some(reference), out)),
        None => nested(1, out, |out| parameter_itself(value, out)),
    });
}

/// `Parameter`
fn parameter_itself(value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    let place = map.get("in").and_then(Value::as_str).unwrap_or_default();
    if place == "body" {
        nested(1, out, |out| {
            text(1, map.get("description"), out);
            text(2, map.get("name"), out);
            text(3, map.get("in"), out);
            flag(4, map.get("required"), out);
            nested(5, out, |out| schema(map.get("schema").unwrap_or(&Value::Null), out));
        });
        return;
    }
    // QueryParameterSubSchema = 3 has one field more before its type than PathParameterSubSchema = 4.
    let (kind, at, unique) = if place == "path" { (4, 5, 19) } else { (3, 6, 20) };
    nested(2, out, |out| {
        nested(kind, out, |out| {
            flag(1, map.get("required"), out);
            text(2, map.get("in"), out);
            text(3, map.get("description"), out);
            text(4, map.get("name"), out);
            text(at, map.get("type"), out);
            flag(unique, map.get("uniqueItems"), out);
        });
    });
}

fn operation(number: u16, value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    nested(number, out, |out| {
        texts(1, map.get("tags"), out);
        text(3, map.get("description"), out);
        text(5, map.get("operationId"), out);
        texts(6, map.get("produces"), out);
        texts(7, map.get("consumes"), out);
        for item in map.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            parameter(8, item, out);
        }
        nested(9, out, |out| {
            for (code, response) in map.get("responses").and_then(Value::as_object).into_iter().flatten() {
                named(1, code, out, |out| {
                    nested(1, out, |out| {
                        text(1, response.get("description"), out);
                        if let Some(reply) = response.get("schema") {
                            nested(2, out, |out| nested(1, out, |out| schema(reply, out)));
                        }
                    });
                });
            }
        });
        texts(10, map.get("schemes"), out);
        extensions(13, map, out);
    });
}

impl Document {
    pub fn new(head: &Value) -> Self {
        let mut out = Vec::new();
        text(1, head.get("swagger"), &mut out);
        nested(2, &mut out, |out| {
            text(1, head.pointer("/info/title"), out);
            text(2, head.pointer("/info/version"), out);
        });
        Self { out, paths: Vec::new(), definitions: Vec::new(), parameters: Vec::new() }
    }

    pub fn path(&mut self, path: &str, item: &Value) {
        const METHODS: &[(&str, u16)] =
            &[("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
        named(2, path, &mut self.paths, |out| {
            for (method, number) in METHODS {
                if let Some(value) = item.get(*method) {
                    operation(*number, value, out);
                }
            }
            for value in item.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                parameter(9, value, out);
            }
        });
    }

    pub fn end_paths(&mut self) {
        put_bytes(8, &std::mem::take(&mut self.paths), &mut self.out);
    }

    pub fn definition(&mut self, name: &str, value: &Value) {
        named(1, name, &mut self.definitions, |out| schema(value, out));
    }

    pub fn parameter(&mut self, name: &str, value: &Value) {
        named(1, name, &mut self.parameters, |out| parameter_itself(value, out));
    }

    pub fn finish(mut self, security: &Value) -> Vec<u8> {
        put_bytes(9, &self.definitions, &mut self.out);
        if !self.parameters.is_empty() {
            put_bytes(10, &self.parameters, &mut self.out);
        }
        // SecurityRequirement -> NamedStringArray
        nested(12, &mut self.out, |out| named(1, "BearerToken", out, |_| {}));
        let token = &security["BearerToken"];
        // SecurityDefinitions -> NamedSecurityDefinitionsItem -> ApiKeySecurity = 2
        nested(13, &mut self.out, |out| {
            named(1, "BearerToken", out, |out| {
                nested(2, out, |out| {
                    text(1, token.get("type"), out);
                    text(2, token.get("name"), out);
                    text(3, token.get("in"), out);
                    text(4, token.get("description"), out);
                });
            });
        });
        self.out
    }
}
