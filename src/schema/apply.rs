//! Server-side apply: lay a configuration over the live object, own its fields, let go of those
//! that it no longer names.

use super::decode::{DecodeError, normalize, zero_object};
use super::fields::FieldSet;
use super::managed::{self, Changes, Manager, Operation, Version, Write};
use super::owned::Fields;
use super::patch::decode_changed;
use super::restore::{restore, widen, without_field};
use super::scalars::format_time;
use super::table::Schema;
use super::typed::{MANAGED_FIELDS, Typed};
use crate::api::field::go_quote;
use crate::api::status::StatusCause;
use crate::api::value::json_kind;
use crate::api::{GroupVersionKind, Status};
use serde_json::{Map, Value};

/// The annotation of client-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Owner of the fields of an object that nobody tracked before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The body of an apply patch, YAML or JSON. Duplicate keys come as texts for field validation.
pub fn read_configuration(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let failed = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
    let (value, strict) =
        super::yaml::parse_strict(bytes).map_err(|error| failed(format!("error converting YAML to JSON: {error}")))?;
    match value {
        Value::Object(_) => {
            let mut value = value;
            widen(&mut value);
            Ok((value, strict))
        }
        Value::Null => Ok((Value::Object(Default::default()), strict)),
        other => {
            let what = json_kind(&other);
            let error = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
            Err(failed(format!("error unmarshaling JSON: while decoding JSON: {error}")))
        }
    }
}

/// 400 for a configuration of another kind.
pub fn check_kind(schema: &Schema, configuration: &Value) -> Result<(), Status> {
    let gvk = GroupVersionKind::from_api_version(
        configuration["apiVersion"].as_str().unwrap_or_default(),
        configuration["kind"].as_str().unwrap_or_default(),
    );
    if gvk != schema.gvk {
        return Err(Status::bad_request(format!("invalid object type: {gvk}")));
    }
    if has_managers(schema, configuration) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let errors = Typed { table: &schema.table }.validate(schema.root, configuration);
    if errors.is_empty() { Ok(()) } else { Err(not_typed(configuration, &gvk, &errors)) }
}

/// Whether a configuration has entries of managedFields, or an empty list of them. What does not read as such
/// is for the schema to refuse.
fn has_managers(schema: &Schema, configuration: &Value) -> bool {
    let entries = configuration.pointer("/metadata/managedFields").and_then(Value::as_array);
    let kind = schema.at_steps(["metadata", "managedFields", "0"].into_iter());
    entries.is_some_and(|entries| {
        entries.iter().all(|entry| {
            let mut entry = entry.clone();
            entry.is_object() && kind.is_none_or(|kind| restore(&schema.table, kind, &mut entry).is_ok())
        })
    })
}

