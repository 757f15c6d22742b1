//! `secret` volumes and projections; always in memory.

use super::atomic_writer::Payload;
use super::{DEFAULT_MODE, Ready, Setup, optionally, project, write_payload};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::KeyToPath;
use std::path::PathBuf;

pub fn set_up<'a>(setup: &'a Setup<'a>, path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(source) = &setup.volume.secret else { return Err("no secret source".to_owned()) };
        let mut payload = Payload::default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        files(setup, name, source.items.as_deref(), source.optional.unwrap_or(false), mode, &mut payload)?;
        let path = write_payload(setup, path, payload, true).await?;
        Ok(Ready { path, refresh_at: None })
    })
}

pub fn files(
    setup: &Setup,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    payload: &mut Payload,
) -> Result<(), String> {
    let Some(object) = optionally(setup.lookup.secret(name), optional)? else { return Ok(()) };
    let data = |key: &str| object.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let keys = object.data.iter().flatten().map(|(key, _)| key);
    let missing = |key: &str| format!("references non-existent secret key: {key}");
    project(data, keys, items, mode, optional, missing, payload)
}
