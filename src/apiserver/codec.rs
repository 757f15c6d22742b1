//! Bodies in and out of a row's schema: decoding requests, and bringing stored objects of another
//! schema up to the row's.

use super::discovery::verb_name;
use super::state::{State, check_readable};
use crate::api::{FieldsMut, GroupVersionKind, Status};
use crate::resources::{Row, Verb, pipeline};
use crate::schema::openapi::{Served, ServedSubresource};
use crate::schema::{self, FieldValidation, MediaType};
use crate::storage::{Body as Stored, Entry};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use std::sync::Arc;

/// Larger bodies are refused, as Kubernetes refuses them.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// What is still read of the body of a request that is refused.
const DRAIN_BYTES: usize = 4 << 20;
const DRAIN_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// The whole body; 413 when it is too large.
pub async fn read(mut body: Body) -> Result<Bytes, Status> {
    match Limited::new(&mut body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(Status::request_entity_too_large(format!("Request entity too large: limit is {BODY_LIMIT}")))
        }
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// A client that is refused while it still sends may see a broken stream and not the refusal: a short
/// rest of its body is read before the answer.
pub async fn drain(body: Body) {
    // What is longer or slower than that is cut off: its sender has to bear it.
    let _ = tokio::time::timeout(DRAIN_TIME, Limited::new(body, DRAIN_BYTES).collect()).await;
}

/// The media type of a body that is an object; JSON where the client does not say. 415 otherwise.
pub fn media_type(headers: &HeaderMap) -> Result<MediaType, Status> {
    let text = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or_default();
    if text.is_empty() {
        return Ok(MediaType::Json);
    }
    // A parameter is a name and a value.
    let well_formed = text.split(';').skip(1).all(|parameter| parameter.trim().is_empty() || parameter.contains('='));
    MediaType::from_content_type(text).filter(|_| well_formed).ok_or_else(|| {
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

/// The body to store of an object of the row, index and all.
pub async fn encode(state: &State, row: &Row, object: &Value) -> Result<Stored, Status> {
    if let Some(stored) = row.stored_version.as_ref().filter(|stored| stored.gvk != row.gvk) {
        let object = to_stored_version(row, stored, object).await?;
        return Ok(Stored::from_value(&object, row.stored_hash(), None));
    }
    let shared = row.stored_as.as_ref().and_then(|gvr| state.registry.row(&gvr.group, &gvr.version, &gvr.resource));
    let index = pipeline::index(shared.as_deref().unwrap_or(row), object);
    Ok(Stored::from_value(object, row.stored_hash(), Some(index)))
}

/// An object of a custom resource as the version in which all of them are stored.
async fn to_stored_version(row: &Row, stored: &schema::Schema, object: &Value) -> Result<Value, Status> {
    let api_version = stored.gvk.api_version();
    let converted = match &row.conversion {
        Some(conversion) => {
            let converted = conversion.convert(vec![object.clone()], &api_version).await.map_err(conversion_failed)?;
            converted.into_iter().next().unwrap_or_default()
        }
        None => object.clone(),
    };
    match schema::normalize(stored, &converted) {
        Ok(decoded) => Ok(decoded.object),
        Err(error) => Err(conversion_failed(error.0)),
    }
}

/// An object of one row as another row of the same objects has it.
pub async fn convert(from: &Row, to: &Row, object: &Value) -> Result<Value, Status> {
    let object = object.clone();
    if let Some(conversion) = from.conversion.as_ref().or(to.conversion.as_ref()) {
        let converted = conversion.convert(vec![object], &to.api_version).await.map_err(conversion_failed)?;
        return normalize(to, converted.into_iter().next().unwrap_or_default());
    }
    carry_over(from, to, object)
}

/// An object of the row as it comes back from the version that it is stored in.
pub fn through_storage(row: &Row, object: Value) -> Result<Value, Status> {
    carry_over(row, row, object)
}

/// As [`convert`], where no webhook is asked.
fn carry_over(from: &Row, to: &Row, mut object: Value) -> Result<Value, Status> {
    from.strategy.to_stored(&mut object);
    to.strategy.from_stored(&mut object);
    object["apiVersion"] = Value::String(to.api_version.clone());
    object["kind"] = Value::String(to.kind.to_string());
    normalize(to, object)
}

/// A row's objects in the other versions of their kind. Those that only a webhook could tell are not known.
pub struct Beside<'a> {
    pub state: &'a State,
    pub row: &'a Row,
}

impl std::fmt::Debug for Beside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "versions of {}", self.row.gvk)
    }
}

