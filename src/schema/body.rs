//! A request's body to an object of the endpoint's kind: media types, field validation, and the
//! 400 that says what is wrong.

use super::decode::{DecodeError, Decoded, decode};
use super::scan;
use super::table::{Schema, builtin};
use crate::api::field::go_quote;
use crate::api::gvk::split_api_version;
use crate::api::value::json_kind;
use crate::api::{FieldError, GroupVersionKind, Path, Status};
use serde_json::Value;

/// `fieldValidation` of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// The query parameter; empty: the default.
    pub fn from_query(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
    Protobuf,
}

impl MediaType {
    /// Of a `Content-Type`, without its parameters.
    pub fn from_content_type(text: &str) -> Option<Self> {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// The object of a request, and the texts of its `Warning:` headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Decode a body for an endpoint of kind `schema.gvk`. A body without `kind` or `apiVersion` is
/// taken as of that kind; one of another kind is refused.
pub fn decode_body(
    schema: &Schema,
    body: &[u8],
    media: MediaType,
    validation: FieldValidation,
) -> Result<Body, Status> {
    let converted;
    let mut yaml_duplicates = Vec::new();
    let json = match media {
        MediaType::Json => body,
        MediaType::Yaml => match super::yaml::to_json(body) {
            Ok(yaml) => {
                converted = yaml.json;
                yaml_duplicates = yaml.duplicates;
                &converted
            }
            Err(error) => return Err(unrecognized(schema, &error, body)),
        },
        MediaType::Protobuf => return super::protobuf::decode_body(schema, body),
    };
    // Nearly every body is of the endpoint's kind: one pass. The rest is read again to say why not.
    let Decoded { object, strict, kind, api_version } = match decode(schema, json) {
        Ok(decoded) if matches(schema, json, &decoded) => decoded,
        result => return Err(explain(schema, json, body, result)),
    };
    let (gvk, strict) = ((kind, api_version), [yaml_duplicates, strict].concat());
    if validation == FieldValidation::Strict && !strict.is_empty() {
        let gvk = with_defaults(schema, &gvk.0, &gvk.1);
        return Err(cannot_be_handled(schema, &gvk, &format!("strict decoding error: {}", strict.join(", "))));
    }
    let warnings = if validation == FieldValidation::Ignore { Vec::new() } else { warnings(strict) };
    Ok(Body { object, warnings })
}

/// What a strict reader finds, as the texts of warnings: those of YAML stand alone there.
pub fn warnings(strict: Vec<String>) -> Vec<String> {
    let own = |text: String| match text.strip_prefix("yaml: unmarshal errors:\n  ") {
        Some(line) => line.to_owned(),
        None => text,
    };
    strict.into_iter().map(own).collect()
}

/// Why nothing can be read of a body, whatever it is for. None: something can.
pub fn unreadable(body: &[u8], media: MediaType) -> Option<String> {
    match media {
        MediaType::Json => kind_of(body).err(),
        MediaType::Yaml => match super::yaml::to_json(body) {
            Ok(yaml) => kind_of(&yaml.json).err(),
            Err(error) => Some(error),
        },
        MediaType::Protobuf => super::protobuf::open(body).err().map(|error| error.0.to_owned()),
    }
}

fn matches(schema: &Schema, json: &[u8], decoded: &Decoded) -> bool {
    if schema.structural.is_some() {
        // An object without a type is told what is missing.
        return decoded.kind == schema.gvk.kind && decoded.api_version == schema.gvk.api_version();
    }
    let (group, version) = split_api_version(&decoded.api_version);
    // Keys in other letters say it, too: then the text is read again.
    let says_more = |name: &str| decoded.strict.iter().any(|text| text.eq_ignore_ascii_case(name));
    if says_more("unknown field \"kind\"") || says_more("unknown field \"apiVersion\"") {
        return kind_of(json).is_ok_and(|(kind, version)| with_defaults(schema, &kind, &version) == schema.gvk);
    }
    (decoded.kind.is_empty() || decoded.kind == schema.gvk.kind)
        && (version.is_empty() && group.is_empty() || group == schema.gvk.group && version == schema.gvk.version)
}

/// The kind that a body is read as: what it does not say is the endpoint's.
pub(super) fn with_defaults(schema: &Schema, kind: &str, api_version: &str) -> GroupVersionKind {
    let (group, version) = split_api_version(api_version);
    let default = &schema.gvk;
    let kind = if kind.is_empty() { &default.kind } else { kind };
    if group.is_empty() && version.is_empty() {
        GroupVersionKind::new(&default.group, &default.version, kind)
    } else if version.is_empty() && group == default.group {
        GroupVersionKind::new(group, &default.version, kind)
    } else {
        GroupVersionKind::new(group, version, kind)
    }
}

pub(super) fn cannot_be_handled(schema: &Schema, gvk: &GroupVersionKind, error: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {} cannot be handled as a {}: {error}",
        gvk.kind,
        go_quote(&gvk.version),
        schema.gvk.kind
    ))
}

