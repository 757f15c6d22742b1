//! PUT of one object, or of a subresource of the parent's kind.

use super::Call;
use super::write::{self, Writer};
use crate::api::Status;
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::{WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::{audit, codec};
use crate::resources::pipeline::metadata_str;

pub async fn update(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let options = WriteOptions::parse(query, WriteKind::Update)?;
    codec::media_type(&parts.headers)?;
    let body = codec::read(body).await?;
    let decoded = codec::decode(codec::schema(row)?, &parts.headers, &body, options.validation)?;
    let mut object = decoded.object;
    audit::requested(&object, |object| row.strategy.default(object));
    let mut writer = Writer {
        state,
        row,
        user,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        kind: WriteKind::Update,
        manager: write::manager(&options, &parts.headers),
        options: &options,
        warnings: decoded.warnings,
        sent: body,
    };
    let checked = write::check_namespace(row, &mut object, &info.namespace)
        .and_then(|()| write::check_name(&object, &info.name, &info.namespace));
    let result = match checked {
        Ok(()) => {
            let uid = Some(metadata_str(&object, "uid").to_owned()).filter(|uid| !uid.is_empty());
            let create = info.subresource.is_empty() && row.strategy.allow_create_on_update();
            writer.update(uid.as_deref(), create, &mut |_, _| Ok(object.clone())).await
        }
        Err(status) => Err(status),
    };
    match result {
        Ok(written) => Ok(writer.reply(output, &written)),
        Err(status) => {
            let mut reply = respond::status(&status);
            respond::warn(&mut reply, &writer.warnings);
            Ok(reply)
        }
    }
}
