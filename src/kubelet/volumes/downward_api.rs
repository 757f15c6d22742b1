//! `downwardAPI` volumes and projections: facts of the pod as files.

use super::atomic_writer::Payload;
use super::{DEFAULT_MODE, Ready, Setup, write_payload};
use crate::kubelet::env::fields;
use crate::kubelet::pod;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::DownwardAPIVolumeFile;
use std::path::PathBuf;

pub fn set_up<'a>(setup: &'a Setup<'a>, path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(source) = &setup.volume.downward_api else { return Err("no downwardAPI source".to_owned()) };
        let mut payload = Payload::default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        files(setup, source.items.as_deref().unwrap_or_default(), mode, &mut payload)?;
        let path = write_payload(setup, path, payload, true).await?;
        Ok(Ready { path, refresh_at: None })
    })
}

pub fn files(setup: &Setup, items: &[DownwardAPIVolumeFile], mode: i32, payload: &mut Payload) -> Result<(), String> {
    for item in items {
        let text = if let Some(reference) = &item.field_ref {
            fields::field(setup.pod, &reference.field_path, setup.addresses)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let (_, container) =
                pod::find_container(setup.pod, name).ok_or_else(|| format!("container {name} not found"))?;
            fields::resource(setup.pod, &container, selector, setup.allocatable)?
        } else {
            return Err(format!("{}: neither fieldRef nor resourceFieldRef is given", item.path));
        };
        payload.add(&item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}
