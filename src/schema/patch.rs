//! A patch request: the object before it, the patch's bytes, the object after it.
//!
//! JSON and merge patches work on the object's JSON, which is then decoded like a body; strategic
//! merge patches by the type table. Server-side apply is in [`super::apply`], because it needs the
//! managers of fields.

use super::body::{Body, FieldValidation};
use super::decode::{DecodeError, Decoded, decode, normalize};
use super::go_print::go_print;
use super::restore::{restore, widen, without_field};
use super::scan::{Scanner, syntax_error};
use super::strategic::strategic_merge;
use super::table::Schema;
use crate::api::field::go_quote;
use crate::api::operations;
use crate::api::patch::{PatchType, json_patch, merge_patch};
use crate::api::value::json_kind;
use crate::api::{FieldError, GroupVersionKind, Path, Status};
use serde_json::{Map, Value};

/// Patch `original`, an object of `schema` as a client reads it (with resourceVersion). The result
/// is decoded and normal, its type as the schema says.
pub fn patch(
    schema: &Schema,
    original: &Value,
    bytes: &[u8],
    kind: PatchType,
    validation: FieldValidation,
) -> Result<Body, Status> {
    match kind {
        PatchType::Json => {
            let (operations, strict) = read_operations(bytes, validation).map_err(Status::bad_request)?;
            let patched = json_patch(original, &operations)?;
            // Operations can take away what an object is, and not make it none.
            if !patched.is_object() {
                return Err(crate::api::patch::rejected());
            }
            decode_patched(schema, original, patched, strict, validation)
        }
        PatchType::Merge => {
            let (patch, strict) = read_patch(bytes, validation).map_err(|error| match validation {
                // Who does not look closely is told less.
                FieldValidation::Ignore => Status::bad_request("Invalid JSON Patch"),
                _ => Status::bad_request(format!("error decoding patch: {error}")),
            })?;
            if bytes.trim_ascii() == b"null" {
                return Err(Status::bad_request("Invalid JSON Patch"));
            }
            let mut patched = original.clone();
            merge_patch(&mut patched, &patch);
            decode_patched(schema, original, patched, strict, validation)
        }
        PatchType::Strategic => {
            let (mut patch, strict) = read_patch(bytes, validation).map_err(Status::bad_request)?;
            widen(&mut patch);
            let shown = go_print(&patch);
            let patched = strategic_merge(schema, original.clone(), patch)?;
            match decode_changed(schema, original, patched) {
                Ok((decoded, _)) => finish(decoded.object, [strict, decoded.strict].concat(), validation, || shown),
                Err((mut patched, _)) => {
                    let restored = restore(&schema.table, schema.root, &mut patched)
                        .and_then(|()| normalize(schema, &patched).map_err(|DecodeError(error)| without_field(&error)));
                    match restored {
                        Ok(decoded) => finish(decoded.object, [strict, decoded.strict].concat(), validation, || shown),
                        Err(error) => Err(invalid_patch(&shown, &error)),
                    }
                }
            }
        }
        PatchType::Apply => Err(Status::internal("server-side apply is not a plain patch")),
    }
}

/// A patch that is an object, with the keys that come twice in it.
fn read_patch(bytes: &[u8], validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
    let mut strict = Vec::new();
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
            strict.push(format!("duplicate field {}", go_quote(&text)));
        })?;
        scanner.end().map(|()| value)
    };
    let value = read().map_err(|_| syntax_error(bytes).unwrap_or_else(|| "invalid JSON".to_owned()))?;
    if validation == FieldValidation::Ignore {
        strict.clear();
    }
    match value {
        Value::Object(_) => Ok((value, strict)),
        Value::Null => Ok((Value::Object(Default::default()), strict)),
        other => {
            let what = json_kind(&other);
            Err(format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"))
        }
    }
}

/// A JSON patch, with what a strict reader says of it. Err: it is no list of operations, in the
/// words of who reads it so closely.
pub fn read_operations(bytes: &[u8], validation: FieldValidation) -> Result<(Vec<Value>, Vec<String>), String> {
    let mut strict = Vec::new();
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
            // What is below a value is of any shape.
            if text.matches('.').count() == 1 {
                strict.push(format!("json patch duplicate field {}", go_quote(&text)));
            }
        })?;
        scanner.end().map(|()| value)
    };
    let read = read().map_err(|_| syntax_error(bytes).unwrap_or_else(|| "invalid JSON".to_owned()));
    if validation == FieldValidation::Ignore {
        return Ok((operations::of(read?)?, Vec::new()));
    }
    let operations = read.and_then(|patch| check_operations(patch, &mut strict));
    operations.map(|operations| (operations, strict)).map_err(|error| format!("error decoding patch: {error}"))
}

