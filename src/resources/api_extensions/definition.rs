//! The spec of a definition: names, versions, columns, subresources, conversion.
//!
//! Kubernetes checks an older form of it: what is the same in all versions stands at the top there,
//! and errors name that place.

use super::ratchet::{self, REVIEW_VERSIONS, SELECTABLE_LIMIT, Strictness};
use super::{json_schema, rules, structural};
use crate::api::field::go_quote;
use crate::api::names as syntax;
use crate::api::value::same;
use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use crate::resources::admission_registration::webhook_client;
use crate::schema::custom::{Structural, Type};
use serde_json::Value;

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// Fields of `JSONSchemaProps` that only a structural schema has.
const EXTENSIONS: &[&str] = &[
    "x-kubernetes-embedded-resource",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
];

pub fn validate(spec: &Value, mut strict: Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    group(spec.str_at("group"), &path.child("group"), errors);
    one_of_required(spec.str_at("scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
    let versions = spec.list_at("versions");
    let given = spec.at("versions");
    let at_versions = path.child("versions");
    let keeps_unknown = spec.bool_at("preserveUnknownFields");
    for (index, version) in versions.iter().enumerate() {
        let needed = strict.schemas || !keeps_unknown && version.bool_at("served");
        if needed && !version.at("schema").has("openAPIV3Schema") {
            let why = if strict.schemas { "" } else { "because otherwise all fields are pruned" };
            errors.required(&at_versions.index(index).child("schema.openAPIV3Schema"), why);
        }
    }
    let says = |fields: &[&str]| {
        let is_said = |schema: &Value| fields.iter().any(|field| schema.has(field));
        ratchet::schemas(spec).any(|schema| ratchet::anywhere(schema, &is_said))
    };
    let has_defaults = says(&["default"]);
    if has_defaults && keeps_unknown {
        let detail = "must be false in order to use defaults in the schema";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    strict.structural |= !keeps_unknown || has_defaults || says(EXTENSIONS);
    let shared = Shared::of(versions);
    for (index, version) in versions.iter().enumerate() {
        let path = at_versions.index(index);
        joined(version.str_at("name"), &path.child("name"), errors);
        deprecation(version, &path.child("deprecationWarning"), errors);
        shared.own(version, versions, &strict, &path, errors);
    }
    let names: Vec<&str> = versions.iter().map(|version| version.str_at("name")).collect();
    if names.iter().enumerate().any(|(index, name)| names[..index].contains(name)) {
        errors.push(shown(given, &shared, &at_versions, "must contain unique version names"));
    }
    if let Some(name) = names.first().filter(|name| !name.is_empty()) {
        joined(name, &path.child("version"), errors);
    }
    if versions.iter().filter(|version| version.bool_at("storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(shown(given, &shared, &at_versions, detail));
    }
    let at_names = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if spec.at("names").str_at(field).is_empty() {
            errors.required(&at_names.child(field), "");
        }
    }
    self::names(spec.at("names"), &at_names, errors);
    if let Some(version) = versions.first() {
        shared.top(version, versions, &strict, path, errors);
    }
    let at_conversion = path.child("conversion");
    let strategy = spec.at("conversion").str_at("strategy");
    if strategy != "None" && keeps_unknown {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.invalid(&at_conversion.child("strategy"), strategy, detail);
    }
    conversion(spec.at("conversion"), &strict, &at_conversion, errors);
}

/// Which parts of the versions are the same in all of them.
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    fn of(versions: &[Value]) -> Self {
        let all = |field: &str| versions.windows(2).all(|pair| same(pair[0].at(field), pair[1].at(field)));
        Self {
            schema: all("schema"),
            subresources: all("subresources"),
            columns: all("additionalPrinterColumns"),
            selectable: all("selectableFields"),
        }
    }

    /// What a version has for itself.
    fn own(&self, version: &Value, all: &[Value], strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
        if !self.schema {
            // A name that is there twice is the first's.
            let named = all.iter().find(|other| other.str_at("name") == version.str_at("name"));
            let has_status = named.unwrap_or(version).at("subresources").has("status");
            schema(version, has_status, strict, &path.child("schema.openAPIV3Schema"), errors);
        }
        if !self.subresources {
            subresources(version.at("subresources"), &path.child("subresources"), errors);
        }
        if !self.columns {
            columns(version, path, errors);
        }
        if !self.selectable {
            let apart = "may only be set when `version.schema.openAPIV3Schema` is not included";
            let is_apart = self.schema || !version.at("schema").has("openAPIV3Schema");
            selectable(version, is_apart.then_some(apart), strict, &path.child("selectableFields"), errors);
        }
    }

    /// What all have in common.
    fn top(&self, version: &Value, all: &[Value], strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
        if self.schema {
            let has_status = all.iter().any(|version| version.at("subresources").has("status"));
            schema(version, has_status, strict, &path.child("validation.openAPIV3Schema"), errors);
        }
        if self.subresources {
            subresources(version.at("subresources"), &path.child("subresources"), errors);
        }
        if self.columns {
            columns(version, path, errors);
        }
        if self.selectable {
            let apart = "may only be set when validations.schema is included";
            let is_apart = !self.schema || !version.has("schema");
            selectable(version, is_apart.then_some(apart), strict, &path.child("selectableFields"), errors);
        }
    }
}

/// The versions as Go writes the internal type, without what stands at the top.
fn shown(versions: &Value, shared: &Shared, path: &Path<'_>, detail: &str) -> FieldError {
    if versions.items().is_empty() {
        return FieldError::invalid(path, versions.clone(), detail);
    }
    let part = |shared: bool, value: &Value| if shared { "null".to_owned() } else { value.to_string() };
    let texts: Vec<String> = versions
        .items()
        .iter()
        .map(|version| {
            format!(
                "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
                go_quote(version.str_at("name")),
                version.bool_at("served"),
                version.bool_at("storage"),
                version.bool_at("deprecated"),
                version.at("deprecationWarning"),
                part(shared.schema, version.at("schema")),
                part(shared.subresources, version.at("subresources")),
                part(shared.columns, version.at("additionalPrinterColumns")),
                version.at("selectableFields"),
            )
        })
        .collect();
    FieldError { shown: Some(format!("[{}]", texts.join(","))), ..FieldError::invalid(path, Value::Null, detail) }
}

/// All messages about a DNS-1035 label in one error.
fn joined(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let messages = syntax::dns_1035_label(name);
    if !messages.is_empty() {
        errors.invalid(path, name, messages.join(","));
    }
}

fn one_of_required(value: &str, known: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        errors.one_of(path, value, known);
    }
}

fn group(group: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if group.is_empty() {
        return errors.required(path, "");
    }
    let messages = syntax::dns_subdomain(group);
    if !messages.is_empty() {
        errors.invalid(path, group, messages.join(","));
    } else if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

/// Names in a spec or in a status; empty ones are not looked at.
pub fn names(names: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["plural", "singular"] {
        if !names.str_at(field).is_empty() {
            joined(names.str_at(field), &path.child(field), errors);
        }
    }
    for field in ["kind", "listKind"] {
        let kind = names.str_at(field);
        let messages = syntax::dns_1035_label(&kind.to_lowercase());
        if !kind.is_empty() && !messages.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
            errors.invalid(&path.child(field), kind, detail);
        }
    }
    for (index, name) in names.strs_at("shortNames").enumerate() {
        joined(name, &path.child("shortNames").index(index), errors);
    }
    if !names.str_at("kind").is_empty() && names.str_at("kind") == names.str_at("listKind") {
        let detail = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), names.str_at("listKind"), detail);
    }
    for (index, name) in names.strs_at("categories").enumerate() {
        joined(name, &path.child("categories").index(index), errors);
    }
}

