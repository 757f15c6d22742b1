//! Bodies in and out of a row's schema: decoding requests, and bringing stored objects of another
//! schema up to the row's.

use super::state::State;
use crate::api::Status;
use crate::resources::Row;
use crate::resources::pipeline;
use crate::schema::{self, FieldValidation, MediaType};
use crate::storage::Body as Stored;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use std::sync::Arc;

/// Larger bodies are refused, as Kubernetes refuses them.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// The whole body; 413 when it is too large.
pub async fn read(body: Body) -> Result<Bytes, Status> {
    use http_body_util::{BodyExt, LengthLimitError, Limited};
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::request_entity_too_large(format!("Request entity too large: limit is {BODY_LIMIT}")))
        }
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// The media type of a body that is an object; JSON where the client does not say. 415 otherwise.
pub fn media_type(headers: &HeaderMap) -> Result<MediaType, Status> {
    let text = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default();
    if text.is_empty() {
        return Ok(MediaType::Json);
    }
    MediaType::from_content_type(text).ok_or_else(|| {
        Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    })
}

/// The schema of a row; every served row has one.
pub fn schema(row: &Row) -> Result<&schema::Schema, Status> {
    row.schema.as_ref().ok_or_else(|| Status::internal(format!("{} has no schema", row.gvk)))
}

/// Decode a request's body as an object of the schema, with defaults of the row.
pub fn decode(
    schema: &schema::Schema,
    headers: &HeaderMap,
    body: &[u8],
    validation: FieldValidation,
) -> Result<schema::Body, Status> {
    schema::decode_body(schema, body, media_type(headers)?, validation)
}

/// A stored object as the row has it: another version converted, a changed schema pruned and
/// defaulted.
pub fn upgrade(row: &Row, body: &Stored) -> Stored {
    let object = upgraded(row, body.parse());
    Stored::from_value(&object, row.schema_hash(), None)
}

fn upgraded(row: &Row, mut object: Value) -> Value {
    row.strategy.from_stored(&mut object);
    object["apiVersion"] = Value::String(row.api_version.clone());
    object["kind"] = Value::String(row.kind.to_string());
    if let Some(schema) = &row.schema
        && let Ok(decoded) = schema::normalize(schema, &object)
    {
        object = decoded.object;
    }
    row.strategy.default(&mut object);
    object
}

/// A stored object, parsed, as the row has it; without resourceVersion.
pub fn parse(row: &Row, body: &Stored) -> Value {
    let object = body.parse();
    if body.schema == row.schema_hash() { object } else { upgraded(row, object) }
}

/// The bytes to store of an object of the row, index and all.
pub fn encode(state: &Arc<State>, row: &Row, object: &Value) -> Stored {
    let _ = state;
    let index = pipeline::index(row, object);
    Stored::from_value(object, row.stored_hash(), Some(index))
}
