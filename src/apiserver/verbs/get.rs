//! GET of one object: a lookup and a splice.

use super::Call;
use crate::api::Status;
use crate::apiserver::codec;
use crate::apiserver::negotiate::{self, Allows, Transform};
use crate::apiserver::options::{AtVersion, cached_version, parse_version};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, storage_status, too_large_version};
use crate::apiserver::table;
use http::StatusCode;

pub async fn get(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, .. } = &call;
    let output = negotiate::output(call.headers(), query, Allows::Transforms)?;
    let version = query.get("resourceVersion").unwrap_or_default();
    // Events are in no cache.
    let of_store = &*row.stored.resource == "events" && row.stored.group.is_empty();
    let version = if of_store { parse_version(version)? } else { cached_version(version)? };
    match version {
        AtVersion::Unset => state.storage.barrier().await.map_err(storage_status)?,
        AtVersion::Any => {}
        AtVersion::Number(number) => {
            let current = state.storage.revision().0;
            if number > current {
                return Err(too_large_version(number, current));
            }
        }
    }
    let entry = state.storage.get(&State::key(row, &info.namespace, &info.name));
    let entry = entry.ok_or_else(|| Status::not_found(&row.group_resource, &info.name))?;
    let entry = codec::converted(row, entry).await?;
    if output.transform == Transform::Table {
        let include = table::Include::of(output, query)?;
        return Ok(super::list::table(
            state,
            row,
            output,
            include,
            &[entry.clone()],
            &entry.revision.0.to_string(),
            None,
        ));
    }
    Ok(respond::entry(StatusCode::OK, output, row, &entry))
}
