//! Patches: strategic merge by the schema of the kind, and JSON patches.

use super::layer::Layer;
use super::resource::Resource;
use super::selector::Selector;
use crate::api::{Fields, FieldsMut, GroupVersionKind, operations};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::manifest;
use serde_json::{Value, json};

/// `patchesStrategicMerge`, then `patches`.
pub fn apply(layer: &Layer, resources: &mut Vec<Resource>) -> Outcome<()> {
    for entry in layer.list("patchesStrategicMerge") {
        let text = entry.as_str().unwrap_or_default();
        // A file, or the patch itself.
        let text = if text.contains('\n') || text.trim_start().starts_with('{') {
            text.to_owned()
        } else {
            layer.text(text)?
        };
        for patch in parse(&text)? {
            merge_into_named(resources, &patch, &json!({}))?;
        }
    }
    for entry in layer.list("patches") {
        one(layer, resources, entry, false)?;
    }
    Ok(())
}

/// `patchesJson6902`.
pub fn apply_json(layer: &Layer, resources: &mut Vec<Resource>) -> Outcome<()> {
    layer.list("patchesJson6902").iter().try_for_each(|entry| one(layer, resources, entry, true))
}

fn one(layer: &Layer, resources: &mut Vec<Resource>, entry: &Value, must_be_json: bool) -> Outcome<()> {
    let (path, inline) = (entry.str_at("path"), entry.str_at("patch"));
    let text = match (path, inline) {
        ("", "") => return Err(Failure::local("must specify one of patch and path in\nPatchTransformer")),
        (path, "") => layer.text(path)?,
        ("", inline) => inline.to_owned(),
        _ => return Err(Failure::local("patch and path can't be set at the same time")),
    };
    let read: Value = crate::schema::yaml::parse(text.as_bytes()).unwrap_or_default();
    if let Some(operations) = read.as_array() {
        let Some(target) = entry.get_set("target") else {
            return Err(Failure::local(format!("must specify a target for JSON patch {text:?}")));
        };
        let selector = Selector::parse(target)?;
        let taken: Vec<usize> = (0..resources.len()).filter(|at| selector.takes(&resources[*at])).collect();
        if taken.is_empty() && must_be_json {
            return Err(Failure::local(format!("unable to find target for JSON patch: {target}")));
        }
        for at in taken {
            let mut patched = resources[at].object.clone();
            operations::apply(&mut patched, operations).map_err(|refused| Failure::local(refused.to_string()))?;
            keep_names(&mut resources[at], patched, entry.at("options"));
        }
        return Ok(());
    }
    if must_be_json {
        return Err(Failure::local(format!("unable to parse JSON patch {text:?}: it is no list")));
    }
    for patch in parse(&text)? {
        let Some(target) = entry.get_set("target") else {
            merge_into_named(resources, &patch, entry.at("options"))?;
            continue;
        };
        let selector = Selector::parse(target)?;
        let mut at = 0;
        while at < resources.len() {
            if selector.takes(&resources[at]) {
                // Whatever the patch itself is called.
                let mut patch = patch.clone();
                let own = resources[at].object.clone();
                for field in ["apiVersion", "kind"] {
                    patch.copy(field, &own);
                }
                patch.object_mut("metadata").copy("name", own.at("metadata"));
                if !merge(&mut resources[at], &patch, entry.at("options"))? {
                    resources.remove(at);
                    continue;
                }
            }
            at += 1;
        }
    }
    Ok(())
}

fn parse(text: &str) -> Outcome<Vec<Value>> {
    manifest::parse(text)
        .map_err(|error| Failure::local(format!("unable to parse SM or JSON patch from {text:?}: {error}")))
}

