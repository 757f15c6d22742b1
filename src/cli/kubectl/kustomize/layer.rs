//! One directory with its kustomization: which files, and which of the fields are understood.

use crate::api::Fields;
use crate::cli::kubectl::failure::{Failure, Outcome};
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};

const NAMES: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Fields that are understood.
const KNOWN: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "resources",
    "bases",
    "components",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "labels",
    "commonLabels",
    "commonAnnotations",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "replacements",
    "sortOptions",
];
/// Fields that kustomize knows, and this program does not.
const REFUSED: &[&str] = &[
    "vars",
    "crds",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "helmCharts",
    "helmChartInflationGenerator",
    "helmGlobals",
    "openapi",
    "buildMetadata",
    "inventory",
    "imageTags",
];

pub struct Layer {
    pub directory: PathBuf,
    pub content: Value,
    pub is_component: bool,
}

impl Layer {
    pub fn read(directory: &Path) -> Outcome<Self> {
        let shown = directory.display();
        let whole = std::fs::canonicalize(directory).map_err(|error| {
            let why = crate::cli::kubectl::create::sources::reason(&error);
            let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
            Failure::local(format!(
                "must build at directory: not a valid directory: evalsymlink failure on '{shown}' : lstat {}: {why}",
                whole.display()
            ))
        })?;
        let found: Vec<PathBuf> = NAMES.iter().map(|name| whole.join(name)).filter(|path| path.is_file()).collect();
        let path = match found.as_slice() {
            [one] => one,
            [] => {
                return Err(Failure::Said(format!(
                    "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
                    whole.display()
                )));
            }
            _ => {
                return Err(Failure::Said(format!("Found multiple kustomization files: {}", whole.display())));
            }
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let content = crate::schema::yaml::parse(text.as_bytes())
            .map_err(|error| Failure::local(format!("invalid Kustomization: {}: {error}", path.display())))?;
        let layer = Self { directory: whole, is_component: content.str_at("kind") == "Component", content };
        layer.check_fields(path)?;
        Ok(layer)
    }

    fn check_fields(&self, path: &Path) -> Outcome<()> {
        for field in self.content.entries().keys() {
            if REFUSED.contains(&field.as_str()) {
                return Err(Failure::local(format!(
                    "{}: the field {field:?} is not supported: build it with kustomize, and apply what that prints",
                    path.display()
                )));
            }
            if !KNOWN.contains(&field.as_str()) {
                return Err(Failure::local(format!("invalid Kustomization: json: unknown field {field:?}")));
            }
        }
        Ok(())
    }

    pub fn list(&self, field: &str) -> &[Value] {
        self.content.list_at(field)
    }

    /// A file may not lie beside the directory: a kustomization is whole in itself.
    pub fn check(&self, path: &str) -> Outcome<PathBuf> {
        if path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/") {
            return Err(Failure::local(format!("{path}: what is not on this machine is not read: fetch it first")));
        }
        let whole = self.directory.join(path);
        let real = std::fs::canonicalize(&whole).map_err(|error| {
            let why = crate::cli::kubectl::create::sources::reason(&error);
            Failure::local(format!("evalsymlink failure on '{0}' : lstat {0}: {why}", whole.display()))
        })?;
        if real.is_file() && !real.starts_with(&self.directory) {
            return Err(Failure::local(format!(
                "security; file '{}' is not in or below '{}'",
                real.display(),
                self.directory.display()
            )));
        }
        Ok(real)
    }

    pub fn text(&self, path: &str) -> Outcome<String> {
        let path = self.check(path)?;
        Ok(std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?)
    }
}
