//! Namespace: a scope of names.

use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, Verb, cells, named};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ns".into()],
        namespaced: false,
        verbs: VERBS,
        status: true,
        subresources: vec![Subresource::custom("finalize", &[Verb::Update]), Subresource::status()],
        columns: Column::strings(&["Status", "Age"]),
        strategy: Arc::new(Namespace),
        ..Resource::new("", "v1", "Namespace", "namespaces")
    }
}

/// All but deletecollection.
const VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

struct Namespace;

impl Strategy for Namespace {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        let name = object.at("metadata").str_at("name").to_owned();
        if !name.is_empty() {
            object.object_mut("metadata").object_mut("labels").set(NAME_LABEL, name);
        }
        object.object_mut("status").set_default_str("phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "phase": "Active" }));
        let name = object.at("metadata").str_at("name").to_owned();
        object.object_mut("metadata").object_mut("labels").set(NAME_LABEL, name);
        let spec = object.object_mut("spec");
        let mut finalizers = spec.list_at("finalizers").to_vec();
        if !finalizers.iter().any(|finalizer| finalizer.as_str() == Some(FINALIZER)) {
            finalizers.push(FINALIZER.into());
        }
        spec.set("finalizers", finalizers);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.object_mut("spec").copy("finalizers", old.at("spec"));
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let path = path.child("finalizers");
        for name in object.at("spec").strs_at("finalizers") {
            finalizer(name, &path, &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        named(names::dns_label, name, prefix)
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn subresource(&self, name: &str) -> Option<&dyn Strategy> {
        match name {
            "finalize" => Some(&Finalize),
            "status" => self.status(),
            _ => None,
        }
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[
            ("status.phase", |namespace| namespace.at("status").str_at("phase").to_owned()),
            ("name", |namespace| namespace.at("metadata").str_at("name").to_owned()),
        ]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), object.at("status").str_at("phase").into(), cells::age(object, now)])
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn holds_deletion(&self, object: &mut Value, now: jiff::Timestamp) -> bool {
        let time = crate::api::time::seconds(now);
        object.object_mut("metadata").set_default("deletionTimestamp", time);
        object.object_mut("status").set("phase", "Terminating");
        !object.at("spec").list_at("finalizers").is_empty()
    }
}

fn finalizer(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    errors.check(path, name, names::qualified_name(name));
    if !name.contains('/') && ![FINALIZER, "orphan", "foregroundDeletion"].contains(&name) {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let phase = object.at("status").str_at("phase");
        let deleted = object.at("metadata").has("deletionTimestamp");
        let path = Path::new("status");
        if !deleted && phase != "Active" {
            let detail = "may only be 'Active' if `deletionTimestamp` is empty";
            errors.invalid(&path.child("Phase"), phase, detail);
        }
        if deleted && phase != "Terminating" {
            let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errors.invalid(&path.child("Phase"), phase, detail);
        }
        errors
    }
}

/// The strategy of `namespaces/finalize`.
pub struct Finalize;

impl Strategy for Finalize {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let path = path.child("finalizers");
        for (index, name) in object.at("spec").strs_at("finalizers").enumerate() {
            finalizer(name, &path.index(index), &mut errors);
        }
        errors
    }
}
