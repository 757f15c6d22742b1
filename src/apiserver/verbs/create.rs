//! POST to a collection.

use super::Call;
use super::write::{self, Writer};
use crate::api::Status;
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::{WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::{audit, codec};

pub async fn create(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let options = WriteOptions::parse(query, WriteKind::Create)?;
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
        name: "",
        subresource: "",
        kind: WriteKind::Create,
        manager: write::manager(&options, &parts.headers),
        options: &options,
        warnings: decoded.warnings,
        sent: body,
    };
    // What the decoder warned of is said of a refused object, too.
    let result = match write::check_namespace(row, &mut object, &info.namespace) {
        Ok(()) => writer.create(object, false).await,
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
