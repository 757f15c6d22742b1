//! The spec of a definition: names, versions, columns, subresources, conversion.
//!
//! Kubernetes checks an older form of it: what is the same in all versions stands at the top there,
//! and errors name that place.

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
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

pub fn validate(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    group(spec.str_at("group"), &path.child("group"), errors);
    one_of_required(spec.str_at("scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
    let versions = spec.list_at("versions");
    let given = spec.at("versions");
    let at_versions = path.child("versions");
    for (index, version) in versions.iter().enumerate() {
        if !version.at("schema").has("openAPIV3Schema") {
            errors.required(&at_versions.index(index).child("schema.openAPIV3Schema"), "");
        }
    }
    let shared = Shared::of(versions);
    for (index, version) in versions.iter().enumerate() {
        let path = at_versions.index(index);
        joined(version.str_at("name"), &path.child("name"), errors);
        deprecation(version, &path.child("deprecationWarning"), errors);
        shared.own(version, &path, errors);
        if !shared.selectable {
            selectable(version, &path.child("selectableFields"), errors);
        }
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
        shared.top(version, path, errors);
        if shared.selectable {
            selectable(version, &path.child("selectableFields"), errors);
        }
    }
    conversion(spec.at("conversion"), &path.child("conversion"), errors);
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
    fn own(&self, version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        if !self.schema {
            schema(version, &path.child("schema.openAPIV3Schema"), errors);
        }
        if !self.subresources {
            subresources(version.at("subresources"), &path.child("subresources"), errors);
        }
        if !self.columns {
            columns(version, path, errors);
        }
    }

    /// What all have in common.
    fn top(&self, version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        if self.schema {
            schema(version, &path.child("validation.openAPIV3Schema"), errors);
        }
        if self.subresources {
            subresources(version.at("subresources"), &path.child("subresources"), errors);
        }
        if self.columns {
            columns(version, path, errors);
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

fn schema(version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(schema) = version.at("schema").get_set("openAPIV3Schema") else { return };
    if version.at("subresources").has("status") && !["", "object"].contains(&schema.str_at("type")) {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&path.child("type"), schema.str_at("type"), detail);
    } else if version.at("subresources").has("status")
        && let Some(_) = schema.entries().iter().find(|(name, value)| !at_root(name) && !is_zero(value))
    {
        let detail = format!(
            "only [{AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(path, schema.clone(), detail);
    }
    if schema.bool_at("nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let mut own = ErrorList::new();
    structural::validate(schema, path, &mut own);
    json_schema::validate_root(schema, path, &mut own);
    if own.is_empty() {
        rules::check::validate(schema, path, &mut own);
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
fn selectable(version: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const LIMIT: usize = 8;
    let fields = version.list_at("selectableFields");
    if fields.is_empty() {
        return;
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
    if known.len() > LIMIT {
        errors.too_many(path, known.len(), LIMIT as i64);
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

fn conversion(conversion: &Value, path: &Path<'_>, errors: &mut ErrorList) {
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
        Some(client) => webhook_client::validate(client, &at_client, errors),
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
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(&list, webhook.at("conversionReviewVersions").clone(), detail);
    }
}
