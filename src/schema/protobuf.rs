//! Objects as Kubernetes's protobuf and back, by the type table.
//!
//! [`encode`] and [`decode_body`] speak the `k8s\0` envelope of `runtime.Unknown`; the messages are
//! byte for byte what gogo's generated code writes: fields by number, values that are no pointers
//! even when they are zero, maps by key.

mod read;
mod write;

use super::body::Body;
use super::table::{Schema, Shape, TypeId, TypeTable};
use crate::api::{GroupVersionKind, Status};
use bytes::Bytes;
use serde_json::Value;

pub(super) use write::{bytes as put_bytes, double as put_double, integer as put_integer};

const MAGIC: &[u8] = b"k8s\0";

/// A message that does not read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(pub(super) &'static str);

/// The object in its envelope. None: the kind has no protobuf form.
pub fn encode(schema: &Schema, object: &Value) -> Option<Vec<u8>> {
    encode_message(schema, object).map(|message| envelope(&schema.gvk, &message))
}

/// The object's message, without an envelope. None: the kind has no protobuf form.
pub fn encode_message(schema: &Schema, object: &Value) -> Option<Vec<u8>> {
    if !has_protobuf(&schema.table, schema.root) {
        return None;
    }
    let mut out = Vec::with_capacity(1024);
    write::message(&schema.table, schema.root, object, &mut out);
    Some(out)
}

/// A message of [`encode_message`] in its envelope.
pub fn envelope(gvk: &GroupVersionKind, message: &[u8]) -> Vec<u8> {
    [&write::envelope_head(gvk, message.len()), message, write::ENVELOPE_TAIL].concat()
}

/// A list of objects of one kind; `items` are their messages.
pub fn encode_list(gvk: &GroupVersionKind, metadata: Value, items: &[Bytes]) -> Option<Vec<u8>> {
    let list = super::builtin_schema(gvk)?;
    let id = list.table.as_struct(list.root)?;
    let number = list.table.field(id, "items")?.field.number;
    let mut message = Vec::with_capacity(items.iter().map(|item| item.len() + 8).sum::<usize>() + 256);
    write::message(&list.table, list.root, &serde_json::json!({ "metadata": metadata }), &mut message);
    for item in items {
        write::bytes(number, item, &mut message);
    }
    Some(envelope(gvk, &message))
}

/// A frame of a watch with an object's message.
pub fn encode_object_event(event: &str, gvk: &GroupVersionKind, message: &[u8]) -> Vec<u8> {
    encode_event(event, &[&write::envelope_head(gvk, message.len()), message, write::ENVELOPE_TAIL])
}

/// A frame of a watch: four bytes of length, then a `WatchEvent` with the parts of the object's bytes.
pub fn encode_event(event: &str, object: &[&[u8]]) -> Vec<u8> {
    let size: usize = object.iter().map(|part| part.len()).sum();
    let mut raw = Vec::with_capacity(8);
    write::length(1, size, &mut raw);
    let mut out = Vec::with_capacity(size + event.len() + 24);
    out.extend_from_slice(&[0; 4]);
    write::bytes(1, event.as_bytes(), &mut out);
    write::length(2, raw.len() + size, &mut out);
    out.extend_from_slice(&raw);
    object.iter().for_each(|part| out.extend_from_slice(part));
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// The type that an envelope names, and the message in it.
pub fn open(body: &[u8]) -> Result<(String, String, &[u8]), ProtobufError> {
    if body.is_empty() {
        return Err(ProtobufError("empty data"));
    }
    if body == MAGIC {
        return Err(ProtobufError("empty body"));
    }
    let Some(envelope) = body.strip_prefix(MAGIC) else {
        return Err(ProtobufError(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    read::envelope(envelope)
}

/// The object of a message without an envelope.
pub fn decode_message(schema: &Schema, message: &[u8]) -> Result<Value, ProtobufError> {
    let mut object = read::message(&schema.table, schema.root, message)?;
    object["apiVersion"] = schema.gvk.api_version().into();
    object["kind"] = schema.gvk.kind.clone().into();
    Ok(object)
}

/// Decode a body for an endpoint of kind `schema.gvk`; see [`super::decode_body`].
pub(super) fn decode_body(schema: &Schema, body: &[u8]) -> Result<Body, Status> {
    let refused = |error: ProtobufError| super::body::unrecognized(schema, error.0, body);
    let (api_version, kind, message) = open(body).map_err(refused)?;
    if schema.structural.is_some() {
        let error = "custom resources have no protobuf form";
        return Err(super::body::unrecognized(schema, error, body));
    }
    let gvk = super::body::with_defaults(schema, &kind, &api_version);
    if gvk != schema.gvk {
        return Err(super::body::other_kind(schema, &gvk));
    }
    let object =
        decode_message(schema, message).map_err(|error| super::body::cannot_be_handled(schema, &gvk, error.0))?;
    Ok(Body { object, warnings: Vec::new() })
}

/// Whether any field has a number; types of other groups' JSON-only kinds have none.
fn has_protobuf(table: &TypeTable, root: TypeId) -> bool {
    table.as_struct(root).is_some_and(|id| table.declared(id).iter().any(|field| field.number != 0))
}

/// Named list types are messages of their own: `Verbs`, `ExtraValue`.
fn is_wrapped_list(table: &TypeTable, kind: TypeId) -> bool {
    let name = table.go_name(kind);
    matches!(table.shape(kind), Shape::List { .. }) && (name.ends_with(".ExtraValue") || name.ends_with(".Verbs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_comes_back() {
        let pod = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "Pod")).expect("a kind");
        let object = json!({"metadata": {"name": "p", "creationTimestamp": "2024-01-02T03:04:05Z", "labels": {"a": "b", "c": ""}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": -1}], "livenessProbe": {"httpGet": {"port": "http"}},
                "resources": {"limits": {"cpu": "100m"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0}});
        let object = super::super::normalize(&pod, &object).expect("an object").object;
        let bytes = encode(&pod, &object).expect("pods have a protobuf form");
        assert_eq!(decode_body(&pod, &bytes).expect("it reads").object, object);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let pod = super::super::builtin_schema(&GroupVersionKind::new("", "v1", "Pod")).expect("a kind");
        let bytes = encode(&pod, &super::super::zero_object(&pod)).expect("a message");
        for end in 0..bytes.len() {
            // A prefix may read, and must not panic.
            let _ = decode_body(&pod, &bytes[..end]);
        }
        let error = decode_body(&pod, b"{}").expect_err("JSON");
        assert_eq!(
            error.message,
            "the object provided is unrecognized (must be of type Pod): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})"
        );
        // A length beyond the end, a length that overflows, a field number of zero.
        for message in
            [&b"k8s\0\x12\xff\xff\xff\xff\x0f"[..], b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"k8s\0\x00"]
        {
            assert!(decode_body(&pod, message).is_err());
        }
    }
}
