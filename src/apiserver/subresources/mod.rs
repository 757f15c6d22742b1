//! What is answered by a function instead of a verb on stored objects: [`SUBRESOURCES`], by
//! `<plural>/<subresource>`, or by `<plural>` alone for a resource that is not stored.

mod binding;
mod component_status;
pub mod connect;
mod eviction;
pub mod reviews;
pub mod scale;
pub mod token_request;

use super::negotiate::{self, Allows, Output};
use super::options::{WriteKind, WriteOptions};
use super::respond::{self, Reply};
use super::verbs::Call;
use super::verbs::write;
use super::{audit, codec};
use crate::api::{GroupVersionKind, Status};
use crate::schema;
use async_trait::async_trait;
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;
use std::sync::Arc;

/// Answers a subresource or an unstored resource; the verb was checked against the row.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status>;

    /// Requests that no verb stands for (OPTIONS) are its affair, too: it passes them on.
    fn passes_on(&self) -> bool {
        false
    }
}

/// Those that need nothing but the store; composition adds others.
pub const SUBRESOURCES: &[(&str, fn() -> Arc<dyn Handler>)] = &[
    ("bindings", || Arc::new(binding::Binding)),
    ("componentstatuses", || Arc::new(component_status::ComponentStatuses)),
    ("pods/binding", || Arc::new(binding::Binding)),
    ("pods/eviction", || Arc::new(eviction::Eviction)),
];

/// The object that was posted, decoded and defaulted, and how to answer.
pub struct Posted {
    pub object: Value,
    pub options: WriteOptions,
    pub output: Output,
    pub warnings: Vec<String>,
    /// Of the request: for its headers and extensions.
    pub parts: Parts,
    /// The field manager.
    pub manager: String,
}

impl Call<'_> {
    /// The kind that the endpoint takes: the subresource's, else the row's.
    pub fn kind(&self) -> GroupVersionKind {
        let subresource = self.row.subresource(&self.info.subresource);
        subresource.and_then(|subresource| subresource.kind.clone()).unwrap_or_else(|| self.row.gvk.clone())
    }

    /// Read the body of a POST as an object of `kind`; 400, 413, 415 and 422 as for any create.
    pub async fn posted(self, kind: &GroupVersionKind) -> Result<Posted, Status> {
        let (parts, body) = self.request.into_parts();
        let output = negotiate::output(&parts.headers, self.query, Allows::Metadata)?;
        let options = WriteOptions::parse(self.query, WriteKind::Create)?;
        codec::media_type(&parts.headers)?;
        let body = codec::read(body).await?;
        let schema = schema_of(kind)?;
        let decoded = codec::decode(&schema, &parts.headers, &body, options.validation)?;
        audit::requested(&decoded.object, |_| {});
        let manager = write::manager(&options, &parts.headers);
        Ok(Posted { object: decoded.object, options, output, warnings: decoded.warnings, parts, manager })
    }
}

/// What comes of an object that was read with warnings: they are told also where it is refused.
pub fn answer(output: Output, warnings: &[String], result: Result<Reply, Status>) -> Result<Reply, Status> {
    let mut reply = match result {
        Err(status) if warnings.is_empty() => return Err(status),
        Err(status) => respond::status_in(&status, output),
        Ok(reply) => reply,
    };
    respond::warn(&mut reply, warnings);
    Ok(reply)
}

/// The schema of a built-in kind.
pub fn schema_of(kind: &GroupVersionKind) -> Result<schema::Schema, Status> {
    schema::builtin_schema(kind).ok_or_else(|| Status::internal(format!("{kind} has no schema")))
}

/// Whether a dry run is asked for by the options inside the posted object, too (an Eviction's
/// deleteOptions).
pub fn is_dry_run(options: &Value) -> bool {
    options["dryRun"].as_array().is_some_and(|list| list.iter().any(|value| value == "All"))
}

/// 201 `Success`, as subresources answer that have no object to show.
pub fn created() -> Reply {
    let mut status = Status::failure(201, "", "");
    status.status = "Success".to_owned();
    respond::json(StatusCode::CREATED, &status)
}

/// A reply with an object that is not stored.
pub fn object(
    code: StatusCode,
    output: Output,
    row: &crate::resources::Row,
    object: &Value,
    warnings: &[String],
) -> Reply {
    let mut reply = respond::object(code, output, row, object);
    respond::warn(&mut reply, warnings);
    reply
}

/// Errors that Kubernetes gives without a reason: 500 and the bare text.
pub fn bare_error(message: impl Into<String>) -> Status {
    Status::failure(500, "", message)
}