fn schema(version: &Value, has_status: bool, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(schema) = version.at("schema").get_set("openAPIV3Schema") else { return };
    let strict = &strict.of_version(version.str_at("name"));
    if has_status && !["", "object"].contains(&schema.str_at("type")) {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&path.child("type"), schema.str_at("type"), detail);
    } else if has_status && schema.entries().iter().any(|(name, value)| !at_root(name) && is_said(name, value)) {
        let detail = format!(
            "only [{AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(path, schema.clone(), detail);
    }
    if schema.bool_at("nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let mut own = ErrorList::new();
    if strict.structural {
        structural::validate(schema, strict, path, &mut own);
    }
    let is_structural = strict.structural && own.is_empty();
    let before = own.len();
    json_schema::validate_root(schema, strict, path, &mut own);
    if is_structural {
        let wrong: Vec<String> = own[before..].iter().map(|error| error.field.clone()).collect();
        rules::check::validate(schema, &wrong, strict, path, &mut own);
    }
    errors.append(&mut own);
}

/// What the schema of a kind with a status may say at its root: all of it holds for the status alone, too.
const AT_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
    Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
    XPreserveUnknownFields XValidations";

fn at_root(field: &str) -> bool {
    let name = match field {
        "x-kubernetes-preserve-unknown-fields" => "XPreserveUnknownFields",
        "x-kubernetes-validations" => "XValidations",
        field => field,
    };
    AT_ROOT.split(' ').any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a field of a schema is there in Go: an empty list is, an empty text mostly is not.
fn is_said(field: &str, value: &Value) -> bool {
    const POINTERS: &[&str] = &["$ref", "x-kubernetes-list-type", "x-kubernetes-map-type"];
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag || matches!(field, "additionalProperties" | "additionalItems"),
        Value::String(text) => !text.is_empty() || POINTERS.contains(&field),
        _ => true,
    }
}

/// As Go leaves a field that is not set.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

/// What a version warns of, where it does.
fn deprecation(version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const LIMIT: usize = 256;
    let Some(text) = version.optional_str("deprecationWarning") else { return };
    if !version.bool_at("deprecated") {
        return errors.invalid(path, text, "can only be set for deprecated versions");
    }
    if text.len() > LIMIT {
        errors.invalid(path, text, format!("must be <= {LIMIT} characters long"));
    }
    if text.is_empty() {
        errors.invalid(path, text, "must not be an empty string");
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() && *c != ' ') {
        let what = "must only contain printable UTF-8 characters; non-printable character found at index";
        errors.invalid(path, text, format!("{what} {at}"));
    }
}

/// Fields that objects can be selected by: of a simple type, outside metadata, each once.
/// `apart`: what is said where the schema stands elsewhere.
fn selectable(version: &Value, apart: Option<&str>, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    let fields = version.list_at("selectableFields");
    if fields.is_empty() {
        return;
    }
    if let Some(detail) = apart {
        return errors.invalid(path, "", detail);
    }
    let schema = Structural::parse(version.at("schema").at("openAPIV3Schema"));
    let mut known: Vec<Vec<String>> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index);
        let path = at.child("jsonPath");
        let text = field.str_at("jsonPath");
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let (steps, node) = match rules::at_path(text, &schema, false) {
            Ok(found) => found,
            Err(error) => {
                errors.invalid(&path, text, format!("is an invalid path: {error}"));
                continue;
            }
        };
        if steps.first().is_some_and(|step| step == "metadata") {
            errors.invalid(&path, text, "must not point to fields in metadata");
        }
        if !matches!(node.kind, Some(Type::String | Type::Boolean | Type::Integer)) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(&path, text, detail);
        }
        if known.contains(&steps) {
            errors.duplicate(&path, text);
        } else {
            known.push(steps);
        }
    }
    if known.len() > SELECTABLE_LIMIT && !strict.may_be_crowded(version.str_at("name")) {
        errors.too_many(path, known.len(), SELECTABLE_LIMIT as i64);
    }
}