/// Apply `configuration` (see [`read_configuration`]) to `live`; None: there is no object yet.
/// The result is decoded and not yet defaulted. `force` takes fields from others.
///
/// Nothing changed but the time of the entry: the result equals `live`.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    configuration: &Value,
    force: bool,
    write: &Write,
) -> Result<Value, Status> {
    check_kind(schema, configuration)?;
    let typed = Typed { table: &schema.table };
    let applied = Applied { schema, typed, configuration, write };
    let mut managers = live
        .map_or(Some(Vec::new()), managed::read)
        .ok_or_else(|| Status::failure(500, "", "failed to decode managed fields: invalid entry"))?;
    let zero = zero_object(schema);
    let live_object = live.unwrap_or(&zero);
    if managers.is_empty() && live.is_some() {
        let before = Write { manager: BEFORE_FIRST_APPLY, ..*write };
        let comparison = typed.compare(schema.root, &zero, live_object);
        managed::update(&mut managers, comparison, &schema.gvk.api_version(), &before, (&zero, live_object));
    }
    let time = managers.iter().find(|manager| is_own(manager, write)).map(|manager| manager.time.clone());
    let kept = (write.manager == "kubectl").then(|| managers.clone());
    let outcome = match (applied.run(live_object, managers, force), kept) {
        // A user of client-side apply moves over: what kubectl applied before is its own.
        (Err(Conflicts(conflicts)), Some(managers)) => {
            let all = conflicts.iter().fold(FieldSet::default(), |all, (_, set)| all.union(set.clone()));
            if all.difference(&applied.last_applied(live_object)).is_empty() {
                applied.run(live_object, managers, true)
            } else {
                Err(Conflicts(conflicts))
            }
        }
        (outcome, _) => outcome,
    };
    let Outcome { mut object, mut managers, changed } = outcome.map_err(|Conflicts(conflicts)| conflict(&conflicts))?;
    if live.is_some() && !changed {
        // An entry of an apply that changed no field is as old as it was; a new one has no time.
        if let Some(entry) = managers.iter_mut().find(|manager| is_own(manager, write)) {
            entry.time = time.unwrap_or_default();
        }
    }
    if write.manager == "kubectl" {
        update_last_applied(&mut object, configuration);
    }
    let decoded = match (&schema.structural, live) {
        // What is null in it is not taken for absent.
        (Some(structural), _) => super::custom::decode_applied(schema, structural, object.to_string().as_bytes())
            .map_err(|error| (object, error)),
        (None, live) => decode_changed(schema, live.unwrap_or(&zero), object).map(|(decoded, _)| decoded),
    };
    let restored = decoded.or_else(|(mut object, DecodeError(error))| {
        restore(&schema.table, schema.root, &mut object)?;
        // A custom resource has no other form than the one that was refused.
        if schema.structural.is_some() {
            return Err(without_field(&error));
        }
        normalize(schema, &object).map_err(|DecodeError(error)| without_field(&error))
    });
    let mut object = restored.map_err(|error| not_converted(schema, configuration, &error))?.object;
    managed::write(&mut object, managers);
    Ok(match live {
        Some(live) if !changed && same_but_times(live, &object) => live.clone(),
        _ => object,
    })
}

/// Whether an entry is that of this applier, in whatever version.
fn is_own(manager: &Manager<'_>, write: &Write) -> bool {
    manager.is(write.manager, Operation::Apply, "", write.subresource)
}

/// 500 about a value that the kind's fields do not take.
fn not_converted(schema: &Schema, configuration: &Value, error: &str) -> Status {
    let object = shown(configuration, &schema.gvk);
    let unable = format!("unable to convert unstructured object to {}", schema.gvk);
    Status::failure(500, "", format!("failed to convert new object ({object}) to proper version: {unable}: {error}"))
}

/// `namespace/name; group/version, Kind=kind`
fn shown(configuration: &Value, gvk: &GroupVersionKind) -> String {
    let text = |path: &str| configuration.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}; {gvk}", text("/metadata/namespace"), text("/metadata/name"))
}

/// What merging `patch` into `live` gives, without owners: how policies apply what they compute.
/// Err: the patch is not of the type, or would replace a list or map that is one value.
pub fn merge_applied(schema: &Schema, live: &Value, patch: &Value) -> Result<Value, String> {
    let typed = Typed { table: &schema.table };
    if let Some(error) = typed.validate(schema.root, patch).into_iter().next() {
        return Err(format!("error applying patch: failed to convert patch object to typed object: {error}"));
    }
    let atomics = typed.atomics(schema.root, patch);
    if !atomics.is_empty() {
        let paths = atomics.join(", ");
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"
        ));
    }
    Ok(typed.merge(schema.root, live, patch))
}

struct Applied<'a> {
    schema: &'a Schema,
    typed: Typed<'a>,
    configuration: &'a Value,
    write: &'a Write<'a>,
}

/// What an apply makes of an object, before it is decoded.
struct Outcome<'v> {
    /// Without managers.
    object: Value,
    managers: Vec<Manager<'v>>,
    /// Whether a field differs from the live object, or the order of elements.
    changed: bool,
}

/// Who owns what of the fields that would change.
struct Conflicts<'v>(Vec<(Manager<'v>, FieldSet)>);

