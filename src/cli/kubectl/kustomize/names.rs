//! The hash behind the names of what was generated, and the references to names that were changed.

use super::fields::visit;
use super::references;
use super::resource::{Identity, Resource, space};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::content_hash;
use serde_json::Value;

pub fn add_hashes(resources: &mut [Resource]) {
    for resource in resources.iter_mut().filter(|resource| resource.needs_hash) {
        let mut hashed = resource.object.clone();
        // What holds nothing counts as an empty text.
        hashed.set_default("data", "");
        // Unlike kubectl's own, this hash is of the content alone: a prefix does not change it.
        hashed.object_mut("metadata").set("name", "");
        let hash = match resource.kind() {
            "Secret" => content_hash::of_secret(&hashed),
            _ => content_hash::of_config_map(&hashed),
        };
        let name = format!("{}-{hash}", resource.name());
        resource.rename(&name);
    }
}

/// What is known of an object that others name.
struct Known {
    kind: String,
    before: Vec<Identity>,
    now: Identity,
    layers: Vec<usize>,
    namespaced: bool,
}

/// Let all names be those that objects have now.
pub fn fix_references(resources: &mut [Resource]) {
    let known: Vec<Known> = resources
        .iter()
        .map(|resource| Known {
            kind: resource.kind().to_owned(),
            before: resource.identities().collect(),
            now: resource.identity(),
            layers: resource.layers.clone(),
            namespaced: resource.is_namespaced(),
        })
        .collect();
    for resource in resources {
        let (layers, identities): (Vec<usize>, Vec<Identity>) =
            (resource.layers.clone(), resource.identities().collect());
        let kind = resource.kind().to_owned();
        let find = |named: &str, name: &str, namespace: Option<&str>| {
            let fits = |known: &&Known| {
                known.kind == named
                    && known.before.iter().any(|identity| {
                        identity.name == name
                            && (!known.namespaced
                                || match namespace {
                                    Some(namespace) => space(&identity.namespace) == space(namespace),
                                    None => {
                                        identities.iter().any(|own| space(&own.namespace) == space(&identity.namespace))
                                    }
                                })
                    })
            };
            // Of several the one that came the same way.
            let near = |known: &&Known| known.layers.iter().zip(&layers).filter(|(a, b)| a == b).count();
            known
                .iter()
                .filter(fits)
                .max_by_key(|known| (near(known), known.before.first().is_some_and(|first| first.name == name)))
        };
        for (named, path) in references::of(&kind) {
            if path == "roleRef/name" && resource.object.at("roleRef").str_at("kind") != named {
                continue;
            }
            if path == "spec/scaleTargetRef/name"
                && resource.object.at("spec").at("scaleTargetRef").str_at("kind") != named
            {
                continue;
            }
            visit(&mut resource.object, &path, false, &mut |field| fix(field, named, &find));
        }
    }
}

fn fix<'a>(field: &mut Value, named: &str, find: &dyn Fn(&str, &str, Option<&str>) -> Option<&'a Known>) {
    match field {
        Value::String(name) => {
            if let Some(known) = find(named, name, None) {
                name.clone_from(&known.now.name);
            }
        }
        // Names in a list.
        Value::Array(names) => names.iter_mut().for_each(|name| fix(name, named, find)),
        // A subject or the Service of a webhook: name and namespace together.
        Value::Object(_) => {
            if named == "ServiceAccount" && field.str_at("kind") != "ServiceAccount" {
                return;
            }
            let namespace = field.optional_str("namespace").map(str::to_owned);
            let name = field.str_at("name").to_owned();
            if let Some(known) = find(named, &name, namespace.as_deref()) {
                field.set("name", known.now.name.as_str());
                if !known.now.namespace.is_empty() {
                    field.set("namespace", known.now.namespace.as_str());
                }
            }
        }
        _ => {}
    }
}