impl schema::Versions for Beside<'_> {
    fn of(&self, object: &Value, api_version: &str) -> schema::Version {
        let row = |api_version: &str| {
            let gvk = GroupVersionKind::from_api_version(api_version, &self.row.kind);
            let row = self.state.registry.row(&gvk.group, &gvk.version, &self.row.plural);
            row.filter(|row| row.kind == self.row.kind)
        };
        let Some(to) = row(api_version) else {
            // Kubernetes knows older versions of its own kinds, and need not serve them.
            let custom = self.row.schema.as_ref().is_some_and(|schema| schema.structural.is_some());
            return if custom { schema::Version::Gone } else { schema::Version::Unknown };
        };
        let Some(from) = row(object["apiVersion"].as_str().unwrap_or_default()) else {
            return schema::Version::Unknown;
        };
        if from.conversion.is_some() {
            return schema::Version::Unknown;
        }
        match (&to.schema, carry_over(&from, &to, object.clone())) {
            (Some(schema), Ok(object)) => schema::Version::Known(Box::new((schema.clone(), object))),
            _ => schema::Version::Unknown,
        }
    }
}

/// An object that somebody else wrote, decoded as the row's and with its defaults; 500 when it is none.
pub fn normalize(row: &Row, object: Value) -> Result<Value, Status> {
    let mut object = match &row.schema {
        Some(schema) => schema::normalize(schema, &object).map_err(|error| Status::internal(error.0))?.object,
        None => object,
    };
    row.strategy.default(&mut object);
    Ok(object)
}

/// The 500 of a webhook that did not do its work.
fn conversion_failed(error: String) -> Status {
    Status::failure(500, "", error)
}

/// A stored object as the row has it, where only a webhook can say how that looks; others are brought
/// up when they are read.
pub async fn converted(row: &Row, entry: Arc<Entry>) -> Result<Arc<Entry>, Status> {
    let mut entries = converted_all(row, vec![entry]).await?;
    entries.pop().ok_or_else(|| Status::internal("nothing came of a conversion"))
}

/// As [`converted`], of many in one call. One that cannot be decrypted is an error, and no object.
pub async fn converted_all(row: &Row, mut entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
    entries.iter().try_for_each(|entry| check_readable(row, entry))?;
    let Some(conversion) = &row.conversion else { return Ok(entries) };
    let mut places = Vec::new();
    let mut objects = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        if entry.body.schema != row.schema_hash() {
            let object = entry.body.parse_at(entry.revision);
            if object["apiVersion"] != row.api_version {
                places.push(place);
                objects.push(object);
            }
        }
    }
    if objects.is_empty() {
        return Ok(entries);
    }
    let converted = conversion.convert(objects, &row.api_version).await.map_err(conversion_failed)?;
    for (place, mut object) in places.into_iter().zip(converted) {
        pipeline::metadata(&mut object).remove("resourceVersion");
        let entry = &entries[place];
        let body = Stored::from_value(&upgraded(row, object), row.schema_hash(), None);
        entries[place] =
            Arc::new(Entry { key: entry.key.clone(), revision: entry.revision, created: entry.created, body });
    }
    Ok(entries)
}