impl Applied<'_> {
    fn run<'v>(&self, live: &Value, mut managers: Vec<Manager<'v>>, force: bool) -> Result<Outcome<'v>, Conflicts<'v>> {
        let (typed, root, write) = (self.typed, self.schema.root, self.write);
        let api_version = self.schema.gvk.api_version();
        let ignored = FieldSet::from_paths(write.ignored);
        let at = managers.iter().position(|m| m.is(write.manager, Operation::Apply, &api_version, write.subresource));
        let last = at.map(|at| managers.remove(at));
        let mut merged = typed.merge_without(root, live, self.configuration, MANAGED_FIELDS);
        let fields = match last {
            // Mostly a configuration comes again with other values and the same fields.
            Some(Manager { fields: Fields::Stored(last), api_version: of, .. })
                if of == api_version && self.sets_just(last) =>
            {
                Fields::Stored(last)
            }
            last => {
                let own = typed.field_set(root, self.configuration).recursive_difference(&ignored);
                if let Some(last) = last {
                    merged = self.prune(merged, &managers, &own, last);
                }
                Fields::Set(own.difference(managed::stripped()))
            }
        };
        let mut comparison = typed.compare(root, live, &merged);
        let differs = !comparison.is_empty() || !same_fields(live, &merged);
        comparison.leave_out(write.ignored);
        let changes = Changes {
            changed: comparison.modified.union(comparison.added),
            removed: comparison.removed,
            others: managed::in_versions(&mut managers, &api_version, write, (live, &merged)),
        };
        if !force {
            let conflicts: Vec<_> = managers
                .iter()
                .map(|manager| (manager.clone(), manager.fields.intersection(changes.of(&manager.api_version).0)))
                .filter(|(_, set)| !set.is_empty())
                .collect();
            if !conflicts.is_empty() {
                return Err(Conflicts(conflicts));
            }
        }
        changes.take_from(&mut managers, |_| false);
        managers.push(Manager {
            name: write.manager.to_owned(),
            operation: Operation::Apply,
            api_version,
            subresource: write.subresource.to_owned(),
            time: format_time(write.now),
            fields,
        });
        managers.retain(|manager| !manager.fields.is_empty());
        Ok(Outcome { object: merged, managers, changed: differs })
    }

    /// Whether the configuration sets the very fields of an entry.
    fn sets_just(&self, fields: &Map<String, Value>) -> bool {
        let names = |path: &str| path.split('.').try_fold(self.configuration, |at, step| at.get(step)).is_some();
        !self.write.ignored.iter().any(|path| names(path))
            && self.typed.sets_just(self.schema.root, self.configuration, fields, managed::stripped())
    }

    /// Remove what this manager applied last time, not this time, and nobody else owns. What it applied is
    /// known in the version that it was applied in.
    fn prune(&self, merged: Value, managers: &[Manager<'_>], own: &FieldSet, last: Manager<'_>) -> Value {
        let (own_version, last_version) = (self.schema.gvk.api_version(), last.api_version);
        let last = last.fields.into_set();
        if last_version == own_version && last.is_subset(own) {
            return merged;
        }
        let Some((schema, mut merged_at)) = self.in_version(&merged, &last_version) else { return merged };
        let mut pruned = walk(&schema).remove(schema.root, &merged_at, &named(&schema, &last));
        // What others own, or the new configuration, comes back, at first in that version.
        let mut owned = vec![(last_version.clone(), FieldSet::default()), (own_version.clone(), own.clone())];
        for manager in managers {
            owned.push((manager.api_version.clone(), manager.fields.clone().into_set()));
        }
        owned.sort_by(|(a, _), (b, _)| (*a != last_version, a).cmp(&(*b != last_version, b)));
        for versions in owned.chunk_by(|(a, _), (b, _)| a == b) {
            let version = &versions[0].0;
            let all = versions.iter().fold(FieldSet::default(), |all, (_, set)| all.union(set.clone()));
            let Some((schema, merged)) = self.in_version(&merged_at, version) else { continue };
            let left = pruned.and_then(|pruned| self.in_version(&pruned, version)).map(|(_, pruned)| pruned);
            let gone =
                set_of(&schema, Some(&merged)).difference(&set_of(&schema, left.as_ref()).union(named(&schema, &all)));
            pruned = walk(&schema).remove(schema.root, &merged, &gone);
            merged_at = merged;
        }
        // So does what was never this manager's.
        let Some((_, merged_at)) = self.in_version(&merged_at, &last_version) else { return merged };
        let left = pruned.and_then(|pruned| self.in_version(&pruned, &last_version)).map(|(_, pruned)| pruned);
        let gone = set_of(&schema, Some(&merged_at)).difference(&set_of(&schema, left.as_ref()));
        let pruned = walk(&schema).remove(schema.root, &merged_at, &gone.intersection(&named(&schema, &last)));
        let pruned = pruned.and_then(|pruned| self.in_version(&pruned, &own_version));
        pruned.map_or(Value::Null, |(_, pruned)| pruned)
    }

    /// An object of any version in another. None: there is no way there.
    fn in_version(&self, object: &Value, api_version: &str) -> Option<(Schema, Value)> {
        let is = object["apiVersion"].as_str().unwrap_or_default();
        if is == api_version && api_version == self.schema.gvk.api_version() {
            return Some((self.schema.clone(), object.clone()));
        }
        match self.write.versions?.of(object, api_version) {
            Version::Known(known) => Some(*known),
            Version::Unknown | Version::Gone => None,
        }
    }

    /// The fields that client-side apply set last.
    fn last_applied(&self, live: &Value) -> FieldSet {
        let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
        let Ok(last) = serde_json::from_str::<Value>(annotation) else { return FieldSet::default() };
        if !self.typed.validate(self.schema.root, &last).is_empty() {
            return FieldSet::default();
        }
        // Where the live value is no longer the one that was applied, somebody else changed it.
        let set = self.typed.field_set(self.schema.root, &last);
        let merged = self.typed.merge_without(self.schema.root, live, &last, MANAGED_FIELDS);
        let comparison = self.typed.compare(self.schema.root, live, &merged);
        set.difference(&comparison.modified.union(comparison.added))
    }
}