/// Into the object that the patch names.
fn merge_into_named(resources: &mut Vec<Resource>, patch: &Value, options: &Value) -> Outcome<()> {
    let wanted = Resource::new(patch.clone());
    let is = |resource: &Resource| {
        resource.kind() == wanted.kind()
            && resource.group() == wanted.group()
            && resource.identities().any(|identity| {
                identity.name == wanted.name()
                    && (wanted.namespace().is_empty()
                        || super::resource::space(&identity.namespace) == wanted.namespace())
            })
    };
    let Some(at) = resources.iter().position(is) else {
        return Err(Failure::local(format!(
            "no resource matches strategic merge patch {:?}: no matches for Id {}; failed to find unique target for patch {}",
            wanted.id(),
            wanted.id(),
            wanted.id()
        )));
    };
    let mut patch = patch.clone();
    patch.object_mut("metadata").copy("name", resources[at].object.at("metadata"));
    patch.object_mut("metadata").copy("namespace", resources[at].object.at("metadata"));
    if !merge(&mut resources[at], &patch, options)? {
        resources.remove(at);
    }
    Ok(())
}

/// False: the patch takes the object away.
fn merge(resource: &mut Resource, patch: &Value, options: &Value) -> Outcome<bool> {
    if patch.str_at("$patch") == "delete" {
        return Ok(false);
    }
    let gvk = GroupVersionKind::new(resource.group(), resource.version(), resource.kind());
    let merged = match crate::schema::builtin_schema(&gvk) {
        Some(schema) => {
            let mut merged = crate::schema::strategic_merge(&schema, resource.object.clone(), patch.clone())
                .map_err(|status| Failure::local(status.message))?;
            new_first(&resource.object, &mut merged);
            merged
        }
        None => {
            let mut merged = resource.object.clone();
            crate::api::patch::merge_patch(&mut merged, patch);
            merged
        }
    };
    keep_names(resource, merged, options);
    Ok(true)
}

/// What lists are merged by.
const KEYS: &[&str] =
    &["name", "containerPort", "mountPath", "devicePath", "ip", "port", "key", "topologyKey", "uid", "type"];

/// Kustomize puts new elements of a list before those that are there, and leaves these in their order.
fn new_first(original: &Value, merged: &mut Value) {
    match (original, merged) {
        (Value::Object(original), Value::Object(merged)) => {
            for (key, value) in merged {
                if let Some(original) = original.get(key) {
                    new_first(original, value);
                }
            }
        }
        (Value::Array(original), Value::Array(merged)) => {
            let has = |key: &&&str| original.iter().chain(&*merged).all(|item| item.has(key));
            let Some(key) = KEYS.iter().find(has) else { return };
            let place = |item: &Value| original.iter().position(|other| other.at(key) == item.at(key));
            // What is new has no place: it stays in the order of the patch.
            merged.sort_by_key(|item| place(item).map_or(0, |at| at + 1));
            for item in merged {
                if let Some(at) = place(item) {
                    new_first(&original[at], item);
                }
            }
        }
        _ => {}
    }
}

/// A patch changes names and kinds only where it may.
fn keep_names(resource: &mut Resource, mut patched: Value, options: &Value) {
    if !options.bool_at("allowKindChange") {
        patched.copy("kind", &resource.object);
        patched.copy("apiVersion", &resource.object);
    }
    let before = resource.identity();
    if !options.bool_at("allowNameChange") {
        patched.object_mut("metadata").copy("name", resource.object.at("metadata"));
    }
    resource.object = patched;
    if resource.identity() != before {
        resource.before.push(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_elements_stand_first() {
        let original = json!({ "c": [{ "name": "a", "env": [{ "name": "X" }] }, { "name": "b" }] });
        let mut merged = json!({ "c": [{ "name": "b" }, { "name": "a", "env": [{ "name": "X" }, { "name": "Y" }] }, { "name": "z" }] });
        new_first(&original, &mut merged);
        assert_eq!(
            merged,
            json!({ "c": [{ "name": "z" }, { "name": "a", "env": [{ "name": "Y" }, { "name": "X" }] }, { "name": "b" }] })
        );
    }
}
