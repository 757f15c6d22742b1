//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply, each against the
//! object as it is when it is stored.

use super::Call;
use super::write::{self, Change, Writer};
use crate::api::Status;
use crate::api::patch::PatchType;
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::{WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::{audit, codec};
use crate::resources::pipeline::metadata_str;
use crate::schema;
use http::{HeaderMap, header};

/// Of the `Content-Type`; 415 for what the kind does not take.
pub fn kind(headers: &HeaderMap, custom: bool) -> Result<PatchType, Status> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match PatchType::from_content_type(text) {
        Some(PatchType::Strategic) if custom => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        Some(kind) => Ok(kind),
        None => {
            let mut status = Status::unsupported_media_type("415: Unsupported Media Type");
            status.details = Some(Box::default());
            Err(status)
        }
    }
}

pub async fn patch(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let kind = kind(&parts.headers, row.custom)?;
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let apply = kind == PatchType::Apply;
    let write_kind = WriteKind::Patch { apply };
    let options = WriteOptions::parse(query, write_kind)?;
    let body = codec::read(body).await?;
    audit::patched(&body);
    let schema = codec::schema(row)?;
    let configuration = if apply { Some(codec::Configuration::read(&body, options.validation)?) } else { None };
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
        sent: bytes::Bytes::new(),
    };
    let manager = writer.manager.clone();
    let beside = codec::Beside { state, row };
    let create = apply && info.subresource.is_empty();
    let change: &mut Change = &mut |old, warnings| {
        let mut object = match (&configuration, old) {
            (Some(configuration), old) => {
                let reset = write::reset_fields(row, &info.subresource);
                let write =
                    schema::Write { versions: Some(&beside), ..schema::Write::new(&manager, &info.subresource, reset) };
                let applied = codec::apply(row, old, &configuration.object, options.force, &write)?;
                warnings.extend(configuration.check()?);
                applied
            }
            (None, Some(old)) => {
                let patched = schema::patch::patch(schema, old, &body, kind, options.validation)?;
                warnings.extend(patched.warnings);
                patched.object
            }
            (None, None) => return Err(Status::not_found(&row.group_resource, &info.name)),
        };
        write::check_namespace(row, &mut object, &info.namespace)?;
        let uid = metadata_str(&object, "uid");
        if old.is_none() && !uid.is_empty() {
            let detail =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&row.group_resource, &info.name, &detail));
        }
        write::check_name(&object, &info.name, &info.namespace)?;
        Ok(object)
    };
    match writer.update(None, create, change).await {
        Ok(written) => Ok(writer.reply(output, &written)),
        Err(status) => {
            let mut reply = respond::status_in(&status, output);
            respond::warn(&mut reply, &writer.warnings);
            Ok(reply)
        }
    }
}
