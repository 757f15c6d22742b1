//! `scale`: autoscaling/v1.Scale, read from and written to three paths of the parent.

use crate::api::patch::PatchType;
use crate::api::{FieldError, GroupVersionKind, Path, Status};
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::{WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::State;
use crate::apiserver::verbs::patch;
use crate::apiserver::verbs::write::{self, Change, Writer};
use crate::apiserver::verbs::{Call, served_verb_of};
use crate::apiserver::{audit, codec};
use crate::resources::pipeline::{metadata, metadata_str};
use crate::resources::{Row, SubresourceHandler, Verb};
use crate::schema;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// The three paths of a row.
pub struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: Option<&'a str>,
    /// Of a custom resource: that there are no replicas is told.
    custom: bool,
    /// Its definition says what replicas it takes.
    defined: bool,
}

/// Stands for replicas that the parent does not have.
const ABSENT: i64 = i32::MIN as i64;

/// Where a row has its scale.
pub fn paths(row: &Row) -> Option<Paths<'_>> {
    match &row.subresource("scale")?.handler {
        SubresourceHandler::Scale { spec_replicas, status_replicas, selector } => Some(Paths {
            spec: spec_replicas,
            status: status_replicas,
            selector: selector.as_deref(),
            custom: row.custom,
            defined: row.schema.as_ref().is_some_and(|schema| schema.structural.is_some()),
        }),
        _ => None,
    }
}

/// What admission made of the Scale, in its parent.
pub fn put(parent: &mut Value, scale: &Value, paths: &Paths<'_>) {
    if let Some(replicas) = scale["spec"]["replicas"].as_i64().filter(|replicas| at(parent, paths.spec) != *replicas) {
        set(parent, paths.spec, json!(replicas));
    }
}

pub async fn handle(call: Call<'_>) -> Result<Reply, Status> {
    let Some(paths) = paths(call.row) else { return Err(Status::internal("not a scale")) };
    match served_verb_of(call.info) {
        Some(Verb::Get) => get(call, &paths).await,
        Some(Verb::Update) => update(call, &paths).await,
        Some(Verb::Patch) => patch_scale(call, &paths).await,
        _ => Err(crate::apiserver::no_such_verb()),
    }
}

pub fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn scale_schema() -> Result<schema::Schema, Status> {
    super::schema_of(&scale_kind())
}

/// `.spec.replicas` of an object.
fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|step| !step.is_empty()).fold(object, |value, step| &value[step])
}

fn set(object: &mut Value, path: &str, value: Value) {
    let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    let mut target = object;
    for step in steps {
        if !target[step].is_object() && !target.is_object() {
            *target = json!({});
        }
        target = &mut target[step];
    }
    *target = value;
}