/// The members of operations are texts, and known.
fn check_operations(patch: Value, strict: &mut Vec<String>) -> Result<Vec<Value>, String> {
    let wrong = |value: &Value, what: &str| Err(format!("json: cannot unmarshal {} into Go {what}", json_kind(value)));
    let operations = match patch {
        Value::Array(operations) => operations,
        Value::Null => return Ok(Vec::new()),
        other => return wrong(&other, "value of type []handlers.jsonPatchOp"),
    };
    for (index, operation) in operations.iter().enumerate() {
        let fields = match operation {
            Value::Object(fields) => fields,
            Value::Null => continue,
            other => return wrong(other, "value of type handlers.jsonPatchOp"),
        };
        for (name, value) in fields {
            match name.as_str() {
                "op" | "path" | "from" if !value.is_string() && !value.is_null() => {
                    return wrong(value, &format!("struct field jsonPatchOp.{name} of type string"));
                }
                "op" | "path" | "from" | "value" => {}
                _ => strict.push(format!("json patch unknown field \"[{index}].{name}\"")),
            }
        }
    }
    Ok(operations)
}

fn decode_patched(
    schema: &Schema,
    original: &Value,
    patched: Value,
    strict: Vec<String>,
    validation: FieldValidation,
) -> Result<Body, Status> {
    let names: Vec<String> = patched.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let (mut decoded, changed) = decode_changed(schema, original, patched)
        .map_err(|(patched, DecodeError(error))| invalid_patch(&patched.to_string(), &error))?;
    // The patched object as it was before it was decoded; only errors show it.
    let shown = |object: &Value| {
        let mut all = changed.clone();
        for (name, value) in object.as_object().into_iter().flatten() {
            if names.contains(name) && all.get(name).is_none() && original.get(name) == Some(value) {
                all[name] = value.clone();
            }
        }
        all.to_string()
    };
    check_patched_kind(schema, &mut decoded, &names, &shown)?;
    let strict = [strict, decoded.strict].concat();
    if validation == FieldValidation::Strict && !strict.is_empty() {
        return Err(strict_error(&shown(&decoded.object), &strict));
    }
    finish(decoded.object, strict, validation, String::new)
}

/// Decodes what a patch made of `original`: only the fields that it changed, since the others were
/// decoded before. Beside the object come the changed fields as they were; on an error all of it
/// comes back.
pub(super) fn decode_changed(
    schema: &Schema,
    original: &Value,
    patched: Value,
) -> Result<(Decoded, Value), (Value, DecodeError)> {
    let Value::Object(fields) = patched else {
        let text = patched.to_string();
        return match decode(schema, text.as_bytes()) {
            Ok(decoded) => Ok((decoded, patched)),
            Err(error) => Err((patched, error)),
        };
    };
    let unchanged = |name: &str, value: &Value| {
        !matches!(name, "apiVersion" | "kind" | "metadata") && original.get(name) == Some(value)
    };
    let (kept, changed): (Map<_, _>, Map<_, _>) = fields.into_iter().partition(|(name, value)| unchanged(name, value));
    let changed = Value::Object(changed);
    match decode(schema, changed.to_string().as_bytes()) {
        Ok(mut decoded) => {
            if let Value::Object(fields) = &mut decoded.object {
                fields.extend(kept);
            }
            Ok((decoded, changed))
        }
        Err(error) => {
            let mut fields = kept;
            if let Value::Object(changed) = changed {
                fields.extend(changed);
            }
            Err((Value::Object(fields), error))
        }
    }
}

