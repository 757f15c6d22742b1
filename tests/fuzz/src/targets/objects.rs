//! Bodies and patches of objects.

use orch::api::GroupVersionKind;
use orch::api::patch::PatchType;
use orch::schema::{
    FieldSet, FieldValidation, MediaType, Schema, Write, apply, builtin_schema, decode_body, normalize, patch,
    protobuf, read_configuration, track,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

static POD: LazyLock<Schema> =
    LazyLock::new(|| builtin_schema(&GroupVersionKind::new("", "v1", "Pod")).expect("a kind"));
static SERVICE: LazyLock<Schema> =
    LazyLock::new(|| builtin_schema(&GroupVersionKind::new("", "v1", "Service")).expect("a kind"));

/// With something of each list type.
static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "default", "resourceVersion": "7", "labels": { "a": "b" },
            "finalizers": ["x/y"], "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" }],
            "managedFields": [{
                "manager": "m", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:containers": { "k:{\"name\":\"a\"}": { ".": {}, "f:image": {}, "f:name": {} } } } },
            }],
        },
        "spec": {
            "containers": [
                { "name": "a", "image": "i", "ports": [{ "containerPort": 80, "protocol": "TCP" }], "env": [{ "name": "E", "value": "1" }] },
                { "name": "b", "image": "j", "resources": { "limits": { "cpu": "1500m" } } },
            ],
            "tolerations": [{ "key": "k", "operator": "Exists" }],
            "volumes": [{ "name": "v", "emptyDir": {} }],
        },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
});

const VALIDATIONS: [FieldValidation; 3] = [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict];

/// What was made of a patch is an object that reads back as it is.
fn patched(data: &[u8], kind: PatchType) {
    let Some((first, bytes)) = data.split_first() else { return };
    let validation = VALIDATIONS[usize::from(*first) % VALIDATIONS.len()];
    if let Ok(body) = patch(&POD, &OBJECT, bytes, kind, validation) {
        settled(&body.object);
    }
}

/// Normal objects are normal.
fn settled(object: &Value) {
    if let Ok(once) = normalize(&POD, object) {
        let twice = normalize(&POD, &once.object).expect("a normal object is one");
        assert_eq!(once.object, twice.object);
    }
}

pub fn json_patch(data: &[u8]) {
    patched(data, PatchType::Json);
}

pub fn merge_patch(data: &[u8]) {
    patched(data, PatchType::Merge);
}

pub fn strategic_patch(data: &[u8]) {
    patched(data, PatchType::Strategic);
}

pub fn apply_patch(data: &[u8]) {
    let Ok((configuration, _)) = read_configuration(data) else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let write = Write { manager: "fuzz", subresource: "", ignored: &[], now, versions: None };
    for live in [None, Some(&*OBJECT)] {
        if let Ok(applied) = apply(&POD, live, &configuration, true, &write) {
            settled(&applied);
        }
    }
}

fn body(data: &[u8], media: MediaType) {
    for schema in [&*POD, &*SERVICE] {
        for validation in VALIDATIONS {
            let Ok(body) = decode_body(schema, data, media, validation) else { continue };
            let mut object = body.object;
            let now = jiff::Timestamp::UNIX_EPOCH;
            track(
                schema,
                None,
                &mut object,
                &Write { manager: "fuzz", subresource: "", ignored: &["status"], now, versions: None },
            );
            // What can be told in protobuf is told back.
            if let Some(bytes) = protobuf::encode(schema, &object) {
                decode_body(schema, &bytes, MediaType::Protobuf, FieldValidation::Ignore).expect("our own reads back");
            }
        }
    }
}

pub fn json_body(data: &[u8]) {
    body(data, MediaType::Json);
}

pub fn yaml_body(data: &[u8]) {
    body(data, MediaType::Yaml);
}

pub fn protobuf_body(data: &[u8]) {
    body(data, MediaType::Protobuf);
    // The envelope is seldom guessed.
    for schema in [&*POD, &*SERVICE] {
        if let Ok(object) = protobuf::decode_message(schema, data) {
            protobuf::encode(schema, &object);
        }
    }
}

pub fn field_set(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Some(set) = FieldSet::from_value(&value) else { return };
    set.paths();
    let printed = set.clone().into_value();
    let back = FieldSet::from_value(&printed).expect("our own reads back");
    assert_eq!(back.clone().into_value(), printed);
    assert!(set.difference(&back).is_empty());
    let mut object = OBJECT.clone();
    object["metadata"]["managedFields"][0]["fieldsV1"] = value;
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut new = OBJECT.clone();
    new["spec"]["containers"][0]["image"] = "other".into();
    track(
        &POD,
        Some(&object),
        &mut new,
        &Write { manager: "fuzz", subresource: "", ignored: &[], now, versions: None },
    );
}
