//! VolumeAttachment: a volume to be attached to a node.

use crate::api::field::go_quote;
use crate::api::names;
use crate::api::value::same;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path, Report};
use crate::resources::core::persistent_volume;
use crate::resources::core::pod_spec::volumes::csi_driver_name;
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        status: true,
        subresources: vec![Subresource::status()],
        columns: vec![
            Column::name(),
            Column { format: "name".into(), ..Column::string("Attacher") },
            Column::string("PV"),
            Column::string("Node"),
            Column::boolean("Attached"),
            Column::string("Age"),
        ],
        strategy: Arc::new(VolumeAttachment),
        ..Resource::new("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments")
    }
}

struct VolumeAttachment;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
const MESSAGE_LIMIT: usize = 1024;
const METADATA_LIMIT: usize = 256 << 10;

impl Strategy for VolumeAttachment {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "attached": false }));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, &mut errors);
        let spec = object.at("spec");
        let attacher = spec.str_at("attacher");
        if !attacher.is_empty() {
            csi_driver_name(attacher, &SPEC.child("attacher"), &mut errors);
        }
        if let Some(name) = spec.at("source").optional_str("persistentVolumeName") {
            errors.check(&SPEC.child("source.persistentVolumeName"), name, names::dns_subdomain(name));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        if !same(object.at("spec"), old.at("spec")) {
            let shown = Some(shown(object.at("spec")));
            errors.push(FieldError { shown, ..FieldError::invalid(&SPEC, Value::Null, "field is immutable") });
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        Some(vec![
            cells::name(object),
            spec.str_at("attacher").into(),
            spec.at("source").str_at("persistentVolumeName").into(),
            spec.str_at("nodeName").into(),
            object.at("status").bool_at("attached").into(),
            cells::age(object, now),
        ])
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
        validate(object, &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// As Go writes the internal type.
fn shown(spec: &Value) -> String {
    let source = spec.at("source");
    let name = source.optional_str("persistentVolumeName").map_or("null".to_owned(), go_quote);
    format!(
        "{{\"Attacher\":{},\"Source\":{{\"PersistentVolumeName\":{name},\"InlineVolumeSpec\":{}}},\"NodeName\":{}}}",
        go_quote(spec.str_at("attacher")),
        source.at("inlineVolumeSpec"),
        go_quote(spec.str_at("nodeName"))
    )
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let spec = object.at("spec");
    if spec.str_at("attacher").is_empty() {
        errors.required(&SPEC.child("attacher"), "");
    }
    let path = SPEC.child("source");
    let source = spec.at("source");
    match (source.has("inlineVolumeSpec"), source.optional_str("persistentVolumeName")) {
        (false, None) => errors.required(&path, ONE_SOURCE),
        (true, Some(_)) => errors.forbidden(&path, ONE_SOURCE),
        (false, Some("")) => {
            errors.required(&path.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        (true, None) => {
            let path = path.child("inlineVolumeSpec");
            persistent_volume::validate_spec(source.at("inlineVolumeSpec"), "", true, &path, errors);
        }
        _ => {}
    }
    let node = spec.str_at("nodeName");
    errors.check(&SPEC.child("nodeName"), node, names::dns_subdomain(node));
    let status = object.at("status");
    let entries = status.map_at("attachmentMetadata").iter();
    if entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > METADATA_LIMIT {
        errors.too_long(&STATUS.child("attachmentMetadata"), METADATA_LIMIT as i64);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (status.at(field), STATUS.child(field));
        if error.str_at("message").len() > MESSAGE_LIMIT {
            // Kubernetes names the other limit.
            errors.too_long(&path.child("message"), METADATA_LIMIT as i64);
        }
        if let Some(code) = error.optional_int("errorCode").filter(|code| *code < 0) {
            errors.invalid(&path.child("errorCode"), code, "must be between 0 and 2147483647, inclusive");
        }
    }
}