fn walk(schema: &Schema) -> Typed<'_> {
    Typed { table: &schema.table }
}

fn named(schema: &Schema, set: &FieldSet) -> FieldSet {
    walk(schema).with_named_fields(schema.root, set)
}

fn set_of(schema: &Schema, value: Option<&Value>) -> FieldSet {
    value.map_or_else(FieldSet::default, |value| named(schema, &walk(schema).field_set(schema.root, value)))
}

/// Keep the annotation of client-side apply true, where there is one.
fn update_last_applied(object: &mut Value, configuration: &Value) {
    let mut last = configuration.clone();
    if let Some(annotations) = last.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    if !annotations.contains_key(LAST_APPLIED) {
        return;
    }
    let text = format!("{last}\n");
    let size: usize =
        annotations.iter().filter(|(key, _)| *key != LAST_APPLIED).map(|(k, v)| k.len() + v.to_string().len()).sum();
    if size + text.len() > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    } else {
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    }
}

/// 500, as Kubernetes answers a configuration that does not fit the schema.
fn not_typed(configuration: &Value, gvk: &GroupVersionKind, errors: &[String]) -> Status {
    let what = match errors {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let object = shown(configuration, gvk);
    Status::failure(500, "", format!("failed to create typed patch object ({object}): {what}"))
}

fn print_manager(manager: &Manager<'_>) -> String {
    let mut text = go_quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", go_quote(&manager.subresource)));
    }
    if manager.operation == Operation::Update {
        text.push_str(&format!(" using {}", manager.api_version));
    }
    text
}

/// 409 with a cause per field.
fn conflict(conflicts: &[(Manager<'_>, FieldSet)]) -> Status {
    let mut by_manager: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|(manager, set)| (print_manager(manager), set.paths())).collect();
    by_manager.sort();
    let count: usize = by_manager.iter().map(|(_, paths)| paths.len()).sum();
    let message = match by_manager.as_slice() {
        [(manager, paths)] if count == 1 => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {}", paths[0])
        }
        many => {
            let texts: Vec<String> = many
                .iter()
                .map(|(manager, paths)| {
                    let paths: Vec<String> = paths.iter().map(|path| format!("- {path}")).collect();
                    format!("conflicts with {manager}:\n{}", paths.join("\n"))
                })
                .collect();
            format!("Apply failed with {count} conflicts: {}", texts.join("\n"))
        }
    };
    let mut status = Status::failure(409, "Conflict", message);
    status.details.get_or_insert_default().causes = by_manager
        .iter()
        .flat_map(|(manager, paths)| {
            paths.iter().map(move |path| StatusCause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {manager}"),
                field: path.clone(),
            })
        })
        .collect();
    status
}