/// A path such as `.spec.replicas`; None where it is one.
fn json_path_error(text: &str) -> Option<&'static str> {
    (!text.starts_with('.')).then_some("must be a simple json path starting with .")
}

fn columns(version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("additionalPrinterColumns");
    for (index, column) in version.list_at("additionalPrinterColumns").iter().enumerate() {
        let path = list.index(index);
        if column.str_at("name").is_empty() {
            errors.required(&path.child("name"), "");
        }
        let kinds = format!("must be one of {}", COLUMN_TYPES.join(","));
        match column.str_at("type") {
            "" => errors.required(&path.child("type"), kinds),
            kind if !COLUMN_TYPES.contains(&kind) => errors.invalid(&path.child("type"), kind, kinds),
            _ => {}
        }
        let format = column.str_at("format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.invalid(&path.child("format"), format, detail);
        }
        let at_path = path.child("JSONPath");
        match column.str_at("jsonPath") {
            "" => errors.required(&at_path, ""),
            text => {
                if let Some(error) = json_path_error(text) {
                    errors.invalid(&at_path, text, error);
                }
            }
        }
    }
}

fn subresources(subresources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(scale) = subresources.get_set("scale") else { return };
    let path = path.child("scale");
    for (field, root, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", ".", false),
    ] {
        let at_path = path.child(field);
        match scale.str_at(field) {
            "" if required => errors.required(&at_path, ""),
            "" => {}
            text => match json_path_error(text) {
                Some(error) => errors.invalid(&at_path, text, error),
                None if required && !text.starts_with(root) => {
                    let detail = format!("should be a json path under {}", root.trim_end_matches('.'));
                    errors.invalid(&at_path, text, detail);
                }
                None if !required && !text.starts_with(".spec.") && !text.starts_with(".status.") => {
                    errors.invalid(&at_path, text, "should be a json path under either .spec or .status");
                }
                None => {}
            },
        }
    }
}

fn conversion(conversion: &Value, strict: &Strictness, path: &Path<'_>, errors: &mut ErrorList) {
    let strategy = conversion.str_at("strategy");
    one_of_required(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let webhook = conversion.at("webhook");
    if strategy != "Webhook" {
        if webhook.has("clientConfig") {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.forbidden(&path.child("webhookClientConfig"), detail);
        }
        if !webhook.list_at("conversionReviewVersions").is_empty() {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.forbidden(&path.child("conversionReviewVersions"), detail);
        }
        return;
    }
    let at_client = path.child("webhookClientConfig");
    match webhook.get_set("clientConfig") {
        None => errors.required(&at_client, "required when strategy is set to Webhook"),
        Some(client) => {
            webhook_client::validate(client, &at_client, errors);
            let bundle = client.str_at("caBundle");
            if strict.ca_bundle && !bundle.is_empty() && !webhook_client::ca_bundle_reads(bundle) {
                let detail = "unable to load root certificates: unable to parse bytes as PEM block";
                errors.invalid(&at_client.child("caBundle"), bundle, detail);
            }
        }
    }
    let list = path.child("conversionReviewVersions");
    let versions: Vec<&str> = webhook.strs_at("conversionReviewVersions").collect();
    if versions.is_empty() {
        return errors.required(&list, "");
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.invalid(&list.index(index), *version, "duplicate version");
        } else {
            joined(version, &list.index(index), errors);
        }
    }
    if strict.review_versions && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(&list, webhook.at("conversionReviewVersions").clone(), detail);
    }
}
