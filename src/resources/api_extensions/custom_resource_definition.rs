//! CustomResourceDefinition: a kind of its own.
//!
//! What is here is the definition as an object; what it defines is not served yet, so no condition
//! says that it is. Rules in CEL are not compiled.

use super::definition;
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Context, Resource, Strategy, Subresource};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["crd".into(), "crds".into()],
        categories: vec!["api-extensions".into()],
        namespaced: false,
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        strategy: Arc::new(CustomResourceDefinition),
        ..Resource::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
    }
}

struct CustomResourceDefinition;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

impl Strategy for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        let names = spec.object_mut("names");
        let kind = names.str_at("kind").to_owned();
        names.set_default_str("singular", &kind.to_lowercase());
        if !kind.is_empty() {
            names.set_default_str("listKind", &format!("{kind}List"));
        }
        let conversion = spec.object_mut("conversion");
        conversion.set_default_str("strategy", "None");
        if let Some(webhook) = conversion.set_mut("webhook")
            && let Some(client) = webhook.set_mut("clientConfig")
            && let Some(service) = client.set_mut("service")
        {
            service.set_default("port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set(
            "status",
            json!({ "conditions": null, "acceptedNames": { "plural": "", "kind": "" }, "storedVersions": null }),
        );
        note_stored_version(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        note_stored_version(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        let name = object.at("metadata").str_at("name");
        let wanted = format!("{}.{}", spec.at("names").str_at("plural"), spec.str_at("group"));
        if !name.is_empty() && name != wanted {
            errors.invalid(&METADATA.child("name"), name, "must be spec.names.plural+\".\"+spec.group");
        }
        validate(object, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, &mut errors);
        let conditions = old.at("status").list_at("conditions");
        let established = conditions
            .iter()
            .any(|condition| condition.str_at("type") == "Established" && condition.str_at("status") == "True");
        if established {
            let (spec, before) = (object.at("spec"), old.at("spec"));
            for field in ["group", "scope"] {
                errors.immutable(&SPEC.child(field), spec.at(field), before.at(field));
            }
            for field in ["kind", "plural"] {
                let (name, name_before) = (spec.at("names").at(field), before.at("names").at(field));
                errors.immutable(&SPEC.child("names").child(field), name, name_before);
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::dns_subdomain(name)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        keep_metadata(object, old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        status(object, &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// The version that objects are stored in is one of those they may be stored in.
fn note_stored_version(object: &mut Value) {
    let versions = object.at("spec").list_at("versions").iter().filter(|version| version.bool_at("storage"));
    let wanted: Vec<Value> = versions.map(|version| version.at("name").clone()).collect();
    let status = object.object_mut("status");
    let mut stored = status.list_at("storedVersions").to_vec();
    stored.extend(wanted.into_iter().filter(|name| !status.list_at("storedVersions").contains(name)));
    if !stored.is_empty() {
        status.set("storedVersions", stored);
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    definition::validate(object.at("spec"), &SPEC, errors);
    status(object, errors);
}

fn status(object: &Value, errors: &mut ErrorList) {
    let status = object.at("status");
    definition::names(status.at("acceptedNames"), &STATUS.child("acceptedNames"), errors);
    let path = STATUS.child("storedVersions");
    let stored: Vec<&str> = status.strs_at("storedVersions").collect();
    if stored.is_empty() {
        return errors.invalid(&path, Value::Null, "must have at least one stored version");
    }
    let versions = object.at("spec").list_at("versions");
    for version in versions.iter().filter(|version| version.bool_at("storage")) {
        let name = version.str_at("name");
        if !stored.contains(&name) {
            let detail = format!("must have the storage version {name}");
            errors.invalid(&path, status.at("storedVersions").clone(), detail);
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.str_at("name") == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&path.index(index), *name, detail);
        }
    }
}