/// The Scale of a parent, with its resourceVersion.
pub fn of(parent: &Value, paths: &Paths<'_>) -> Value {
    let mut metadata = Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = parent["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    let mut spec = Map::new();
    let replicas = at(parent, paths.spec).as_i64().or(paths.custom.then_some(ABSENT));
    if let Some(replicas) = replicas.filter(|replicas| *replicas != 0) {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    let mut status = Map::new();
    status.insert("replicas".to_owned(), json!(at(parent, paths.status).as_i64().unwrap_or_default()));
    let selector = match paths.selector.map(|path| at(parent, path)) {
        Some(Value::String(text)) => text.clone(),
        Some(selector @ Value::Object(_)) => format_selector(selector),
        _ => String::new(),
    };
    if !selector.is_empty() {
        status.insert("selector".to_owned(), Value::String(selector));
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status })
}

/// A metav1.LabelSelector, or a plain map, as the text of a label selector.
fn format_selector(selector: &Value) -> String {
    let is_selector = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if is_selector { selector.get("matchLabels") } else { Some(selector) };
    let mut terms: Vec<(String, String)> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

async fn get(call: Call<'_>, paths: &Paths<'_>) -> Result<Reply, Status> {
    let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
    let Call { state, info, row, .. } = call;
    let entry = state.storage.get(&State::key(row, &info.namespace, &info.name));
    let entry = entry.ok_or_else(|| Status::not_found(&row.group_resource, &info.name))?;
    let entry = codec::converted(row, entry).await?;
    let mut parent = codec::parse(row, &entry.body);
    metadata(&mut parent).insert("resourceVersion".to_owned(), Value::String(entry.revision.0.to_string()));
    if paths.custom && at(&parent, paths.spec).as_i64().is_none() {
        let path = crate::api::field::go_quote(paths.spec);
        return Err(Status::internal(format!("the spec replicas field {path} does not exist")));
    }
    Ok(respond::object(StatusCode::OK, output, row, &of(&parent, paths)))
}

/// What the scale wants of the parent. What a custom resource takes is for its own rules to say.
fn validate(scale: &Value, paths: &Paths<'_>, name: &str) -> Result<i64, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas < 0 && !paths.defined {
        let root = Path::new("spec");
        let detail = "must be greater than or equal to 0";
        let error = FieldError::invalid(&root.child("replicas"), replicas, detail);
        return Err(Status::invalid(&scale_kind(), name, &vec![error]));
    }
    Ok(replicas)
}

/// The parent with the replicas of a scale; its version and uid are preconditions.
fn parent_of(parent: &Value, scale: &Value, paths: &Paths<'_>, name: &str) -> Result<Value, Status> {
    if paths.custom && scale["spec"]["replicas"] == ABSENT {
        let path = crate::api::field::go_quote(paths.spec);
        return Err(Status::bad_request(format!("the spec replicas field {path} cannot be empty")));
    }
    let replicas = validate(scale, paths, name)?;
    let mut next = parent.clone();
    set(&mut next, paths.spec, json!(replicas));
    let version = metadata_str(scale, "resourceVersion");
    if !version.is_empty() {
        metadata(&mut next).insert("resourceVersion".to_owned(), Value::String(version.to_owned()));
    }
    Ok(next)
}

async fn update(call: Call<'_>, paths: &Paths<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let options = WriteOptions::parse(query, WriteKind::Update)?;
    codec::media_type(&parts.headers)?;
    let body = codec::read(body).await?;
    let decoded = codec::decode(&scale_schema()?, &parts.headers, &body, options.validation)
        .map_err(|status| if paths.custom { unreadable(status) } else { status })?;
    let mut scale = decoded.object;
    audit::requested(&scale, |_| {});
    write::check_namespace(row, &mut scale, &info.namespace)?;
    write::check_name(&scale, &info.name, &info.namespace)?;
    let mut writer = Writer {
        state,
        row,
        user,
        namespace: &info.namespace,
        name: &info.name,
        subresource: "scale",
        kind: WriteKind::Update,
        manager: write::manager(&options, &parts.headers),
        options: &options,
        warnings: decoded.warnings,
        sent: bytes::Bytes::new(),
    };
    let uid = Some(metadata_str(&scale, "uid").to_owned()).filter(|uid| !uid.is_empty());
    let change: &mut Change = &mut |old, _| match old {
        Some(parent) => parent_of(parent, &scale, paths, &info.name),
        None => Err(Status::not_found(&row.group_resource, &info.name)),
    };
    let written = writer.update(uid.as_deref(), false, change).await?;
    let mut answer = respond::object(StatusCode::OK, output, row, &of(&written.object(), paths));
    respond::warn(&mut answer, &writer.warnings);
    Ok(answer)
}

/// The server of custom resources has no name for a Scale that does not read.
fn unreadable(status: Status) -> Status {
    if status.message.contains("strict decoding error") {
        return status;
    }
    let handler = "k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781";
    Status::bad_request(format!("no kind is registered for the type v1.Scale in scheme {handler:?}"))
}

/// It knows kinds of its own.
fn of_its_scheme(mut status: Status) -> Status {
    let replace = |text: &mut String| {
        *text = text.replace("pkg/api/legacyscheme/scheme.go:30", "k8s.io/client-go/scale/util.go:146");
    };
    replace(&mut status.message);
    status.details.iter_mut().flat_map(|details| &mut details.causes).for_each(|cause| replace(&mut cause.message));
    status
}

/// An applier's entry is as old as it was before, or has no time: a Scale has none.
fn keep_time(object: &mut Value, parent: &Value, manager: &str) {
    let is_own =
        |entry: &Value| entry["manager"] == manager && entry["operation"] == "Apply" && entry["subresource"] == "scale";
    let entries = |object: &Value| object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let known = entries(parent).into_iter().find(is_own);
    let mut entries = entries(object);
    for entry in entries.iter_mut().filter(|entry| is_own(entry)) {
        match known.as_ref().and_then(|known| known.get("time")) {
            Some(time) => entry["time"] = time.clone(),
            None => drop(entry.as_object_mut().and_then(|entry| entry.remove("time"))),
        }
    }
    if !entries.is_empty() {
        object["metadata"]["managedFields"] = Value::Array(entries);
    }
}

/// Others own the replicas of the Scale, as its applier sees it.
fn as_of_scale(mut status: Status, api_version: &str) -> Status {
    let (own, scale) = (format!(" using {api_version}"), format!(" using {}", scale_kind().api_version()));
    status.message = status.message.replace(&own, &scale);
    for cause in status.details.iter_mut().flat_map(|details| &mut details.causes) {
        cause.message = cause.message.replace(&own, &scale);
    }
    status
}

async fn patch_scale(call: Call<'_>, paths: &Paths<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let kind = patch::kind(&parts.headers, row.custom)?;
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let apply = kind == PatchType::Apply;
    let write_kind = WriteKind::Patch { apply };
    let options = WriteOptions::parse(query, write_kind)?;
    let body = codec::read(body).await?;
    audit::patched(&body);
    let scale_schema = scale_schema()?;
    let configuration = if apply { Some(codec::Configuration::read(&body, options.validation)?) } else { None };
    let mut writer = Writer {
        state,
        row,
        user,
        namespace: &info.namespace,
        name: &info.name,
        subresource: "scale",
        kind: write_kind,
        manager: write::manager(&options, &parts.headers),
        options: &options,
        warnings: Vec::new(),
        sent: bytes::Bytes::new(),
    };
    let manager = writer.manager.clone();
    let change: &mut Change = &mut |old, warnings| {
        let parent = old.ok_or_else(|| Status::not_found(&row.group_resource, &info.name))?;
        let Some(configuration) = &configuration else {
            let patched = schema::patch::patch(&scale_schema, &of(parent, paths), &body, kind, options.validation)
                .map_err(|status| if paths.custom { of_its_scheme(status) } else { status })?;
            warnings.extend(patched.warnings);
            write::check_name(&patched.object, &info.name, &info.namespace)?;
            return parent_of(parent, &patched.object, paths, &info.name);
        };
        // The fields of a Scale are fields of the parent, under the same manager.
        let scale = &configuration.object;
        schema::check_kind(&scale_schema, scale)?;
        warnings.extend(configuration.check()?);
        write::check_name(scale, &info.name, &info.namespace)?;
        let mut wanted = json!({
            "apiVersion": row.api_version,
            "kind": row.kind,
            "metadata": { "name": info.name, "namespace": info.namespace },
        });
        set(&mut wanted, paths.spec, json!(validate(scale, paths, &info.name)?));
        let write = schema::Write::new(&manager, "scale", &["status"]);
        let mut applied = codec::apply(row, Some(parent), &wanted, options.force, &write)
            .map_err(|status| as_of_scale(status, &row.api_version))?;
        keep_time(&mut applied, parent, &manager);
        Ok(applied)
    };
    let written = writer.update(None, false, change).await?;
    let mut answer = respond::object(StatusCode::OK, output, row, &of(&written.object(), paths));
    respond::warn(&mut answer, &writer.warnings);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_read_from_its_parent() {
        let parent = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}, {"key": "z", "operator": "DoesNotExist"}]
            }},
            "status": {}
        });
        let paths = Paths {
            spec: ".spec.replicas",
            status: ".status.replicas",
            selector: Some(".spec.selector"),
            custom: false,
            defined: false,
        };
        let scale = of(&parent, &paths);
        assert_eq!(scale["spec"], json!({"replicas": 3}));
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=web,tier in (a,b),!z"}));
        assert_eq!(scale["metadata"].get("labels"), None);
        let mut next = parent_of(&parent, &json!({"spec": {}}), &paths, "web").expect("zero is fine");
        assert_eq!(next["spec"]["replicas"], json!(0));
        set(&mut next, ".spec.size.count", json!(1));
        assert_eq!(next["spec"]["size"]["count"], json!(1));
    }
}