/// `kind` and `apiVersion` of a body, as far as it says them.
pub fn kind_of(body: &[u8], media: MediaType) -> (String, String) {
    let value = match media {
        MediaType::Json => schema::scan::parse(body).ok(),
        MediaType::Yaml => schema::yaml::parse(body).ok(),
        MediaType::Protobuf => {
            let (api_version, kind) =
                schema::protobuf::open(body).map(|(version, kind, _)| (version, kind)).unwrap_or_default();
            return (kind, api_version);
        }
    };
    let text = |name: &str| {
        let value = value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    (text("kind"), text("apiVersion"))
}

/// The JSON of a body with another apiVersion.
pub fn of_version(body: &[u8], media: MediaType, api_version: &str) -> Result<Vec<u8>, String> {
    let mut value = match media {
        MediaType::Yaml => schema::yaml::parse(body)?,
        _ => serde_json::from_slice(body).map_err(|error| error.to_string())?,
    };
    value.set("apiVersion", api_version);
    Ok(value.to_string().into_bytes())
}

/// The configuration of an apply patch, and the keys that come twice in it.
pub struct Configuration {
    pub object: Value,
    strict: Vec<String>,
    validation: FieldValidation,
}

impl Configuration {
    pub fn read(body: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let (object, strict) = schema::read_configuration(body)?;
        Ok(Self { object, strict, validation })
    }

    /// The warnings of one that could be applied, or that it is refused for them all the same.
    pub fn check(&self) -> Result<Vec<String>, Status> {
        match self.validation {
            FieldValidation::Strict if !self.strict.is_empty() => {
                let all = self.strict.join(", ");
                let message = format!("error strict decoding YAML: error converting YAML to JSON: {all}");
                Err(Status::bad_request(message))
            }
            FieldValidation::Ignore => Ok(Vec::new()),
            _ => Ok(schema::warnings(self.strict.clone())),
        }
    }
}

/// The object that applying a configuration makes of `old`, managedFields included.
pub fn apply(
    row: &Row,
    old: Option<&Value>,
    configuration: &Value,
    force: bool,
    write: &schema::Write,
) -> Result<Value, Status> {
    schema::apply(schema(row)?, old, configuration, force, write)
}

/// Record in managedFields what a write changed.
pub fn track(row: &Row, live: Option<&Value>, object: &mut Value, write: &schema::Write) -> Result<(), Status> {
    schema::track(schema(row)?, live, object, write);
    Ok(())
}

/// The JSON of an object as protobuf, in its envelope. None: the kind has no protobuf form.
pub fn protobuf(schema: Option<&schema::Schema>, json: &[u8]) -> Option<Bytes> {
    let object = serde_json::from_slice(json).ok()?;
    schema::protobuf::encode(schema?, &object).map(Bytes::from)
}

/// A frame of a watch in protobuf, of an object that is not in the store.
pub fn protobuf_event(schema: Option<&schema::Schema>, event: &str, json: &[u8]) -> Option<Bytes> {
    let object = serde_json::from_slice(json).ok()?;
    let message = schema::protobuf::encode_message(schema?, &object)?;
    Some(schema::protobuf::encode_object_event(event, &schema?.gvk, &message).into())
}

/// The rows as a document tells of them.
pub fn served(rows: &[Arc<Row>]) -> Vec<Served> {
    let verbs = |verbs: &[Verb]| verbs.iter().map(|&verb| verb_name(verb)).collect();
    rows.iter()
        .map(|row| Served {
            gvk: row.gvk.clone(),
            plural: row.plural.to_string(),
            namespaced: row.namespaced,
            verbs: verbs(row.verbs),
            subresources: row
                .subresources
                .iter()
                .map(|subresource| ServedSubresource {
                    name: subresource.name.to_string(),
                    gvk: subresource.kind.clone().unwrap_or_else(|| row.gvk.clone()),
                    verbs: verbs(subresource.verbs),
                })
                .collect(),
            schema: row.schema.clone(),
            list_kind: row.list_kind.to_string(),
            returns_deleted: row.strategy.returns_deleted_object(),
            selectable: row.strategy.selectable().iter().map(|one| one.path.clone()).collect(),
        })
        .collect()
}