pub(super) fn unrecognized(schema: &Schema, error: &str, body: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {error} ({})",
        schema.gvk.kind,
        summarize(body)
    ))
}

/// The start of a body that is not text of an object, as Kubernetes shows it.
fn summarize(body: &[u8]) -> String {
    const LIMIT: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    if body[0] == b'{' {
        let shown = &body[..body.len().min(LIMIT)];
        let text = String::from_utf8_lossy(shown).into_owned();
        return if body.len() > LIMIT { format!("{text} ...") } else { text };
    }
    let shown = &body[..body.len().min(LIMIT)];
    let text: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    if body.len() > LIMIT { format!("{text} ...") } else { text }
}

/// Why a body did not decode as the endpoint's kind, in the order in which Kubernetes looks.
fn explain(schema: &Schema, json: &[u8], body: &[u8], result: Result<Decoded, DecodeError>) -> Status {
    let (kind, api_version) = match kind_of(json) {
        Ok(found) => found,
        Err(error) => return unrecognized(schema, &error, body),
    };
    if api_version.matches('/').count() > 1 {
        return unrecognized(schema, &format!("unexpected GroupVersion string: {api_version}"), body);
    }
    if schema.structural.is_some() {
        return explain_custom(schema, body, &kind, &api_version, result);
    }
    let gvk = with_defaults(schema, &kind, &api_version);
    if gvk == schema.gvk {
        let error = result.err().map_or_else(String::new, |error| error.0);
        return cannot_be_handled(schema, &gvk, &error);
    }
    if let Some(actual) = builtin().schema(&gvk)
        && let Err(DecodeError(error)) = decode(&actual, json)
    {
        return cannot_be_handled(schema, &gvk, &error);
    }
    other_kind(schema, &gvk)
}

/// As [`explain`], of a custom resource: any kind decodes, and another one is invalid.
fn explain_custom(
    schema: &Schema,
    body: &[u8],
    kind: &str,
    api_version: &str,
    result: Result<Decoded, DecodeError>,
) -> Status {
    if kind.is_empty() {
        return unrecognized(schema, &super::custom::missing_kind(body), body);
    }
    let decoded = match result {
        Ok(decoded) => decoded,
        Err(DecodeError(error)) => {
            let gvk = GroupVersionKind::from_api_version(api_version, kind);
            return cannot_be_handled(schema, &gvk, &error);
        }
    };
    let expected = schema.gvk.api_version();
    if api_version != expected {
        return Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        ));
    }
    let name = decoded.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let detail = format!("must be {}", schema.gvk.kind);
    let error = FieldError::invalid(&Path::new("kind"), kind, detail);
    Status::invalid(&GroupVersionKind::from_api_version(api_version, kind), name, &vec![error])
}

/// A body of another kind, or of another version, than the endpoint's.
pub(super) fn other_kind(schema: &Schema, gvk: &GroupVersionKind) -> Status {
    let Some(actual) = builtin().schema(gvk) else {
        let error = format!(
            "no kind {} is registered for version {} in scheme {}",
            go_quote(&gvk.kind),
            go_quote(&gvk.api_version()),
            go_quote(scheme_of(&schema.gvk.group))
        );
        return cannot_be_handled(schema, gvk, &error);
    };
    if gvk.group == schema.gvk.group && gvk.kind == schema.gvk.kind {
        return Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            gvk.api_version(),
            schema.gvk.api_version()
        ));
    }
    let error = format!(
        "converting ({}) to ({}.{}): unknown conversion",
        actual.table.go_name(actual.root),
        internal_package(schema),
        schema.gvk.kind
    );
    cannot_be_handled(schema, gvk, &error)
}

/// Where Kubernetes declares the registry of a group's kinds: part of its text.
fn scheme_of(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    }
}

/// Go's package of the unversioned type: `core`, `rbac`.
fn internal_package(schema: &Schema) -> &str {
    let package = builtin().package_of(&schema.gvk.group, &schema.gvk.version).unwrap_or_default();
    package.split('/').next().unwrap_or_default()
}

/// `kind` and `apiVersion` of a body, before it is known what else is in it.
fn kind_of(json: &[u8]) -> Result<(String, String), String> {
    let failed = |error: &str| format!("couldn't get version/kind; json parse error: {error}");
    let value = scan::parse(json).map_err(|error| failed(&error))?;
    let object = match &value {
        Value::Object(object) => object,
        Value::Null => return Ok((String::new(), String::new())),
        other => {
            let what = json_kind(other);
            return Err(failed(&format!(
                "json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            )));
        }
    };
    // Go's reader does not look at case.
    let of = |key: &str| {
        object
            .get(key)
            .or_else(|| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))
    };
    let text = |key: &str| match of(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(failed(&format!(
            "json: cannot unmarshal {} into Go struct field .{key} of type string",
            json_kind(other)
        ))),
    };
    // The first in the text is the one that is told; most often there is one.
    Ok((text("kind")?, text("apiVersion")?))
}