/// Whether two states differ in nothing but the times of their managers.
fn same_but_times(live: &Value, new: &Value) -> bool {
    same_fields(live, new) && same_managers(&live["metadata"]["managedFields"], &new["metadata"]["managedFields"])
}

/// Whether two states are the same but for their managers.
fn same_fields(live: &Value, new: &Value) -> bool {
    same_but(live, new, "metadata") && same_but(&live["metadata"], &new["metadata"], "managedFields")
}

/// Whether two maps are the same but for one entry.
fn same_but(a: &Value, b: &Value, name: &str) -> bool {
    fn rest<'a>(value: &'a Value, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        value.as_object().into_iter().flatten().filter(move |(key, _)| *key != name)
    }
    rest(a, name).eq(rest(b, name))
}

/// Whether two lists of entries say the same; their order follows from their times, too.
fn same_managers(a: &Value, b: &Value) -> bool {
    fn sorted(list: &Value) -> Vec<&Value> {
        let mut entries: Vec<&Value> = list.as_array().into_iter().flatten().collect();
        entries.sort_by_key(|entry| {
            ["manager", "operation", "apiVersion", "subresource"].map(|name| entry[name].as_str().unwrap_or_default())
        });
        entries
    }
    let (a, b) = (sorted(a), sorted(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_but(a, b, "time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Schema {
        super::super::builtin_schema(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("a kind")
    }

    fn write(manager: &str) -> Write<'_> {
        Write { manager, subresource: "", ignored: &["status"], now: jiff::Timestamp::UNIX_EPOCH, versions: None }
    }

    fn run(live: Option<&Value>, manager: &str, spec: Value, force: bool) -> Result<Value, String> {
        let configuration =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
        apply(&deployment(), live, &configuration, force, &write(manager)).map_err(|status| {
            let fields: Vec<String> = status.details.iter().flat_map(|d| &d.causes).map(|c| c.field.clone()).collect();
            format!("{} {} {fields:?}", status.code, status.message)
        })
    }

    fn containers(list: Value) -> Value {
        json!({"template": {"spec": {"containers": list}}})
    }

    #[test]
    fn the_same_fields_are_known_again() {
        let schema = deployment();
        let spec = containers(json!([
            {"name": "c", "image": "1", "args": ["a"], "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}]},
            {"name": "d", "resources": {"limits": {}}, "env": []},
        ]));
        let base = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec, "metadata": {
            "name": "d", "labels": {"a": "1"}, "finalizers": ["x/y"], "annotations": {}}});
        let live = apply(&schema, None, &base, false, &write("a")).expect("created");
        let entry = |object: &Value| object["metadata"]["managedFields"][0]["fieldsV1"].clone();
        let stored = entry(&live);
        let applied = |configuration: &Value| {
            let write = write("a");
            Applied { schema: &schema, typed: Typed { table: &schema.table }, configuration, write: &write }
                .sets_just(stored.as_object().expect("a map"))
        };
        assert!(applied(&base));
        // Each change is one value at a path, and whether the fields are still the same.
        let cases = [
            ("/metadata/labels/a", json!("2"), true),
            ("/metadata/labels", json!({"b": "1"}), false),
            ("/metadata/labels", json!({"a": "1", "b": "1"}), false),
            ("/metadata/annotations", json!({"a": "1"}), false),
            ("/metadata/finalizers", json!(["x/z"]), false),
            ("/metadata", json!({"name": "d"}), false),
            ("/metadata", json!({}), false),
            ("/spec/template/spec/containers/0/image", json!("2"), true),
            ("/spec/template/spec/containers/0/args", json!(["b", "c"]), true),
            ("/spec/template/spec/containers/0/ports/1/protocol", json!("SCTP"), false),
            ("/spec/template/spec/containers/0/ports", json!([]), false),
            ("/spec/template/spec/containers/1/env", json!([{"name": "e"}]), false),
            ("/spec/template/spec/containers/1/resources", json!({}), false),
            ("/spec/template/spec/containers/1/resources/limits", json!({"cpu": "1"}), false),
            ("/spec/replicas", json!(1), false),
            ("/status", json!({"replicas": 1}), false),
        ];
        for (path, value, same) in cases {
            let mut configuration = base.clone();
            let (at, name) = path.rsplit_once('/').expect("a path");
            match configuration.pointer_mut(at).expect("a place") {
                Value::Array(list) => list[name.parse::<usize>().expect("an index")] = value,
                map => map[name] = value,
            }
            assert_eq!(applied(&configuration), same, "{path}");
            // And what comes of it is what comes of the sets.
            let next = apply(&schema, Some(&live), &configuration, false, &write("a")).expect("applied");
            let set = Typed { table: &schema.table }.field_set(schema.root, &configuration);
            let set = set.recursive_difference(&FieldSet::from_paths(&["status"])).difference(managed::stripped());
            assert_eq!(entry(&next), set.into_value(), "{path}");
        }
    }

    #[test]
    fn two_appliers_conflict_until_one_forces() {
        let live = run(None, "a", containers(json!([{"name": "c", "image": "1"}])), false).expect("created");
        let change = containers(json!([{"name": "c", "image": "2"}]));
        assert_eq!(
            run(Some(&live), "b", change.clone(), false),
            Err("409 Apply failed with 1 conflict: conflict with \"a\": .spec.template.spec.containers[name=\"c\"].image \
                 [\".spec.template.spec.containers[name=\\\"c\\\"].image\"]"
                .to_owned())
        );
        let forced = run(Some(&live), "b", change, true).expect("forced");
        assert_eq!(forced["spec"]["template"]["spec"]["containers"][0]["image"], "2");
        let a = &forced["metadata"]["managedFields"][0];
        assert_eq!(
            a["fieldsV1"],
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}}}}})
        );
    }

    #[test]
    fn what_is_no_longer_applied_is_removed() {
        let live =
            run(None, "a", json!({"replicas": 2, "paused": true, "minReadySeconds": 5}), false).expect("created");
        let live = run(Some(&live), "b", json!({"replicas": 2}), false).expect("the same value is no conflict");
        let live = run(Some(&live), "a", json!({"paused": true}), false).expect("applied");
        assert_eq!(live["spec"]["replicas"], 2, "b owns it too");
        assert_eq!(live["spec"]["paused"], true);
        assert_eq!(live["spec"]["minReadySeconds"], Value::Null);
    }

    #[test]
    fn elements_of_lists_have_owners() {
        let live = run(None, "a", containers(json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}])), false);
        let live = live.expect("created");
        let live = run(Some(&live), "b", containers(json!([{"name": "z", "image": "1"}])), false).expect("added");
        let names = |object: &Value| -> Vec<String> {
            let list = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
            list.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names(&live), ["x", "y", "z"]);
        let live = run(Some(&live), "a", containers(json!([{"name": "y", "image": "1"}])), false).expect("applied");
        assert_eq!(names(&live), ["y", "z"]);
    }

    #[test]
    fn what_is_applied_empty_stays_empty() {
        let labels = |labels: Value| json!({"template": {"metadata": {"labels": labels}, "spec": {"containers": []}}});
        let live = run(None, "a", labels(json!({"x": "1"})), false).expect("created");
        let live = run(Some(&live), "a", labels(json!({})), false).expect("applied");
        assert_eq!(
            live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:metadata"],
            json!({"f:labels": {}})
        );
    }

    #[test]
    fn applying_again_changes_nothing() {
        let spec = containers(json!([{"name": "x", "image": "1", "ports": [{"containerPort": 80}]}]));
        let live = run(None, "a", spec.clone(), false).expect("created");
        assert_eq!(run(Some(&live), "a", spec, false), Ok(live));
    }

    #[test]
    fn a_configuration_must_fit_the_schema() {
        let check = |spec| run(None, "a", spec, false).expect_err("refused");
        assert_eq!(
            check(json!({"bogus": 1})),
            "500 failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.bogus: field not declared in schema []"
        );
        assert_eq!(
            check(containers(
                json!([{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}])
            )),
            "500 failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"a\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"] []"
        );
        assert_eq!(
            check(json!({"replicas": "x"})),
            "500 failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string []"
        );
    }
}
