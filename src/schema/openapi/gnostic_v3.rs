//! A v3 document as gnostic's `openapi.v3.Document`.
//!
//! Takes the document's JSON and writes the messages of the members that [`super`] writes. Values of any
//! shape travel as YAML text.

use super::gnostic::{double, flag, integer, named, nested, text, texts};
use crate::api::yaml;
use crate::schema::protobuf::{put_bytes, put_double, put_integer};
use serde_json::{Map, Value};

/// Its messages.
pub fn document(document: &Value) -> Vec<u8> {
    const METHODS: &[(&str, u16)] =
        &[("get", 4), ("put", 5), ("post", 6), ("delete", 7), ("options", 8), ("head", 9), ("patch", 10)];
    let mut out = Vec::new();
    text(1, document.get("openapi"), &mut out);
    nested(2, &mut out, |out| {
        text(1, document.pointer("/info/title"), out);
        text(6, document.pointer("/info/version"), out);
    });
    nested(4, &mut out, |out| {
        for (path, item) in members(document.get("paths")) {
            named(1, path, out, |out| {
                for (method, number) in METHODS {
                    if let Some(value) = item.get(*method) {
                        nested(*number, out, |out| operation(value, out));
                    }
                }
                parameters(13, item, out);
            });
        }
    });
    nested(5, &mut out, |out| {
        if let Some(schemas) = document.pointer("/components/schemas") {
            nested(1, out, |out| properties(schemas, out));
        }
        if let Some(schemes) = document.pointer("/components/securitySchemes") {
            nested(7, out, |out| {
                for (name, scheme) in members(Some(schemes)) {
                    named(1, name, out, |out| {
                        nested(1, out, |out| {
                            text(1, scheme.get("type"), out);
                            text(2, scheme.get("description"), out);
                            text(3, scheme.get("name"), out);
                            text(4, scheme.get("in"), out);
                        });
                    });
                }
            });
        }
    });
    out
}

fn members(map: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.and_then(Value::as_object).into_iter().flatten()
}

fn items<'v>(map: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    map.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    texts(1, map.get("tags"), out);
    text(3, map.get("description"), out);
    text(5, map.get("operationId"), out);
    parameters(6, value, out);
    if let Some(body) = map.get("requestBody") {
        nested(7, out, |out| {
            nested(1, out, |out| {
                text(1, body.get("description"), out);
                content(2, body, out);
                flag(3, body.get("required"), out);
            });
        });
    }
    nested(8, out, |out| {
        for (code, response) in members(map.get("responses")) {
            named(2, code, out, |out| {
                nested(1, out, |out| {
                    text(1, response.get("description"), out);
                    content(3, response, out);
                });
            });
        }
    });
    extensions(13, map, out);
}

/// `ParameterOrReference`, each itself.
fn parameters(number: u16, holder: &Value, out: &mut Vec<u8>) {
    for parameter in items(holder, "parameters") {
        nested(number, out, |out| {
            nested(1, out, |out| {
                text(1, parameter.get("name"), out);
                text(2, parameter.get("in"), out);
                text(3, parameter.get("description"), out);
                flag(4, parameter.get("required"), out);
                if let Some(schema) = parameter.get("schema") {
                    nested(10, out, |out| schema_or_reference(schema, out));
                }
            });
        });
    }
}

/// `MediaTypes`
fn content(number: u16, holder: &Value, out: &mut Vec<u8>) {
    let Some(content) = holder.get("content") else { return };
    nested(number, out, |out| {
        for (media, value) in members(Some(content)) {
            named(1, media, out, |out| {
                if let Some(schema) = value.get("schema") {
                    nested(1, out, |out| schema_or_reference(schema, out));
                }
            });
        }
    });
}

fn schema_or_reference(value: &Value, out: &mut Vec<u8>) {
    match value.get("$ref") {
        Some(reference) => nested(2, out, |out| {
            text(1, Some(reference), out);
            text(3, value.get("description"), out);
        }),
        None => nested(1, out, |out| schema(value, out)),
    }
}

/// `Properties`, and `SchemasOrReferences` too.
fn properties(value: &Value, out: &mut Vec<u8>) {
    for (name, value) in members(Some(value)) {
        named(1, name, out, |out| schema_or_reference(value, out));
    }
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    flag(1, map.get("nullable"), out);
    text(9, map.get("title"), out);
    double(10, map.get("multipleOf"), out);
    double(11, map.get("maximum"), out);
    flag(12, map.get("exclusiveMaximum"), out);
    double(13, map.get("minimum"), out);
    flag(14, map.get("exclusiveMinimum"), out);
    integer(15, map.get("maxLength"), out);
    integer(16, map.get("minLength"), out);
    text(17, map.get("pattern"), out);
    integer(18, map.get("maxItems"), out);
    integer(19, map.get("minItems"), out);
    flag(20, map.get("uniqueItems"), out);
    integer(21, map.get("maxProperties"), out);
    integer(22, map.get("minProperties"), out);
    texts(23, map.get("required"), out);
    for choice in items(value, "enum") {
        any(24, choice, out);
    }
    text(25, map.get("type"), out);
    for (number, name) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for part in items(value, name) {
            nested(number, out, |out| schema_or_reference(part, out));
        }
    }
    if let Some(not) = map.get("not") {
        nested(29, out, |out| schema(not, out));
    }
    if let Some(items) = map.get("items") {
        nested(30, out, |out| nested(1, out, |out| schema_or_reference(items, out)));
    }
    if let Some(inner) = map.get("properties") {
        nested(31, out, |out| properties(inner, out));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => nested(32, out, |out| put_integer(2, i64::from(*allowed), out)),
        Some(additional) => nested(32, out, |out| nested(1, out, |out| schema_or_reference(additional, out))),
        None => {}
    }
    if let Some(default) = map.get("default") {
        // Of lists and maps there is a message and nothing in it.
        nested(33, out, |out| match default {
            Value::Bool(value) => put_integer(2, i64::from(*value), out),
            Value::Number(number) => put_double(1, number.as_f64().unwrap_or_default(), out),
            Value::String(value) => put_bytes(3, value.as_bytes(), out),
            _ => {}
        });
    }
    text(34, map.get("description"), out);
    text(35, map.get("format"), out);
    extensions(36, map, out);
}

fn any(number: u16, value: &Value, out: &mut Vec<u8>) {
    nested(number, out, |out| put_bytes(2, shown(value).as_bytes(), out));
}

/// The kind of an operation is a struct to Go, whose fields are not sorted.
fn shown(value: &Value) -> String {
    const KIND: [&str; 3] = ["group", "version", "kind"];
    match value {
        Value::Object(fields) if fields.len() == KIND.len() && KIND.iter().all(|name| fields.contains_key(*name)) => {
            KIND.iter().map(|name| yaml::print(&serde_json::json!({ *name: fields[*name] }))).collect()
        }
        value => yaml::print(value),
    }
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
