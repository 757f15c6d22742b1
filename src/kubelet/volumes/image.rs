//! `image` volumes: the root file system of an image, mounted by the runtime.
//!
//! The image is pulled with the containers' images, so that its errors and backoff show on the
//! containers; here is nothing to prepare.

use super::{Ready, Setup};
use futures::future::BoxFuture;
use std::path::PathBuf;

pub fn set_up<'a>(setup: &'a Setup<'a>, path: PathBuf) -> BoxFuture<'a, Result<Ready, String>> {
    Box::pin(async move {
        let Some(source) = &setup.volume.image else { return Err("no image source".to_owned()) };
        if source.reference.as_deref().unwrap_or_default().is_empty() {
            return Err("image volume has no reference".to_owned());
        }
        Ok(Ready { path, refresh_at: None })
    })
}
