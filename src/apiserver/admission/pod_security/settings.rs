//! What holds where a namespace says nothing, and who is exempt: a `PodSecurityConfiguration`.

use super::policy::{LevelVersion, MODES, Policy, level, version_of, wrong_level, wrong_version};
use crate::api::{ErrorList, Fields, Path, Report, names};
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub defaults: Policy,
    users: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

fn exempts(list: &[String], name: &str) -> bool {
    list.iter().any(|known| known == name)
}

impl Settings {
    /// Err: all that is wrong with it.
    pub fn parse(object: &Value) -> Result<Self, String> {
        let (api_version, kind) = (object.str_at("apiVersion"), object.str_at("kind"));
        if kind != "PodSecurityConfiguration" || !api_version.starts_with("pod-security.admission.config.k8s.io/") {
            return Err(format!("not a PodSecurityConfiguration but {kind} of {api_version}"));
        }
        let mut errors = ErrorList::new();
        let mut defaults = Policy::default();
        let root = Path::new("defaults");
        for (mode, field) in MODES {
            let into: &mut LevelVersion = field(&mut defaults);
            let texts = object.at("defaults");
            let path = root.child(mode);
            if let Some(text) = texts.optional_str(mode).filter(|text| !text.is_empty()) {
                match level(text) {
                    Some(level) => into.level = level,
                    None => errors.invalid(&path, text, wrong_level()),
                }
            }
            let name = format!("{mode}-version");
            if let Some(text) = texts.optional_str(&name).filter(|text| !text.is_empty()) {
                match version_of(text) {
                    Some(version) => into.version = version,
                    None => errors.invalid(&root.child(&name), text, wrong_version()),
                }
            }
        }
        let settings = Self {
            defaults,
            users: list(
                object,
                "usernames",
                |name| (name.is_empty()).then(|| "username must not be empty".into()),
                &mut errors,
            ),
            namespaces: list(object, "namespaces", |name| joined(names::dns_label(name)), &mut errors),
            runtime_classes: list(object, "runtimeClasses", |name| joined(names::dns_subdomain(name)), &mut errors),
        };
        match errors.as_slice() {
            [] => Ok(settings),
            errors => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }

    pub fn exempts_user(&self, name: &str) -> bool {
        exempts(&self.users, name)
    }

    pub fn exempts_namespace(&self, name: &str) -> bool {
        exempts(&self.namespaces, name)
    }

    /// Of a pod's spec.
    pub fn exempts_runtime_class(&self, spec: &Value) -> bool {
        spec.optional_str("runtimeClassName").is_some_and(|name| exempts(&self.runtime_classes, name))
    }
}

fn joined<M: Into<String>>(messages: Vec<M>) -> Option<String> {
    let texts: Vec<String> = messages.into_iter().map(Into::into).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn list(object: &Value, field: &str, wrong: fn(&str) -> Option<String>, errors: &mut ErrorList) -> Vec<String> {
    let path = Path::new("exemptions");
    let path = path.child(field);
    let mut known: Vec<String> = Vec::new();
    for (index, name) in object.at("exemptions").strs_at(field).enumerate() {
        match wrong(name) {
            Some(detail) => errors.invalid(&path.index(index), name, detail),
            None if known.iter().any(|known| known == name) => errors.duplicate(&path.index(index), name),
            None => known.push(name.to_owned()),
        }
    }
    known
}
