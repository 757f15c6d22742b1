//! Replies: objects, lists and statuses in the negotiated form.
//!
//! JSON of stored objects is spliced, never parsed, and indented as it goes out; YAML and protobuf
//! are made from the same bytes.

use super::indent::Indented;
use super::negotiate::{Format, Output, Transform};
use super::table;
use crate::api::{GroupVersionKind, Status, field, yaml};
use crate::resources::Row;
use crate::schema;
use crate::storage::{Body as Stored, Entry, Revision};
use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::convert::Infallible;

pub type Reply = Response<Body>;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
pub const PROTOBUF: HeaderValue = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Characters of all warnings of a reply together; beyond, each is cut.
const WARNINGS_LIMIT: usize = 4 * 1024;
const WARNING_LIMIT: usize = 256;
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

pub fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::from(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    reply
}

/// 204 without a body.
pub fn nothing() -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

pub fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    let mut reply = bytes(status, TEXT, body.into());
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// The 404 of a path that nobody serves.
pub fn page_not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    bytes(status, JSON, serde_json::to_vec(value).expect("a reply prints"))
}

/// An error, or the success of a deletion. Always understood, so it is never refused for its form.
pub fn status(status: &Status) -> Reply {
    status_in(status, Output::JSON)
}

/// As [`status`], in the form that the client reads.
pub fn status_in(status: &Status, output: Output) -> Reply {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A success carries no code where Kubernetes leaves it out: deletions.
    let mut reply = match output.format {
        Format::Protobuf => {
            let value = serde_json::to_value(status).expect("a status prints");
            api_machinery(code, output, &value)
        }
        _ => meta_bytes(code, output, serde_json::to_vec(status).expect("a status prints")),
    };
    if let Some(details) = &status.details
        && details.retry_after_seconds > 0
    {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(details.retry_after_seconds));
    }
    reply
}

/// `Status` of kind Success without a code, as deletions answer.
pub fn deleted(status: &Status) -> Reply {
    let mut value = serde_json::to_value(status).expect("a status prints");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("code");
    }
    json(StatusCode::OK, &value)
}

fn warning(text: &str) -> Option<HeaderValue> {
    // What has control characters cannot be one.
    if text.chars().any(char::is_control) {
        return None;
    }
    HeaderValue::from_str(&format!("299 - {}", field::go_quote(text))).ok()
}

/// `Warning: 299 - "text"` per text, each once. Where all together are too long, each is cut.
pub fn warn(reply: &mut Reply, warnings: &[String]) {
    let mut seen = std::collections::HashSet::new();
    let texts: Vec<&str> =
        warnings.iter().map(String::as_str).filter(|text| !text.is_empty() && seen.insert(*text)).collect();
    let length = |text: &str| text.chars().count();
    let cut = texts.iter().map(|text| length(text)).sum::<usize>() > WARNINGS_LIMIT;
    let mut written = 0;
    for text in texts {
        let text: String = if cut { text.chars().take(WARNING_LIMIT).collect() } else { text.to_owned() };
        if cut && written >= WARNINGS_LIMIT {
            break;
        }
        written += length(&text);
        if let Some(value) = warning(&text) {
            reply.headers_mut().append(WARNING, value);
        }
    }
}

/// One more warning, before those that are there.
pub fn warn_first(reply: &mut Reply, text: &str) {
    let others: Vec<HeaderValue> = reply.headers().get_all(WARNING).iter().cloned().collect();
    reply.headers_mut().remove(WARNING);
    for value in warning(text).into_iter().chain(others) {
        reply.headers_mut().append(WARNING, value);
    }
}

/// A stored object.
pub fn entry(code: StatusCode, output: Output, row: &Row, entry: &Entry) -> Reply {
    stored(code, output, row, &entry.body, entry.revision)
}

pub fn stored(code: StatusCode, output: Output, row: &Row, body: &Stored, revision: Revision) -> Reply {
    let body = current(row, body);
    match output.transform {
        Transform::None => json_bytes(code, output, row, body.render(revision)),
        Transform::PartialMetadata => {
            let mut out = partial_head("PartialObjectMetadata", output);
            write_metadata(row, &body, revision, &mut out);
            out.push(b'}');
            meta_bytes(code, output, out)
        }
        Transform::Table => {
            let object = body.parse_at(revision);
            let version = revision.0.to_string();
            let table = table::of(row, output, [(&object, None)].into_iter(), json!({ "resourceVersion": version }));
            meta_bytes(code, output, serde_json::to_vec(&table).expect("a table prints"))
        }
    }
}

/// The body as the row's schema has it now: converted, defaulted and pruned where another schema
/// wrote it.
pub fn current<'a>(row: &Row, body: &'a Stored) -> std::borrow::Cow<'a, Stored> {
    if body.schema == row.schema_hash() {
        return std::borrow::Cow::Borrowed(body);
    }
    std::borrow::Cow::Owned(super::codec::upgrade(row, body))
}

/// An object that is not stored: a review, a Scale, a dry run.
pub fn object(code: StatusCode, output: Output, row: &Row, object: &Value) -> Reply {
    match output.transform {
        Transform::None => {
            if output.format == Format::Protobuf
                && let Some(schema) = schema_of(row, object)
                && let Some(protobuf) = schema::protobuf::encode(&schema, object)
            {
                return bytes(code, PROTOBUF, protobuf);
            }
            meta_bytes(code, output, serde_json::to_vec(object).expect("an object prints"))
        }
        Transform::PartialMetadata => {
            let mut out = partial_head("PartialObjectMetadata", output);
            serde_json::to_writer(&mut out, &metadata_of(row, object)).expect("metadata prints");
            out.push(b'}');
            meta_bytes(code, output, out)
        }
        Transform::Table => {
            let table = table::of(row, output, [(object, None)].into_iter(), json!({}));
            meta_bytes(code, output, serde_json::to_vec(&table).expect("a table prints"))
        }
    }
}

