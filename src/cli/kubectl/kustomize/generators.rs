//! ConfigMaps and Secrets made of files and literals.

use super::layer::Layer;
use super::resource::Resource;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::create::{fill_config_map, fill_secret, sources};
use crate::cli::kubectl::failure::{Failure, Outcome};
use serde_json::{Value, json};

pub fn run(layer: &Layer, resources: &mut Vec<Resource>) -> Outcome<()> {
    for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
        for arguments in layer.list(field) {
            let (made, behavior) = one(layer, arguments, kind)?;
            absorb(resources, made, behavior)?;
        }
    }
    Ok(())
}

fn one<'a>(layer: &Layer, arguments: &'a Value, kind: &str) -> Outcome<(Resource, &'a str)> {
    let name = arguments.str_at("name");
    if name.is_empty() {
        return Err(Failure::local(format!("a generator of a {kind} has no name")));
    }
    let mut entries = Vec::new();
    let mut env_files: Vec<&str> = arguments.strs_at("envs").collect();
    env_files.extend(arguments.optional_str("env"));
    for path in env_files {
        layer.check(path)?;
        sources::from_env_file(path, &layer.directory, &mut entries)?;
    }
    for literal in arguments.strs_at("literals") {
        entries.push(sources::from_literal(literal)?);
    }
    for file in arguments.strs_at("files") {
        layer.check(file.split_once('=').map_or(file, |(_, path)| path))?;
        sources::from_file(file, &layer.directory, &mut entries)?;
    }
    let mut metadata = json!({ "name": name });
    if !arguments.str_at("namespace").is_empty() {
        metadata.set("namespace", arguments.str_at("namespace"));
    }
    let mut object = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata });
    if kind == "Secret" {
        let secret_type = arguments.str_at("type");
        object.set("type", if secret_type.is_empty() { "Opaque" } else { secret_type });
        fill_secret(&mut object, entries)?;
    } else {
        fill_config_map(&mut object, entries)?;
    }
    let (all, own) = (layer.content.at("generatorOptions"), arguments.at("options"));
    for field in ["labels", "annotations"] {
        for options in [all, own] {
            for (key, value) in options.map_at(field) {
                object.object_mut("metadata").object_mut(field).set(key, value.clone());
            }
        }
    }
    let option = |field: &str| own.optional_bool(field).or(all.optional_bool(field)).unwrap_or_default();
    if option("immutable") {
        object.set("immutable", true);
    }
    let mut made = Resource::new(object);
    made.needs_hash = !option("disableNameSuffixHash");
    Ok((made, arguments.str_at("behavior")))
}

/// A new object, or one that changes what an inner layer made.
fn absorb(resources: &mut Vec<Resource>, made: Resource, behavior: &str) -> Outcome<()> {
    let is = |resource: &Resource| {
        resource.kind() == made.kind()
            && resource.group().is_empty()
            && resource.identities().any(|identity| {
                identity.name == made.name()
                    && (made.namespace().is_empty() || super::resource::space(&identity.namespace) == made.namespace())
            })
    };
    let at = resources.iter().position(is);
    match (behavior, at) {
        ("" | "unspecified" | "create", None) => resources.push(made),
        ("" | "unspecified" | "create", Some(_)) => {
            return Err(Failure::local(format!(
                "behavior must be merge or replace: id {} exists; behavior must be merge or replace",
                made.id()
            )));
        }
        ("merge" | "replace", None) => {
            return Err(Failure::local(format!("id {} does not exist; cannot merge or replace", made.id())));
        }
        ("merge", Some(at)) => {
            let there = &mut resources[at];
            for field in ["data", "binaryData"] {
                for (key, value) in made.object.map_at(field) {
                    there.object.object_mut(field).set(key, value.clone());
                }
            }
            take_metadata(there, &made);
        }
        ("replace", Some(at)) => {
            let there = &mut resources[at];
            for field in ["data", "binaryData", "type", "immutable"] {
                there.object.copy(field, &made.object);
            }
            take_metadata(there, &made);
        }
        (other, _) => return Err(Failure::local(format!("unknown behavior {other:?} of a generator"))),
    }
    Ok(())
}

fn take_metadata(there: &mut Resource, made: &Resource) {
    for field in ["labels", "annotations"] {
        for (key, value) in made.object.at("metadata").map_at(field) {
            there.object.object_mut("metadata").object_mut(field).set(key, value.clone());
        }
    }
    there.needs_hash |= made.needs_hash;
}
