//! The images of this node on disk: layers unpacked once each, a small record per image.
//!
//! `layers/<digest>/fs` is a layer in overlay form, valid with `complete` beside it; `images/<id>.json`
//! names an image's layers and references. A layer is unpacked aside, synced, renamed, and only then
//! marked; what is not marked goes at the next start.

use super::document::Configuration;
use super::registries::Registries;
use super::unpack::{self, Unpacked};
use super::{Limits, digest_hex};
use crate::api::cri::Image;
use crate::container::binary::Binary;
use crate::container::record;
use crate::container::spec::ImageConfig;
use anyhow::{Context, Result, bail};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalImage {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Full references: `docker.io/library/nginx:1.27`.
    pub repo_tags: BTreeSet<String>,
    /// `docker.io/library/nginx@sha256:…`.
    pub repo_digests: BTreeSet<String>,
    /// Digests (their hex digits) of the unpacked layers, bottom first.
    pub layers: Vec<String>,
    pub size: u64,
    pub config: ImageConfig,
    #[serde(default)]
    pub pinned: bool,
}

impl LocalImage {
    pub fn as_image(&self) -> Image {
        let user = self.config.user.split(':').next().unwrap_or_default();
        let uid = if user.is_empty() { None } else { user.parse().ok() };
        Image {
            id: self.id.clone(),
            repo_tags: self.repo_tags.iter().cloned().collect(),
            repo_digests: self.repo_digests.iter().cloned().collect(),
            size: self.size,
            uid,
            username: if uid.is_none() { user.to_owned() } else { String::new() },
            pinned: self.pinned,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Complete {
    bytes: u64,
    entries: u64,
}

/// A layer to be unpacked: where its bytes are, and what they must be.
pub struct LayerSource {
    pub file: fs::File,
    pub offset: u64,
    pub length: u64,
    pub diff_id: String,
}

pub struct ImageStore {
    pub(super) data_dir: PathBuf,
    root: PathBuf,
    binary: Arc<Binary>,
    images: RwLock<BTreeMap<String, LocalImage>>,
    pub(super) registries_file: PathBuf,
    pub(super) limits: Limits,
    /// Layers that somebody is unpacking now: the second one waits for the first.
    unpacking: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// Held while images change, so that a layer is not collected between its unpacking and its image.
    changing: Arc<tokio::sync::RwLock<()>>,
    /// Whether archives of the images directory are still to be imported.
    pub(super) importing: tokio::sync::watch::Sender<bool>,
}

impl ImageStore {
    pub(in crate::container) fn open(data_dir: &Path, registries_file: &Path, binary: Arc<Binary>) -> Result<Self> {
        let root = data_dir.join("store");
        for name in ["layers", "images", "downloads"] {
            record::private_directory(&root.join(name))?;
        }
        let store = Self {
            data_dir: data_dir.to_owned(),
            binary,
            images: RwLock::default(),
            registries_file: registries_file.to_owned(),
            limits: Limits::default(),
            unpacking: Mutex::default(),
            changing: Arc::default(),
            importing: tokio::sync::watch::Sender::new(false),
            root,
        };
        store.load()?;
        Ok(store)
    }

    /// Remove what was not finished, read the rest.
    fn load(&self) -> Result<()> {
        record::remove_directory(&self.downloads())?;
        record::private_directory(&self.downloads())?;
        for name in record::directories(&self.root.join("layers"))? {
            let directory = self.root.join("layers").join(&name);
            if !directory.join("complete").is_file() {
                tracing::info!("layer {name} is incomplete: removed");
                record::remove_directory(&directory)?;
            }
        }
        let mut images = BTreeMap::new();
        let directory = self.root.join("images");
        for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let image = record::read::<LocalImage>(&path).and_then(|image| image.context("it vanished"));
            let whole = image.and_then(|image| match image.layers.iter().find(|layer| !self.has_layer(layer)) {
                None => Ok(image),
                Some(layer) => bail!("its layer {layer} is missing"),
            });
            match whole {
                Ok(image) => drop(images.insert(image.id.clone(), image)),
                Err(error) => {
                    tracing::warn!("image record {} is dropped: {error:#}", path.display());
                    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                }
            }
        }
        *self.images.write() = images;
        Ok(())
    }

    pub(super) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn registries(&self) -> Result<Registries> {
        Registries::read(&self.registries_file)
    }

    pub fn list(&self) -> Vec<LocalImage> {
        self.images.read().values().cloned().collect()
    }

    /// By id (or a unique begin of it), reference or digest.
    pub async fn local(&self, name: &str) -> Result<Option<LocalImage>> {
        Ok(self.find(name))
    }

    pub(super) fn find(&self, name: &str) -> Option<LocalImage> {
        let images = self.images.read();
        let with_prefix = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        if let Some(image) = images.get(&with_prefix) {
            return Some(image.clone());
        }
        if let Ok(reference) = super::registry::parse(name) {
            let whole = reference.whole();
            let found = images
                .values()
                .find(|image| image.repo_tags.contains(&whole) || image.repo_digests.contains(&reference.by_digest()));
            if found.is_some() {
                return found.cloned();
            }
        }
        let is_short = name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut matching = images.values().filter(|image| is_short && image.id.starts_with(&with_prefix));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Some(image.clone()),
            _ => None,
        }
    }

    /// Directories for an overlay mount, the top one first.
    pub fn layer_paths(&self, image: &LocalImage) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|layer| self.root.join("layers").join(layer).join("fs")).collect()
    }

    pub(super) fn has_layer(&self, hex: &str) -> bool {
        self.root.join("layers").join(hex).join("complete").is_file()
    }

    /// Held by whoever adds an image, from its first layer to its record.
    pub(super) async fn adding(&self) -> tokio::sync::OwnedRwLockReadGuard<()> {
        Arc::clone(&self.changing).read_owned().await
    }

    /// Unpack a layer unless it is here. Blocks.
    pub(super) fn add_layer(&self, source: &LayerSource) -> Result<()> {
        let hex = digest_hex(&source.diff_id)?.to_owned();
        let turn = Arc::clone(self.unpacking.lock().entry(hex.clone()).or_default());
        let outcome = {
            let _turn = turn.lock();
            if self.has_layer(&hex) { Ok(()) } else { self.unpack(source, &hex) }
        };
        self.unpacking.lock().remove(&hex);
        outcome.with_context(|| format!("layer {}", super::short(&source.diff_id)))
    }

    fn unpack(&self, source: &LayerSource, hex: &str) -> Result<()> {
        let layers = self.root.join("layers");
        let aside = layers.join(format!("new-{}", &crate::container::sandbox::new_id()[..16]));
        let fs_directory = aside.join("fs");
        record::private_directory(&aside)?;
        // The root of a file system is open to all; what surrounds it is not.
        fs::create_dir(&fs_directory)?;
        fs::set_permissions(&fs_directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let unpacked = unpack::in_child(&self.binary, source, &fs_directory, &self.limits);
        let finished = unpacked.and_then(|Unpacked { bytes, entries, .. }| -> Result<()> {
            sync_file_system(&aside)?;
            let target = layers.join(hex);
            record::remove_directory(&target)?;
            fs::rename(&aside, &target).with_context(|| format!("rename {}", aside.display()))?;
            sync_directory(&layers)?;
            write_durably(&target.join("complete"), &serde_json::to_vec(&Complete { bytes, entries })?)
        });
        if finished.is_err() {
            record::remove_directory(&aside)?;
        }
        finished
    }

    /// Record an image whose layers are all here; its references move to it from others.
    pub(super) fn add_image(
        &self,
        id: &str,
        configuration: &Configuration,
        tags: &BTreeSet<String>,
        digests: &BTreeSet<String>,
    ) -> Result<LocalImage> {
        let hex = digest_hex(id)?;
        let layers: Vec<String> =
            configuration.diff_ids.iter().map(|digest| digest_hex(digest).map(str::to_owned)).collect::<Result<_>>()?;
        let mut size = 0;
        for layer in layers.iter().collect::<BTreeSet<_>>() {
            let complete = self.root.join("layers").join(layer).join("complete");
            let complete =
                record::read::<Complete>(&complete)?.with_context(|| format!("layer {layer} is not here"))?;
            size += complete.bytes;
        }
        let mut images = self.images.write();
        let earlier = images.get(id);
        let mut image = LocalImage {
            id: id.to_owned(),
            repo_tags: tags.clone(),
            repo_digests: digests.clone(),
            layers,
            size,
            config: configuration.config.clone(),
            pinned: earlier.is_some_and(|image| image.pinned),
        };
        if let Some(earlier) = earlier {
            image.repo_tags.extend(earlier.repo_tags.iter().cloned());
            image.repo_digests.extend(earlier.repo_digests.iter().cloned());
        }
        write_durably(&self.root.join("images").join(format!("{hex}.json")), &serde_json::to_vec(&image)?)?;
        let losing: Vec<String> = images
            .values()
            .filter(|other| other.id != id && other.repo_tags.iter().any(|tag| tags.contains(tag)))
            .map(|other| other.id.clone())
            .collect();
        for other in losing {
            if let Some(other) = images.get_mut(&other) {
                other.repo_tags.retain(|tag| !tags.contains(tag));
                self.write_image(other)?;
            }
        }
        images.insert(id.to_owned(), image.clone());
        Ok(image)
    }

    fn write_image(&self, image: &LocalImage) -> Result<()> {
        let path = self.root.join("images").join(format!("{}.json", digest_hex(&image.id)?));
        write_durably(&path, &serde_json::to_vec(image)?)
    }

    /// Remove an image by any of its names, then the layers that nobody uses. One that is not here is
    /// fine. `in_use`: layers of containers.
    pub(in crate::container) async fn remove(&self, name: &str, in_use: BTreeSet<String>) -> Result<()> {
        let _alone = Arc::clone(&self.changing).write_owned().await;
        let Some(image) = self.find(name) else { return Ok(()) };
        fs::remove_file(self.root.join("images").join(format!("{}.json", digest_hex(&image.id)?)))
            .with_context(|| format!("remove the record of image {}", image.id))?;
        self.images.write().remove(&image.id);
        self.collect(in_use)
    }

    /// Remove layers that neither an image nor a container uses. The caller holds `changing`.
    fn collect(&self, mut in_use: BTreeSet<String>) -> Result<()> {
        in_use.extend(self.images.read().values().flat_map(|image| image.layers.iter().cloned()));
        let mut errors = Vec::new();
        for layer in record::directories(&self.root.join("layers"))? {
            if in_use.contains(&layer) {
                continue;
            }
            let directory = self.root.join("layers").join(&layer);
            // Unmarked first: half removed it must not count.
            let removed = match fs::remove_file(directory.join("complete")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => record::remove_directory(&directory),
            };
            errors.extend(removed.err());
        }
        crate::container::sandbox::joined(errors)
    }
}

/// Everything written to this file system so far is on the disk.
fn sync_file_system(path: &Path) -> Result<()> {
    let directory = fs::File::open(path)?;
    rustix::fs::syncfs(directory.as_fd()).with_context(|| format!("sync the file system of {}", path.display()))
}

fn sync_directory(path: &Path) -> Result<()> {
    fs::File::open(path)?.sync_all().with_context(|| format!("sync {}", path.display()))
}

/// Write, sync, rename, sync the directory.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let named = || format!("write {}", path.display());
    let mut file = fs::File::create(&temporary).with_context(named)?;
    file.write_all(bytes).with_context(named)?;
    file.sync_all().with_context(named)?;
    fs::rename(&temporary, path).with_context(named)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}