/// Objects that are not stored.
pub fn list(output: Output, row: &Row, items: &[Value]) -> Reply {
    let value = match output.transform {
        Transform::Table => table::of(row, output, items.iter().map(|item| (item, None)), json!({})),
        Transform::PartialMetadata => {
            let partial = |item: &Value| {
                let head = ("PartialObjectMetadata", output.meta_version());
                json!({ "kind": head.0, "apiVersion": head.1, "metadata": metadata_of(row, item) })
            };
            json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": output.meta_version(),
                "metadata": {},
                "items": items.iter().map(partial).collect::<Vec<_>>(),
            })
        }
        Transform::None => {
            json!({ "kind": &row.list_kind, "apiVersion": row.api_version, "metadata": {}, "items": bare(items) })
        }
    };
    api_machinery(StatusCode::OK, output, &value)
}

/// Items of a list say their kind in the list.
fn bare(items: &[Value]) -> Vec<Value> {
    let mut items = items.to_vec();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.remove("kind");
        item.remove("apiVersion");
    }
    items
}

/// A document of a kind that is built in and has no row: of discovery, or made for the reply.
pub fn api_machinery(code: StatusCode, output: Output, value: &Value) -> Reply {
    if output.format == Format::Protobuf {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let said = GroupVersionKind::from_api_version(text("apiVersion"), text("kind"));
        // The oldest of them do not say their version.
        let known = GroupVersionKind {
            version: if said.version.is_empty() { "v1".into() } else { said.version.clone() },
            ..said.clone()
        };
        let kind = schema::builtin_schema(&known);
        if let Some(message) = kind.and_then(|kind| schema::protobuf::encode_message(&kind, value)) {
            return bytes(code, PROTOBUF, schema::protobuf::envelope(&said, &message));
        }
    }
    meta_bytes(code, output, serde_json::to_vec(value).expect("a document prints"))
}

/// The metadata of an object that is shown without the rest of it.
pub fn write_metadata(row: &Row, body: &Stored, revision: Revision, out: &mut Vec<u8>) {
    if row.strategy.field_annotations().is_empty() {
        return body.write_metadata(revision, out);
    }
    let object = body.parse_at(revision);
    serde_json::to_writer(out, &metadata_of(row, &object)).expect("a Vec takes it");
}

/// As [`write_metadata`], of a parsed object.
pub fn metadata_of(row: &Row, object: &Value) -> Value {
    let mut metadata = object["metadata"].clone();
    for name in row.strategy.field_annotations() {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(*name);
            if annotations.is_empty() {
                metadata.as_object_mut().expect("it has annotations").remove("annotations");
            }
        }
    }
    metadata
}

/// A subresource may show another kind than its row's: a Scale, a TokenRequest.
fn schema_of(row: &Row, object: &Value) -> Option<schema::Schema> {
    let kind = GroupVersionKind::from_api_version(object["apiVersion"].as_str()?, object["kind"].as_str()?);
    if kind == row.gvk { row.schema.clone() } else { schema::builtin_schema(&kind) }
}

/// `{"kind":"…","apiVersion":"meta.k8s.io/v1","metadata":`
pub fn partial_head(kind: &str, output: Output) -> Vec<u8> {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{}\",\"metadata\":", output.meta_version()).into_bytes()
}

/// JSON of an object of the row, or of its list, in the form asked for.
fn json_bytes(code: StatusCode, output: Output, row: &Row, json: Bytes) -> Reply {
    if output.format == Format::Protobuf
        && let Some(protobuf) = super::codec::protobuf(row.schema.as_ref(), &json)
    {
        return bytes(code, PROTOBUF, protobuf);
    }
    meta_bytes(code, output, json)
}

/// JSON of a kind of the API machinery; protobuf readers of those take JSON, too.
pub fn meta_bytes(code: StatusCode, output: Output, json: impl Into<Bytes>) -> Reply {
    let json = json.into();
    if output.format == Format::Yaml {
        let value: Value = serde_json::from_slice(&json).expect("our own JSON");
        return bytes(code, YAML, yaml::print(&value));
    }
    if output.pretty {
        let mut pieces = Indented::new(json);
        let first = pieces.next().unwrap_or_default();
        let Some(second) = pieces.next() else { return bytes(code, JSON, first) };
        let mut reply = bytes(code, JSON, Bytes::new());
        let pieces = [first, second].into_iter().chain(pieces).map(Ok::<_, Infallible>);
        *reply.body_mut() = Body::from_stream(futures::stream::iter(pieces));
        return reply;
    }
    bytes(code, JSON, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::negotiate;
    use http::HeaderMap;
    use http::header::ACCEPT;

    #[test]
    fn a_subresource_of_another_kind_keeps_it_in_protobuf() {
        let registry = crate::resources::Registry::built_in();
        let row = registry.row("", "v1", "serviceaccounts").expect("a built-in row");
        let headers = HeaderMap::from_iter([(ACCEPT, PROTOBUF)]);
        let query = super::super::request::Query::parse(&http::Uri::from_static("/"));
        let output = negotiate::output(&headers, &query, negotiate::Allows::Transforms).expect("protobuf is offered");
        let token =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "status": {"token": "abc"}});
        let reply = object(StatusCode::CREATED, output, &row, &token);
        let body = futures::executor::block_on(axum::body::to_bytes(reply.into_body(), 1 << 20)).expect("a body");
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("TokenRequest") && text.contains("abc"), "{text}");
    }
}
