//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply, each against the
//! object as it is when it is stored.

use super::Call;
use super::write::{self, Change, Writer, invalid_patch};
use crate::api::{Status, patch};
use crate::apiserver::codec;
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::{WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::resources::pipeline::metadata_str;
use crate::schema::{self, FieldValidation, Schema, apply, managed_fields, strategic};
use bytes::Bytes;
use http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    /// Of the `Content-Type`; 415 for what the kind does not take.
    pub fn parse(headers: &HeaderMap, custom: bool) -> Result<Self, Status> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if custom => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => {
                let mut status = Status::unsupported_media_type("415: Unsupported Media Type");
                status.details = Some(Box::default());
                Err(status)
            }
        }
    }
}

/// Where a patch starts to be too much work.
const JSON_PATCH_LIMIT: usize = 10_000;

pub async fn patch(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let kind = PatchKind::parse(&parts.headers, row.custom)?;
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let apply = kind == PatchKind::Apply;
    let write_kind = WriteKind::Patch { apply };
    let options = WriteOptions::parse(query, write_kind)?;
    let body = codec::read(body).await?;
    let schema = codec::schema(row)?;
    let patch = Patch::parse(kind, schema, &body, options.validation)?;
    let mut writer = Writer {
        state,
        row,
        user,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        kind: write_kind,
        manager: write::manager(&options, &parts.headers),
        options: &options,
        warnings: Vec::new(),
    };
    let manager = writer.manager.clone();
    let request = Applied { schema, patch: &patch, options: &options, manager: &manager, subresource: &info.subresource };
    let create = apply && info.subresource.is_empty();
    let change: &mut Change = &mut |old, warnings| {
        let mut object = request.to(old, warnings)?;
        write::check_namespace(row, &mut object, &info.namespace)?;
        if old.is_none() && !metadata_str(&object, "uid").is_empty() {
            let detail = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                metadata_str(&object, "uid")
            );
            return Err(Status::conflict(&row.group_resource, &info.name, &detail));
        }
        write::check_name(&object, &info.name, &info.namespace)?;
        Ok(object)
    };
    match writer.update(None, create, change).await {
        Ok(written) => Ok(writer.reply(output, &written)),
        Err(status) => {
            let mut reply = respond::status(&status);
            respond::warn(&mut reply, &writer.warnings);
            Ok(reply)
        }
    }
}

/// A patch, read.
pub enum Patch {
    Json(Vec<patch::Operation>),
    Merge(Value),
    Strategic(Value),
    Apply(schema::Body),
}

impl Patch {
    pub fn parse(kind: PatchKind, schema: &Schema, body: &Bytes, validation: FieldValidation) -> Result<Self, Status> {
        Ok(match kind {
            PatchKind::Json => {
                let operations = patch::parse(body).map_err(Status::bad_request)?;
                if operations.len() > JSON_PATCH_LIMIT {
                    return Err(Status::request_entity_too_large(format!(
                        "The allowed maximum operations in a JSON patch is {JSON_PATCH_LIMIT}, got {}",
                        operations.len()
                    )));
                }
                Self::Json(operations)
            }
            PatchKind::Merge => Self::Merge(schema::parse_json(body).map_err(Status::bad_request)?),
            PatchKind::Strategic => Self::Strategic(schema::parse_json(body).map_err(Status::bad_request)?),
            PatchKind::Apply => Self::Apply(apply::decode(schema, body, validation)?),
        })
    }
}

/// A patch on its way to an object.
pub struct Applied<'a> {
    pub schema: &'a Schema,
    pub patch: &'a Patch,
    pub options: &'a WriteOptions,
    pub manager: &'a str,
    pub subresource: &'a str,
}

impl Applied<'_> {
    /// The object that the patch makes of `old`; apply alone makes one of nothing.
    pub fn to(&self, old: Option<&Value>, warnings: &mut Vec<String>) -> Result<Value, Status> {
        let patched = match (self.patch, old) {
            (Patch::Apply(configuration), old) => {
                warnings.extend(configuration.warnings.iter().cloned());
                let manager = managed_fields::Manager {
                    name: self.manager,
                    operation: managed_fields::Operation::Apply,
                    subresource: self.subresource,
                    now: Timestamp::now(),
                };
                return apply::apply(self.schema, old, &configuration.object, &manager, self.options.force);
            }
            (_, None) => return Err(Status::internal("a patch needs an object")),
            (Patch::Json(operations), Some(old)) => patch::apply(old, operations).map_err(|_| {
                let mut status =
                    Status::failure(422, "Invalid", "the server rejected our request due to an error in our request");
                status.details = Some(Box::default());
                status
            })?,
            (Patch::Merge(merge), Some(old)) => {
                let mut object = old.clone();
                patch::merge(&mut object, merge);
                object
            }
            (Patch::Strategic(strategic), Some(old)) => strategic::merge(self.schema, old, strategic)?,
        };
        let decoded = schema::normalize(self.schema, &patched).map_err(|error| invalid_patch(&patched.to_string(), &error.0))?;
        if !decoded.strict.is_empty() {
            match self.options.validation {
                FieldValidation::Strict => {
                    let error = format!("strict decoding error: {}", decoded.strict.join(", "));
                    return Err(invalid_patch(&patched.to_string(), &error));
                }
                FieldValidation::Warn => warnings.extend(decoded.strict),
                FieldValidation::Ignore => {}
            }
        }
        Ok(decoded.object)
    }
}
