//! Kustomizations: `kubectl kustomize`, and `-k` of the verbs that read files.
//!
//! [`build`] reads a directory and those below it, layer by layer: resources, generators, components,
//! then what the layer does to all of them. At the end names get their hashes, and who names them
//! learns it. What is not understood is refused by name.

mod fields;
mod generators;
mod layer;
mod names;
mod patches;
mod references;
mod replacements;
mod resource;
mod selector;
mod transform;

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::manifest;
use super::session::Terminal;
use crate::api::Fields;
use layer::Layer;
use resource::Resource;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "kustomize",
    about: "Build a kustomization",
    usage: "kubectl kustomize DIR",
    flags: &[&[
        text("output", "FILE", "Where to write it").short('o'),
        switch("enable-helm", "Not supported"),
        text("load-restrictor", "WHICH", "Which files may be read: LoadRestrictionsRootOnly")
            .default("LoadRestrictionsRootOnly"),
    ]],
    run: Run::Here(|arguments, _, terminal| Box::pin(run(arguments, terminal))),
    ..Verb::DEFAULT
};

/// Kustomizations in each other deeper than this go in a circle.
const DEEPEST: usize = 50;

async fn run(arguments: &Arguments, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let directory = match words.as_slice() {
        [] => ".",
        [directory] => directory,
        _ => return Err(Failure::local("specify one path to kustomization.yaml")),
    };
    if arguments.on("enable-helm") {
        return Err(Failure::local("--enable-helm is not supported"));
    }
    if arguments.text_or_empty("load-restrictor") != "LoadRestrictionsRootOnly" {
        return Err(Failure::local("only --load-restrictor=LoadRestrictionsRootOnly is supported"));
    }
    let built = build(directory)?;
    for warning in &built.warnings {
        terminal.say(warning).await?;
    }
    let texts: Vec<String> = built.objects.iter().map(crate::api::yaml::print).collect();
    let text = texts.join("---\n");
    match arguments.text("output").filter(|path| !path.is_empty()) {
        Some(path) => Ok(std::fs::write(path, text)?),
        None => terminal.print(&text).await,
    }
}

/// What was built.
pub(super) struct Built {
    /// In the order in which they are to be made.
    pub objects: Vec<Value>,
    /// Fields of old that are understood still.
    pub warnings: Vec<String>,
}

/// The objects of a kustomization.
pub(super) fn build(directory: &str) -> Outcome<Built> {
    if directory.contains("://") {
        return Err(Failure::local(format!("{directory}: what is not on this machine is not read: fetch it first")));
    }
    let mut builder = Builder::default();
    let layer = Layer::read(Path::new(directory))?;
    let order = layer.content.at("sortOptions").str_at("order").to_owned();
    let mut resources = builder.layer(&layer, Vec::new())?;
    names::add_hashes(&mut resources);
    names::fix_references(&mut resources);
    if order != "fifo" {
        resources.sort_by_cached_key(position);
    }
    let objects = resources.into_iter().map(|resource| resource.object).collect();
    Ok(Built { objects, warnings: builder.warnings })
}

/// Fields of old, and what is written in their place.
const DEPRECATED: &[(&str, &str)] = &[
    ("bases", "resources"),
    ("patchesJson6902", "patches"),
    ("patchesStrategicMerge", "patches"),
    ("commonLabels", "labels"),
];

/// What others need comes first.
const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

fn position(resource: &Resource) -> (isize, String, String) {
    let at =
        |list: &[&str]| list.iter().position(|kind| *kind == resource.kind()).and_then(|at| isize::try_from(at).ok());
    let first = at(FIRST).map(|at| at - 1000);
    let rank = first.or(at(LAST).map(|at| at + 1)).unwrap_or_default();
    let gvk = format!("{}_{}_{}", resource.group(), resource.version(), resource.kind());
    let name = format!("{}|{}", resource.namespace(), resource.name());
    (rank, gvk, name)
}

#[derive(Default)]
struct Builder {
    /// The directories that are being read: none may be in itself.
    open: Vec<PathBuf>,
    layers: usize,
    warnings: Vec<String>,
}

impl Builder {
    /// The objects of a layer; a component works on those of the layer that names it.
    fn layer(&mut self, layer: &Layer, given: Vec<Resource>) -> Outcome<Vec<Resource>> {
        if self.open.contains(&layer.directory) || self.open.len() == DEEPEST {
            let path = layer.directory.display();
            return Err(Failure::local(format!(
                "cycle detected: candidate root '{path}' contains visited root '{path}'"
            )));
        }
        self.open.push(layer.directory.clone());
        self.layers += 1;
        for (old, new) in DEPRECATED.iter().filter(|(old, _)| layer.content.has(old)) {
            self.warnings.push(format!(
                "# Warning: '{old}' is deprecated. Please use '{new}' instead. Run 'kustomize edit fix' to update your Kustomization automatically."
            ));
        }
        let number = self.layers;
        let mut resources = given;
        for entry in layer.list("resources").iter().chain(layer.list("bases")) {
            for resource in self.resources(layer, entry.as_str().unwrap_or_default())? {
                add(&mut resources, resource)?;
            }
        }
        generators::run(layer, &mut resources)?;
        for entry in layer.list("components") {
            let path = layer.check(entry.as_str().unwrap_or_default())?;
            let component = Layer::read(&path)?;
            if !component.is_component {
                return Err(Failure::local(format!(
                    "accumulating components: expected kind 'Component' for path '{}' but got 'Kustomization'",
                    entry.as_str().unwrap_or_default()
                )));
            }
            resources = self.layer(&component, resources)?;
        }
        patches::apply(layer, &mut resources)?;
        transform::namespace(layer, &mut resources);
        transform::names(layer, &mut resources);
        transform::labels(layer, &mut resources);
        transform::annotations(layer, &mut resources);
        patches::apply_json(layer, &mut resources)?;
        transform::replicas(layer, &mut resources)?;
        transform::images(layer, &mut resources);
        replacements::apply(layer, &mut resources)?;
        resources.iter_mut().for_each(|resource| resource.layers.insert(0, number));
        self.open.pop();
        Ok(resources)
    }

    /// Of a file or of a directory.
    fn resources(&mut self, layer: &Layer, path: &str) -> Outcome<Vec<Resource>> {
        let real = layer.check(path)?;
        if real.is_dir() {
            let inner = Layer::read(&real)?;
            if inner.is_component {
                return Err(Failure::local(format!(
                    "accumulating resources: expected kind != 'Component' for path '{path}'"
                )));
            }
            return self.layer(&inner, Vec::new());
        }
        let objects = manifest::parse(&layer.text(path)?)
            .map_err(|error| Failure::local(format!("accumulating resources from '{path}': {error}")))?;
        for object in &objects {
            for field in ["apiVersion", "kind"] {
                if object.str_at(field).is_empty() {
                    return Err(Failure::local(format!(
                        "accumulating resources from '{path}': missing {field} in object"
                    )));
                }
            }
            if object.at("metadata").str_at("name").is_empty()
                && object.at("metadata").str_at("generateName").is_empty()
            {
                return Err(Failure::local(format!(
                    "accumulating resources from '{path}': missing metadata.name in object {object}"
                )));
            }
        }
        Ok(objects.into_iter().map(Resource::new).collect())
    }
}

fn add(resources: &mut Vec<Resource>, resource: Resource) -> Outcome<()> {
    if resources.iter().any(|other| other.is_same(&resource)) {
        return Err(Failure::local(format!("may not add resource with an already registered id: {}", resource.id())));
    }
    resources.push(resource);
    Ok(())
}