/// The patch left the object what it was. A built-in one may lose its kind; without a version it is read as
/// something without a name.
fn check_patched_kind(
    schema: &Schema,
    decoded: &mut Decoded,
    names: &[String],
    shown: &impl Fn(&Value) -> String,
) -> Result<(), Status> {
    let (kind, api_version) = (decoded.kind.as_str(), decoded.api_version.as_str());
    let (own_kind, own_version) = (schema.gvk.kind.as_str(), schema.gvk.api_version());
    if kind == own_kind && api_version == own_version {
        return Ok(());
    }
    let name = decoded.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if schema.structural.is_none() {
        if kind.is_empty() && api_version == own_version {
            return Ok(());
        }
        if api_version.is_empty() && (kind.is_empty() || kind == own_kind) {
            let unknown = names.iter().filter(|name| !matches!(name.as_str(), "apiVersion" | "kind"));
            decoded.strict = unknown.map(|name| format!("unknown field {}", go_quote(name))).collect();
            decoded.object = Value::Object(Map::new());
            return Ok(());
        }
    } else if kind.is_empty() {
        let object = shown(&decoded.object);
        return Err(invalid_patch(&object, &super::custom::missing_kind(object.as_bytes())));
    } else if api_version.is_empty() {
        return Err(Status::internal("Object 'apiVersion' is missing in 'object has no apiVersion field'"));
    } else {
        let mut errors = Vec::new();
        if kind != own_kind {
            errors.push(FieldError::invalid(&Path::new("kind"), kind, format!("must be {own_kind}")));
        }
        if api_version != own_version {
            errors.push(FieldError::invalid(&Path::new("apiVersion"), api_version, format!("must be {own_version}")));
        }
        return Err(Status::invalid(&GroupVersionKind::from_api_version(api_version, kind), name, &errors));
    }
    Err(invalid_patch(&shown(&decoded.object), &kind_error(schema, kind, api_version)))
}

/// The patch changed what the object is.
fn kind_error(schema: &Schema, kind: &str, api_version: &str) -> String {
    let gvk = GroupVersionKind::from_api_version(api_version, kind);
    if kind.is_empty() {
        return "Object 'Kind' is missing".to_owned();
    }
    if schema.structural.is_none() && super::builtin_schema(&gvk).is_none() {
        return format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
    }
    format!("unable to decode {gvk} into {}", schema.gvk)
}

fn finish(
    object: Value,
    strict: Vec<String>,
    validation: FieldValidation,
    shown: impl FnOnce() -> String,
) -> Result<Body, Status> {
    match validation {
        FieldValidation::Strict if !strict.is_empty() => Err(strict_error(&shown(), &strict)),
        FieldValidation::Ignore => Ok(Body { object, warnings: Vec::new() }),
        _ => Ok(Body { object, warnings: strict }),
    }
}

fn strict_error(shown: &str, strict: &[String]) -> Status {
    invalid_patch(shown, &format!("strict decoding error: {}", strict.join(", ")))
}

/// 422 about the field `patch` of an object without kind or name.
fn invalid_patch(shown: &str, error: &str) -> Status {
    let errors = vec![FieldError::invalid(&Path::new("patch"), shown, error)];
    Status::invalid(&GroupVersionKind::new("", "", ""), "", &errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: PatchType, patch: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
        let schema = super::super::builtin_schema(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("a kind");
        let original = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"replicas": 1, "selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
            "status": {}});
        super::patch(&schema, &original, patch.as_bytes(), kind, validation)
            .map(|mut body| (body.object["spec"]["replicas"].take(), body.warnings))
            .map_err(|status| format!("{} {}", status.code, status.message))
    }

    #[test]
    fn a_patched_object_is_decoded_again() {
        for kind in [PatchType::Merge, PatchType::Strategic] {
            let (replicas, warnings) =
                check(kind, r#"{"spec":{"replicas":3,"bogus":1,"replicas":4}}"#, FieldValidation::Warn)
                    .expect("patched");
            assert_eq!(replicas, 4);
            assert_eq!(warnings, ["duplicate field \"spec.replicas\"", "unknown field \"spec.bogus\""]);
        }
        let patch = r#"[{"op":"replace","path":"/spec/replicas","value":5}]"#;
        assert_eq!(check(PatchType::Json, patch, FieldValidation::Strict), Ok((json!(5), vec![])));
    }

    #[test]
    fn wrong_types_are_told_in_the_converters_words() {
        assert_eq!(
            check(PatchType::Strategic, r#"{"spec":{"replicas":"x"}}"#, FieldValidation::Warn),
            Err(r#"422  "" is invalid: patch: Invalid value: "map[spec:map[replicas:x]]": unrecognized type: int32"#
                .to_owned())
        );
        let error =
            check(PatchType::Merge, r#"{"spec":{"replicas":"x"}}"#, FieldValidation::Warn).expect_err("refused");
        assert!(
            error.ends_with(
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
            ),
            "{error}"
        );
        assert_eq!(
            check(PatchType::Merge, "{", FieldValidation::Warn),
            Err("400 error decoding patch: unexpected end of JSON input".to_owned())
        );
    }
}
