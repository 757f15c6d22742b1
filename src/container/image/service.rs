//! The images as the kubelet sees them: [`ImageService`] for [`Runtime`].

use super::LocalImage;
use crate::api::cri::{CriError, FilesystemUsage, Image, ImageService, RegistryAuth, Result};
use crate::container::Runtime;
use crate::container::stats::disk_usage;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;

#[async_trait]
impl ImageService for Runtime {
    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.images().list().iter().map(LocalImage::as_image).collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let images = self.images();
        if images.find(image).is_none() {
            images.settled().await;
        }
        Ok(images.find(image).map(|image| image.as_image()))
    }

    async fn pull_image(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image> {
        self.images().pull(image, auth, Arc::new(|_| {})).await.map(|image| image.as_image())
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let removed = self.images().remove(image, self.layers_in_use()).await;
        removed.map_err(|error| CriError::Internal(format!("remove image {image}: {error:#}")))
    }

    async fn filesystem(&self) -> Result<FilesystemUsage> {
        let root = self.images().root().to_owned();
        let usage = tokio::task::spawn_blocking(move || -> std::io::Result<FilesystemUsage> {
            let statistics = rustix::fs::statvfs(&root)?;
            let (used_bytes, inodes_used) = disk_usage(&root);
            Ok(FilesystemUsage {
                mountpoint: root,
                used_bytes,
                inodes_used,
                capacity_bytes: statistics.f_blocks * statistics.f_frsize,
                available_bytes: statistics.f_bavail * statistics.f_frsize,
                inodes: statistics.f_files,
                inodes_free: statistics.f_ffree,
            })
        });
        match usage.await {
            Ok(Ok(usage)) => Ok(usage),
            Ok(Err(error)) => Err(CriError::Internal(format!("usage of the image store: {error}"))),
            Err(error) => Err(CriError::Internal(error.to_string())),
        }
    }
}

impl Runtime {
    /// Layers that containers stand on, whatever becomes of their images.
    fn layers_in_use(&self) -> BTreeSet<String> {
        let state = self.state.lock();
        state.containers.values().flat_map(|container| container.record.layers.iter().cloned()).collect()
    }
}
