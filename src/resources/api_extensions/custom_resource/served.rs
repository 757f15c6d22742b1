//! A definition to the rows that it adds: one per served version.

use super::cells;
use super::scale::Scale;
use super::{CustomResource, Status};
use crate::api::jsonpath::Expression;
use crate::api::{Fields, GroupVersionKind};
use crate::resources::api_extensions::rules::Rules;
use crate::resources::registry::compare_versions;
use crate::resources::{Conversion, Resource, Selectable, Subresource, SubresourceHandler, Verb};
use crate::schema::Schema;
use crate::schema::custom::{Structural, compile};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// All verbs, in the order in which discovery lists those of custom resources.
const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];

/// The rows of a definition whose names are accepted. `terminating`: whether it is going away.
pub fn versions(
    definition: &Value,
    terminating: Arc<AtomicBool>,
    conversion: Option<Arc<dyn Conversion>>,
) -> Vec<(Resource, Schema)> {
    let spec = definition.at("spec");
    let names = definition.at("status").at("acceptedNames");
    let all: Vec<(&Value, Schema, Arc<Structural>)> =
        spec.list_at("versions").iter().map(|version| compiled(spec, names, version)).collect();
    let Some(stored) = all.iter().find(|(version, ..)| version.bool_at("storage")) else { return Vec::new() };
    let stored = stored.1.clone();
    all.into_iter()
        .filter(|(version, ..)| version.bool_at("served"))
        .map(|(version, schema, structural)| {
            let mut resource = row(spec, names, version, structural, &terminating);
            resource.stored_version = Some(stored.clone());
            resource.conversion = conversion.clone();
            (resource, schema)
        })
        .collect()
}

fn compiled<'v>(spec: &Value, names: &Value, version: &'v Value) -> (&'v Value, Schema, Arc<Structural>) {
    let gvk = GroupVersionKind::new(spec.str_at("group"), version.str_at("name"), names.str_at("kind"));
    let source = version.at("schema").at("openAPIV3Schema");
    let identity = json!([source, version.at("selectableFields")]);
    let schema = compile(&gvk, Structural::root(source), &identity);
    let structural = schema.structural.clone().expect("what was just compiled");
    (version, schema, structural)
}

fn row(
    spec: &Value,
    names: &Value,
    version: &Value,
    schema: Arc<Structural>,
    terminating: &Arc<AtomicBool>,
) -> Resource {
    let text = |value: &Value, field: &str| value.str_at(field).to_owned();
    let list = |field: &str| names.strs_at(field).map(|name| name.to_owned().into()).collect();
    let subresources = version.at("subresources");
    let status = subresources.has("status");
    let scale = subresources.get_set("scale").map(Scale::parse);
    let (columns, cells) = cells::columns(version);
    let selectable: Vec<Selectable> = version.list_at("selectableFields").iter().filter_map(selectable).collect();
    let rules = Arc::new(Rules::new(schema.clone()));
    let mut below = Vec::new();
    if status {
        below.push(Subresource::status());
    }
    if let Some(scale) = &scale {
        let handler = SubresourceHandler::Scale {
            spec_replicas: scale.spec.clone().into(),
            status_replicas: scale.status.clone().into(),
            selector: scale.selector.clone().map(Into::into),
        };
        below.push(Subresource { handler, ..Subresource::scale("") });
    }
    Resource {
        group: text(spec, "group").into(),
        version: text(version, "name").into(),
        kind: text(names, "kind").into(),
        list_kind: text(names, "listKind").into(),
        plural: text(names, "plural").into(),
        singular: text(names, "singular").into(),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: spec.str_at("scope") == "Namespaced",
        verbs: VERBS,
        subresources: below,
        status,
        generation: true,
        columns,
        deprecated: version.bool_at("deprecated").then(|| deprecation(spec, version).into()),
        strategy: Arc::new(CustomResource {
            status_strategy: Status { schema: schema.clone(), rules: rules.clone(), scale: scale.clone() },
            schema,
            rules,
            status,
            scale,
            cells,
            selectable,
            terminating: terminating.clone(),
        }),
        ..Resource::new("", "", "", "")
    }
}

fn selectable(field: &Value) -> Option<Selectable> {
    let path = field.str_at("jsonPath");
    Some(Selectable { path: path.trim_start_matches('.').to_owned(), read: Expression::parse(path).ok()? })
}

/// What replies of a deprecated version warn of.
fn deprecation(spec: &Value, version: &Value) -> String {
    if let Some(text) = version.optional_str("deprecationWarning") {
        return text.to_owned();
    }
    let (group, kind, name) = (spec.str_at("group"), spec.at("names").str_at("kind"), version.str_at("name"));
    let better = |other: &&Value| {
        other.bool_at("served")
            && !other.bool_at("deprecated")
            && compare_versions(other.str_at("name"), name) == std::cmp::Ordering::Less
    };
    let best = spec
        .list_at("versions")
        .iter()
        .filter(better)
        .map(|other| other.str_at("name"))
        .min_by(|a, b| compare_versions(a, b));
    let text = format!("{group}/{name} {kind} is deprecated");
    best.map_or_else(|| text.clone(), |best| format!("{text}; use {group}/{best} {kind}"))
}
