//! CustomResourceDefinition: a kind of its own.
//!
//! What is here is the definition as an object: its defaults, what it may say, how it may change. The
//! API server serves what it defines, and keeps its conditions.

use super::definition;
use super::ratchet::Strictness;
use crate::api::field::go_quote;
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, time};
use crate::resources::pipeline::is_being_deleted;
use crate::resources::{Context, Resource, Strategy, Subresource};
use crate::schema::Structural;
use crate::schema::custom::formats;
use serde_json::{Value, json};
use std::cell::RefCell;
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
const NAMES: Path<'static> = SPEC.child("names");
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
        spec.set_default("conversion", json!({ "strategy": "None" }));
        let conversion = spec.object_mut("conversion");
        if let Some(webhook) = conversion.set_mut("webhook")
            && let Some(client) = webhook.set_mut("clientConfig")
            && let Some(service) = client.set_mut("service")
        {
            service.set_default("port", 443);
        }
        if object.at("status").list_at("storedVersions").is_empty() {
            note_stored_version(object);
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
        definition::validate(spec, Strictness::create(), &SPEC, &mut errors);
        status(object, &mut errors);
        check_approval(object, None, &mut errors);
        prunes(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let strict = Strictness::update(object, old);
        let established = strict.established;
        let (spec, before) = (object.at("spec"), old.at("spec"));
        definition::validate(spec, strict, &SPEC, &mut errors);
        let name = |spec: &Value, field: &str| spec.at("names").at(field).clone();
        if established {
            errors.immutable_text(&SPEC.child("scope"), spec.at("scope"), before.at("scope"));
            errors.immutable_text(&NAMES.child("kind"), &name(spec, "kind"), &name(before, "kind"));
        }
        errors.immutable_text(&SPEC.child("group"), spec.at("group"), before.at("group"));
        errors.immutable_text(&NAMES.child("plural"), &name(spec, "plural"), &name(before, "plural"));
        status(object, &mut errors);
        check_approval(object, Some(old), &mut errors);
        prunes(object, Some(old), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let known = old.map(unrecognized_formats).unwrap_or_default();
        let new = unrecognized_formats(object).into_iter().filter(|format| !known.contains(format));
        new.map(|format| format!("unrecognized format {}", go_quote(&format))).collect()
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::dns_subdomain(name)
    }

    fn validate_name_of(&self, object: &Value, name: &str, _: bool) -> Messages {
        let spec = object.at("spec");
        let mut messages = names::dns_subdomain(name);
        if name != format!("{}.{}", spec.at("names").str_at("plural"), spec.str_at("group")) {
            messages.push("must be spec.names.plural+\".\"+spec.group".into());
        }
        messages
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    /// It stays until the objects of its kind are gone.
    fn holds_deletion(&self, object: &mut Value, now: jiff::Timestamp) -> bool {
        if is_being_deleted(object) {
            return false;
        }
        let metadata = object.object_mut("metadata");
        metadata.set("deletionTimestamp", time::seconds(now));
        let mut finalizers = metadata.list_at("finalizers").to_vec();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        metadata.set("finalizers", finalizers);
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        set_condition(object, "Terminating", "True", "InstanceDeletionPending", message, now);
        true
    }
}

/// Fields that nobody knows go, unless a schema says otherwise.
fn prunes(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let keeps = |object: &Value| object.at("spec").bool_at("preserveUnknownFields");
    if keeps(object) && !old.is_some_and(keeps) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&SPEC.child("preserveUnknownFields"), true, detail);
    }
}

/// Formats in the schemas that say nothing, in the order of the schemas.
fn unrecognized_formats(definition: &Value) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    for version in definition.at("spec").list_at("versions") {
        let schema = Structural::parse(version.at("schema").at("openAPIV3Schema"));
        schema.any(&|node| {
            let format = &node.checks().format;
            if !format.is_empty() && formats::effective(node).is_empty() {
                found.borrow_mut().push(format.to_string());
            }
            false
        });
    }
    found.into_inner()
}

/// What a definition is kept by until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Sets a condition; its time changes with its status only.
pub fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: jiff::Timestamp,
) {
    let list = definition.object_mut("status");
    let mut conditions = list.list_at("conditions").to_vec();
    match conditions.iter_mut().find(|condition| condition.str_at("type") == kind) {
        Some(condition) => {
            if condition.str_at("status") != status || !condition.has("lastTransitionTime") {
                condition.set("lastTransitionTime", time::seconds(now));
            }
            condition.set("status", status);
            condition.set("reason", reason);
            condition.set("message", message);
        }
        None => conditions.push(json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": time::seconds(now),
        })),
    }
    list.set("conditions", conditions);
}

const APPROVAL: &str = "api-approved.kubernetes.io";

/// Whether Kubernetes's own people approved of an API in one of their groups.
#[derive(Debug, PartialEq, Eq)]
pub struct Approval {
    pub approved: bool,
    /// `MissingAnnotation` …
    pub reason: &'static str,
    pub message: String,
}

/// Groups that Kubernetes keeps for itself.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

pub fn approval(definition: &Value) -> Approval {
    let text = definition.at("metadata").at("annotations").str_at(APPROVAL);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !host.is_empty() && !text.contains(' ')
    });
    let (approved, reason, message) = if text.is_empty() {
        (false, "MissingAnnotation", format!("protected groups must have approval annotation \"{APPROVAL}\", {see}"))
    } else if text.starts_with("unapproved") {
        (false, "UnapprovedAnnotation", format!("not approved: {}", crate::api::field::go_quote(text)))
    } else if is_url {
        (true, "ApprovedAnnotation", format!("approved in {text}"))
    } else {
        let what = "with either a URL or a reason starting with \"unapproved\"";
        (
            false,
            "InvalidAnnotation",
            format!("protected groups must have approval annotation \"{APPROVAL}\" {what}, {see}"),
        )
    };
    Approval { approved, reason, message }
}

fn check_approval(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if !is_protected(object.at("spec").str_at("group")) {
        return;
    }
    let state = approval(object);
    // What was let in before stays.
    if old.is_some_and(|old| approval(old).reason == state.reason) {
        return;
    }
    let annotations = METADATA.child("annotations");
    let path = annotations.key(APPROVAL);
    match state.reason {
        "MissingAnnotation" => errors.required(&path, state.message),
        "InvalidAnnotation" => {
            let value = object.at("metadata").at("annotations").str_at(APPROVAL);
            errors.invalid(&path, value, state.message);
        }
        _ => {}
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec"])
    }

    /// Metadata is written through it, too: Kubernetes means to keep it, and does not.
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        definition::names(object.at("status").at("acceptedNames"), &STATUS.child("acceptedNames"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// The version that objects are stored in is one of those they may be stored in.
fn note_stored_version(object: &mut Value) {
    let mut versions = object.at("spec").list_at("versions").iter();
    let wanted = versions.find(|version| version.bool_at("storage")).map(|version| version.at("name").clone());
    let status = object.object_mut("status");
    let mut stored = status.list_at("storedVersions").to_vec();
    if let Some(name) = wanted {
        if !stored.contains(&name) {
            stored.push(name);
        }
    }
    if !stored.is_empty() {
        status.set("storedVersions", stored);
    }
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
    for (index, version) in versions.iter().enumerate().filter(|(_, version)| version.bool_at("storage")) {
        let name = version.str_at("name");
        // A stored version answers for one of that name.
        let again = versions[..index].iter().any(|earlier| earlier.str_at("name") == name);
        if again || !stored.contains(&name) {
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
