//! What Go's converter makes of an object that was put together as a map: strategic merge patches and
//! applies end in it.
//!
//! It is another reader than the one of JSON: numbers are cut to the width of their field, whole ones with a
//! fraction are integers, and errors name types and no fields. Fields are read in the order of their
//! declaration, which shows in the error alone; types with a decoder of their own are left to it.

use super::decode::decode_part;
use super::scalars;
use super::table::{Shape, TypeId, TypeTable};
use serde_json::{Number, Value};

/// The value with numbers as fields of the type take them. Err: what the converter says of the first value
/// that no field takes.
pub(super) fn restore(table: &TypeTable, kind: TypeId, value: &mut Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let go_kind = match value {
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        _ => "map",
    };
    let scalar = |go: &'static str, good: bool, convertible: bool| match (good, convertible) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("cannot convert {go_kind} to {}", table.go_name(kind))),
        (false, false) => Err(format!("unrecognized type: {go}")),
    };
    match table.shape(kind) {
        Shape::String => scalar("string", value.is_string(), go_kind == "int64"),
        Shape::Bool => scalar("bool", value.is_boolean(), false),
        shape @ (Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64) => {
            let go = match shape {
                Shape::Int32 => "int32",
                Shape::Uint32 => "uint32",
                Shape::Uint64 => "uint64",
                _ => "int64",
            };
            let number = value.as_number().and_then(|number| cut(shape, number));
            scalar(go, number.is_some(), go_kind == "float64")?;
            *value = number.map_or(Value::Null, Value::Number);
            Ok(())
        }
        Shape::Float => scalar("float64", value.is_number(), false),
        Shape::Bytes => match value {
            Value::String(text) => {
                scalars::decode_base64(text).map(|_| ()).map_err(|error| format!("error decoding from json: {error}"))
            }
            Value::Array(_) => Ok(()),
            _ => Err(format!("cannot restore slice from {go_kind}")),
        },
        Shape::Struct { id, .. } => {
            let Value::Object(map) = value else { return Err(format!("cannot restore struct from: {go_kind}")) };
            let mut first: Option<(u16, String)> = None;
            for (name, inner) in map {
                let Some(flat) = table.field(id, name) else { continue };
                let number = flat.field.number;
                if let Err(error) = restore(table, flat.field.kind, inner)
                    && first.as_ref().is_none_or(|(before, _)| number < *before)
                {
                    first = Some((number, error));
                }
            }
            first.map_or(Ok(()), |(_, error)| Err(error))
        }
        Shape::List { element, .. } => {
            let Value::Array(list) = value else { return Err(format!("cannot restore slice from {go_kind}")) };
            list.iter_mut().try_for_each(|item| restore(table, element, item))
        }
        Shape::Map { value: element, .. } => {
            let Value::Object(map) = value else { return Err(format!("cannot restore map from {go_kind}")) };
            map.values_mut().try_for_each(|item| restore(table, element, item))
        }
        Shape::RawExtension | Shape::Any | Shape::Deduced | Shape::FieldsV1 => Ok(()),
        _ => {
            let text = match value {
                Value::Number(number) => json_number(number),
                value => value.to_string(),
            };
            decode_part(table, kind, text.as_bytes()).map(|_| ()).map_err(|error| without_field(&error))
        }
    }
}

/// A whole number in a field of that width: what is above is lost, and what is beyond 64 bits is the least.
fn cut(shape: Shape, number: &Number) -> Option<Number> {
    let wide = match number.as_i64() {
        Some(wide) => wide,
        None => {
            let float = number.as_f64().filter(|float| *float == float.trunc())?;
            if (i64::MIN as f64..i64::MAX as f64).contains(&float) { float as i64 } else { i64::MIN }
        }
    };
    Some(match shape {
        Shape::Int32 => (wide as i32).into(),
        Shape::Uint32 => (wide as u32).into(),
        Shape::Uint64 => (wide as u64).into(),
        _ => wide.into(),
    })
}

/// As Go's JSON encoder writes a number.
fn json_number(number: &Number) -> String {
    match number.as_f64().filter(|float| number.is_f64() && float.abs() >= 1e-6 && float.abs() < 1e21) {
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

/// Integers beyond 64 bits are floating point to who reads JSON into a map.
pub(super) fn widen(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_i64().is_none() => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *number = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(widen),
        Value::Object(fields) => fields.values_mut().for_each(widen),
        _ => {}
    }
}

/// The error of a type with a decoder of its own, which is not told what field it decodes.
pub(super) fn without_field(error: &str) -> String {
    match error.split_once("Go struct field ") {
        Some((before, field)) => match field.split_once(" of type ") {
            Some((_, kind)) => format!("{before}Go value of type {kind}"),
            None => error.to_owned(),
        },
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupVersionKind;
    use serde_json::json;

    fn check(api_version: &str, kind: &str, value: Value, restored: Result<Value, &str>) {
        let schema = super::super::builtin_schema(&GroupVersionKind::from_api_version(api_version, kind));
        let schema = schema.expect("a kind");
        let mut got = value;
        widen(&mut got);
        let result = restore(&schema.table, schema.root, &mut got).map(|()| got);
        assert_eq!(result, restored.map_err(str::to_owned));
    }

    #[test]
    fn numbers_are_cut_to_the_width_of_their_field() {
        for (sent, kept) in [
            (json!(3.0), json!(3)),
            (json!(1e30), json!(0)),
            (json!(12345678901234567890_u64), json!(0)),
            (json!(4294967297_i64), json!(1)),
        ] {
            check(
                "apps/v1",
                "Deployment",
                json!({"spec": {"replicas": sent}}),
                Ok(json!({"spec": {"replicas": kept}})),
            );
        }
        let pod = |seconds: Value| json!({"spec": {"activeDeadlineSeconds": seconds}});
        check("v1", "Pod", pod(json!(1e30)), Ok(pod(json!(i64::MIN))));
        check("v1", "Pod", pod(json!(1.5)), Err("cannot convert float64 to int64"));
        check("v1", "Pod", pod(json!("1")), Err("unrecognized type: int64"));
    }

    #[test]
    fn types_with_a_decoder_of_their_own_speak_for_themselves() {
        let pod = |time: Value| json!({"metadata": {"creationTimestamp": time}});
        check("v1", "Pod", pod(json!(1)), Err("json: cannot unmarshal number into Go value of type string"));
        check("v1", "Pod", pod(json!(true)), Err("json: cannot unmarshal bool into Go value of type string"));
        let service = |port: Value| json!({"spec": {"ports": [{"targetPort": port}]}});
        let error = "json: cannot unmarshal number 12345678901234567000 into Go value of type int32";
        check("v1", "Service", service(json!(12345678901234567890_u64)), Err(error));
        let text = 12345678901234567890_u64;
        check("v1", "Pod", json!({"spec": {"hostname": text}}), Err("unrecognized type: string"));
        check("v1", "Pod", json!({"spec": {"hostname": 1}}), Err("cannot convert int64 to string"));
        let secret = json!({"data": {"a": "2024-01-01"}});
        check("v1", "Secret", secret, Err("error decoding from json: illegal base64 data at input byte 4"));
    }
}
