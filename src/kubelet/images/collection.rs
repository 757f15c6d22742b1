//! Image garbage collection: when the disk fills, images that no container uses go, the least
//! recently used first.
//!
//! It looks after each pull and when the node is short of disk, not by the clock.

use crate::api::cri::Image;
use crate::kubelet::context::Context;
use crate::kubelet::pod;
use crate::kubelet::pods::Pods;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Images in use, by id and by reference.
pub type UsedImages = HashSet<String>;

pub struct Collector {
    context: Arc<Context>,
    pods: Arc<Pods>,
    /// By image id: when it was first seen, and last used.
    seen: HashMap<String, (Instant, Instant)>,
}

impl Collector {
    pub fn new(context: Arc<Context>, pods: Arc<Pods>) -> Self {
        Self { context, pods, seen: HashMap::new() }
    }

    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.context.puller.disk_changed() => self.collect().await,
            }
        }
    }

    async fn collect(&mut self) {
        if let Err(error) = self.try_collect().await {
            tracing::warn!(%error, "image garbage collection");
        }
    }

    async fn try_collect(&mut self) -> crate::api::cri::Result<()> {
        let (high, low) = (self.context.config.image_gc_high, self.context.config.image_gc_low);
        let service = self.context.image_service.clone();
        let images = service.list_images().await?;
        let used = self.used();
        let now = Instant::now();
        self.note(&images, &used, now);
        let usage = service.filesystem().await?;
        if usage.capacity_bytes == 0 {
            return Ok(());
        }
        let taken = usage.capacity_bytes.saturating_sub(usage.available_bytes);
        let percent = |share: u8| usage.capacity_bytes / 100 * u64::from(share);
        if taken < percent(high) {
            return Ok(());
        }
        let mut to_free = taken.saturating_sub(percent(low));
        for image in self.candidates(&images, &used, now) {
            if to_free == 0 {
                break;
            }
            match service.remove_image(&image.id).await {
                Ok(()) => {
                    tracing::info!(image = %image.id, bytes = image.size, "removed an unused image");
                    to_free = to_free.saturating_sub(image.size);
                }
                Err(error) => tracing::warn!(image = %image.id, %error, "remove an unused image"),
            }
        }
        Ok(())
    }

    fn used(&self) -> UsedImages {
        let mut used = UsedImages::new();
        for shared in self.pods.all() {
            let state = shared.state.lock();
            used.extend(state.view.containers.iter().map(|container| container.image_id.clone()));
            used.extend(pod::all_containers(&state.pod).filter_map(|(_, container)| container.image.clone()));
        }
        used
    }

    fn note(&mut self, images: &[Image], used: &UsedImages, now: Instant) {
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let entry = self.seen.entry(image.id.clone()).or_insert((now, now));
            if is_used(image, used) {
                entry.1 = now;
            }
        }
    }

    /// Unused, not pinned and old enough, the least recently used first.
    fn candidates<'a>(&self, images: &'a [Image], used: &UsedImages, now: Instant) -> Vec<&'a Image> {
        let age = self.context.config.image_minimum_age;
        let mut out: Vec<&Image> = images
            .iter()
            .filter(|image| !image.pinned && !is_used(image, used))
            .filter(|image| self.seen.get(&image.id).is_some_and(|(first, _)| now.duration_since(*first) >= age))
            .collect();
        out.sort_by_key(|image| self.seen.get(&image.id).map(|(first, last)| (*last, *first)));
        out
    }
}

fn is_used(image: &Image, used: &UsedImages) -> bool {
    used.contains(&image.id) || image.repo_tags.iter().chain(&image.repo_digests).any(|name| used.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_used_by_id_or_name() {
        let image = Image { id: "sha256:1".into(), repo_tags: vec!["a:1".into()], ..Image::default() };
        assert!(is_used(&image, &UsedImages::from(["sha256:1".to_owned()])));
        assert!(is_used(&image, &UsedImages::from(["a:1".to_owned()])));
        assert!(!is_used(&image, &UsedImages::from(["a:2".to_owned()])));
    }
}
