//! A custom resource from its text: parsed whole, pruned by the schema, metadata read as the API
//! reads it. Values of wrong types stay, for validation to tell.

use super::embedded;
use super::prune;
use super::structural::Structural;
use crate::api::value::json_kind;
use crate::schema::decode::{DecodeError, Decoded};
use crate::schema::scan::{Scanner, syntax_error};
use crate::schema::table::Schema;
use serde_json::Value;

/// What an unstructured object without a kind is told; `body` as it was sent.
pub(in crate::schema) fn missing_kind(body: &[u8]) -> String {
    format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(body))
}

pub(in crate::schema) fn decode(
    schema: &Schema,
    structural: &Structural,
    bytes: &[u8],
) -> Result<Decoded, DecodeError> {
    decode_with(schema, structural, bytes, true)
}

/// As [`decode`], of what an apply made: a null is a value.
pub(in crate::schema) fn decode_applied(
    schema: &Schema,
    structural: &Structural,
    bytes: &[u8],
) -> Result<Decoded, DecodeError> {
    decode_with(schema, structural, bytes, false)
}

fn decode_with(
    schema: &Schema,
    structural: &Structural,
    bytes: &[u8],
    without_nulls: bool,
) -> Result<Decoded, DecodeError> {
    let mut strict = Vec::new();
    let object = parse(bytes, &mut strict)?;
    let Value::Object(mut fields) = object else {
        if object.is_null() {
            return Err(DecodeError(missing_kind(bytes)));
        }
        let what = json_kind(&object);
        let error = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
        return Err(DecodeError(error));
    };
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let mut unknown = Vec::new();
    if let Some(metadata) = fields.get_mut("metadata") {
        let read = embedded::read_metadata(metadata, &mut |name| unknown.push(format!("metadata.{name}")));
        *metadata = read.map_err(DecodeError)?;
    }
    let mut object = Value::Object(fields);
    unknown.extend(prune::prune(&mut object, structural, true));
    if without_nulls {
        prune::prune_nulls(&mut object, structural);
    }
    embedded::coerce(&mut object, structural, &mut unknown).map_err(DecodeError)?;
    strict.extend(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")));
    object["apiVersion"] = schema.gvk.api_version().into();
    object["kind"] = schema.gvk.kind.clone().into();
    Ok(Decoded { object, strict, kind, api_version })
}

/// The text as a value, with the keys that come twice in `strict`.
fn parse(bytes: &[u8], strict: &mut Vec<String>) -> Result<Value, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    let mut read = || {
        let token = scanner.token()?;
        let value = scanner.value(token, &mut |path| {
            let mut text = String::new();
            for step in path {
                if !text.is_empty() && !step.starts_with('[') {
                    text.push('.');
                }
                text.push_str(step);
            }
            let error = format!("duplicate field {}", crate::api::field::go_quote(&text));
            if !strict.contains(&error) {
                strict.push(error);
            }
        })?;
        scanner.end().map(|()| value)
    };
    read().map_err(|_| DecodeError(syntax_error(bytes).unwrap_or_else(|| "invalid JSON".to_owned())))
}
