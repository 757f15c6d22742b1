//! Imports images from archives: OCI image layouts and what `docker save` writes, plain or compressed.
//!
//! Layers are not copied out: each is unpacked from its place in the archive. Compressed archives are
//! written out plain first.

use super::document::{self, Configuration, Descriptor, DockerImage};
use super::store::{ImageStore, LayerSource, LocalImage};
use super::{Progress, ProgressFn, digest_hex, digest_of, hex, registry, short, unpack};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that came out of an archive.
#[derive(Clone, Debug)]
pub struct ImportedImage {
    pub image: LocalImage,
    /// The names that the archive gives it.
    pub names: Vec<String>,
}

/// Names and places of the files in an archive.
struct Archive {
    file: fs::File,
    members: BTreeMap<String, (u64, u64)>,
}

const MEMBERS: usize = 100_000;
/// Names of images that have none stay out of the way of real ones.
const NAME: &str = "io.containerd.image.name";
const REFERENCE: &str = "org.opencontainers.image.ref.name";

impl ImageStore {
    /// Import every image of an archive.
    pub async fn import(self: &Arc<Self>, path: &Path, progress: Arc<ProgressFn>) -> Result<Vec<ImportedImage>> {
        let _adding = self.adding().await;
        let (store, path) = (Arc::clone(self), path.to_owned());
        tokio::task::spawn_blocking(move || {
            store.import_blocking(&path, &*progress).with_context(|| format!("import {}", path.display()))
        })
        .await?
    }

    /// [`ImageStore::import_directory`] comes soon: until it is through, an image that is not here may
    /// yet come, and [`ImageStore::settled`] waits for it.
    pub fn expect_import(&self) {
        self.importing.send_replace(true);
    }

    /// Returns when no archive of the images directory is to be imported any more.
    pub async fn settled(&self) {
        // The store holds the sender, so it cannot be gone.
        let _ = self.importing.subscribe().wait_for(|importing| !importing).await;
    }

    /// Import the archives of the images directory, each once: again only when the file changes.
    /// Goes on after an error.
    pub async fn import_directory(self: &Arc<Self>) -> Vec<anyhow::Error> {
        self.expect_import();
        let errors = self.import_changed().await;
        self.importing.send_replace(false);
        errors
    }

    async fn import_changed(self: &Arc<Self>) -> Vec<anyhow::Error> {
        let directory = self.data_dir.join("images");
        let mut errors = Vec::new();
        let record = self.root().join("imported.json");
        let mut imported: BTreeMap<String, String> =
            crate::container::record::read(&record).ok().flatten().unwrap_or_default();
        let mut files: Vec<PathBuf> =
            fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_archive = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|ending| name.ends_with(ending));
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !is_archive || !metadata.is_file() {
                continue;
            }
            let stamp = format!("{}:{}.{}:{}", metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino());
            if imported.get(&name) == Some(&stamp) {
                continue;
            }
            match self.import(&path, Arc::new(|_| {})).await {
                Err(error) => errors.push(error),
                Ok(images) => {
                    for image in &images {
                        tracing::info!("imported {} from {}", image.names.join(", "), path.display());
                    }
                    imported.insert(name, stamp);
                    let written = serde_json::to_vec(&imported)
                        .map_err(anyhow::Error::from)
                        .and_then(|bytes| super::store::write_durably(&record, &bytes));
                    errors.extend(written.err());
                }
            }
        }
        errors
    }

    fn import_blocking(&self, path: &Path, progress: &ProgressFn) -> Result<Vec<ImportedImage>> {
        let archive = self.open_archive(path)?;
        let mut found: BTreeMap<String, (Vec<LayerPlace>, Configuration, Names)> = BTreeMap::new();
        if archive.members.contains_key("index.json") {
            let index = document::manifest(&archive.read("index.json")?)?;
            for entry in index.manifests.unwrap_or_default() {
                archive.add_oci(&entry, &Names::of(&entry), &mut found)?;
            }
        }
        if archive.members.contains_key("manifest.json") {
            let images: Vec<DockerImage> = document::parse(&archive.read("manifest.json")?, "manifest.json")?;
            for image in images {
                archive.add_docker(&image, &mut found)?;
            }
        }
        if found.is_empty() {
            bail!("the archive holds no image: it has neither index.json nor manifest.json with an image");
        }
        let mut imported = Vec::new();
        for (id, (layers, configuration, names)) in found {
            for (layer, diff_id) in layers.iter().zip(&configuration.diff_ids) {
                progress(Progress::Unpack { layer: short(diff_id) });
                archive.check(layer)?;
                let source = LayerSource {
                    file: archive.file.try_clone()?,
                    offset: layer.offset,
                    length: layer.length,
                    diff_id: diff_id.clone(),
                };
                self.add_layer(&source)?;
                progress(Progress::Done { layer: short(diff_id) });
            }
            let image = self.add_image(&id, &configuration, &names.tags, &names.digests)?;
            imported.push(ImportedImage { image, names: names.tags.into_iter().collect() });
        }
        Ok(imported)
    }

    fn open_archive(&self, path: &Path) -> Result<Archive> {
        let mut file = fs::File::open(path).context("open the archive")?;
        let mut head = [0; 4];
        let count = file.read(&mut head).context("read the archive")?;
        file.rewind()?;
        if head[..count].starts_with(&[0x1f, 0x8b]) || head[..count] == [0x28, 0xb5, 0x2f, 0xfd] {
            let packed_size = file.metadata()?.len();
            // Unlinked at once: it goes with its descriptor.
            let aside = self.downloads().join(format!("archive-{}", &crate::container::sandbox::new_id()[..16]));
            let mut plain = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&aside)?;
            fs::remove_file(&aside)?;
            let bound = packed_size.saturating_mul(self.limits.ratio).saturating_add(super::Limits::FREE_BYTES);
            let copied = io::copy(&mut unpack::decompress(file)?.take(bound + 1), &mut plain)
                .context("decompress the archive")?;
            if copied > bound {
                bail!("the archive unpacks to more than {bound} bytes, which its packed size does not warrant");
            }
            plain.rewind()?;
            file = plain;
        }
        Archive::index(file)
    }
}

#[derive(Clone, Debug)]
struct LayerPlace {
    offset: u64,
    length: u64,
    /// Of the packed bytes, where the archive tells it.
    digest: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    tags: BTreeSet<String>,
    digests: BTreeSet<String>,
}

impl Names {
    fn of(entry: &Descriptor) -> Self {
        let mut names = Self::default();
        // The second is often a bare tag, which names nothing.
        let full = entry.annotations.get(NAME);
        let reference = entry.annotations.get(REFERENCE).filter(|name| name.contains('/') || name.contains(':'));
        if let Some(name) = full.or(reference) {
            names.add(name);
            if let Ok(reference) = registry::parse(name) {
                names.digests.insert(reference.at(&entry.digest));
            }
        }
        names
    }

    fn add(&mut self, name: &str) {
        match registry::parse(name) {
            Ok(reference) => drop(self.tags.insert(reference.whole())),
            Err(error) => tracing::warn!("the archive names an image {name:?}, which is no reference: {error}"),
        }
    }
}

impl Archive {
    fn index(file: fs::File) -> Result<Self> {
        let mut members = BTreeMap::new();
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(io::BufReader::new(&file));
        for entry in tar.entries_with_seek().context("read the archive")? {
            let entry = entry.context("the archive is cut short or damaged")?;
            let path = entry.path().context("read the archive")?;
            let name = path.to_string_lossy().trim_start_matches("./").to_owned();
            if members.len() + links.len() >= MEMBERS {
                bail!("the archive has more than {MEMBERS} files");
            }
            match entry.header().entry_type() {
                tar::EntryType::Regular => drop(members.insert(name, (entry.raw_file_position(), entry.size()))),
                // Older `docker save` links equal layers.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    if let Some(target) = entry.link_name().context("read the archive")? {
                        links.push((name, target.into_owned()));
                    }
                }
                _ => {}
            }
        }
        for (name, target) in links {
            let joined = Path::new(&name).parent().unwrap_or(Path::new("")).join(&target);
            let mut normal = PathBuf::new();
            for part in joined.components() {
                match part {
                    std::path::Component::ParentDir => drop(normal.pop()),
                    std::path::Component::Normal(part) => normal.push(part),
                    _ => {}
                }
            }
            let place = members
                .get(normal.to_string_lossy().as_ref())
                .or_else(|| members.get(target.to_string_lossy().as_ref()));
            if let Some(place) = place.copied() {
                members.insert(name, place);
            }
        }
        Ok(Self { file, members })
    }

    fn place(&self, name: &str) -> Result<(u64, u64)> {
        self.members
            .get(name)
            .copied()
            .with_context(|| format!("the archive has no {name}: it is cut short or damaged"))
    }

    fn reader(&self, (offset, length): (u64, u64)) -> Result<impl Read + '_> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.take(length))
    }

    /// A document, bounded.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let place = self.place(name)?;
        if place.1 > document::LIMIT {
            bail!("{name} of {} bytes is too large", place.1);
        }
        let mut bytes = Vec::new();
        self.reader(place)?.read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
        if bytes.len() as u64 != place.1 {
            bail!("the archive is cut short inside {name}");
        }
        Ok(bytes)
    }

    /// A blob whose bytes have their digest.
    fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_name(digest)?)?;
        let actual = digest_of(&bytes);
        if actual != digest {
            bail!("blob {digest} has the digest {actual}");
        }
        Ok(bytes)
    }

    /// The packed bytes of a layer are those that the archive announces.
    fn check(&self, layer: &LayerPlace) -> Result<()> {
        let Some(digest) = &layer.digest else { return Ok(()) };
        let mut hasher = Sha256::new();
        let mut reader = self.reader((layer.offset, layer.length))?;
        let (mut buffer, mut copied) = (vec![0; 256 * 1024], 0);
        loop {
            let count = reader.read(&mut buffer).context("read the archive")?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            copied += count as u64;
        }
        let actual = format!("sha256:{}", hex(&hasher.finalize()));
        if copied != layer.length || actual != *digest {
            bail!("layer {digest} has the digest {actual}: the archive is cut short or damaged");
        }
        Ok(())
    }

    fn add_oci(
        &self,
        entry: &Descriptor,
        names: &Names,
        found: &mut BTreeMap<String, (Vec<LayerPlace>, Configuration, Names)>,
    ) -> Result<()> {
        let manifest = document::manifest(&self.blob(&entry.digest)?)?;
        if let Some(entries) = manifest.manifests {
            return self.add_oci(document::for_this_machine(&entries)?, names, found);
        }
        let config = manifest.config.context("the manifest names no configuration")?;
        let configuration = document::configuration(&self.blob(&config.digest)?)?;
        if manifest.layers.len() != configuration.diff_ids.len() {
            bail!(
                "the manifest has {} layers, the configuration {}",
                manifest.layers.len(),
                configuration.diff_ids.len()
            );
        }
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            document::is_layer(&layer.media_type)?;
            let (offset, length) = self.place(&blob_name(&layer.digest)?)?;
            layers.push(LayerPlace { offset, length, digest: Some(layer.digest.clone()) });
        }
        add(found, config.digest, layers, configuration, names);
        Ok(())
    }

    fn add_docker(
        &self,
        image: &DockerImage,
        found: &mut BTreeMap<String, (Vec<LayerPlace>, Configuration, Names)>,
    ) -> Result<()> {
        let bytes = self.read(&image.config)?;
        let id = digest_of(&bytes);
        let configuration = document::configuration(&bytes)?;
        if image.layers.len() != configuration.diff_ids.len() {
            bail!(
                "manifest.json has {} layers, the configuration {}",
                image.layers.len(),
                configuration.diff_ids.len()
            );
        }
        let mut names = Names::default();
        for tag in image.repo_tags.iter().flatten() {
            names.add(tag);
        }
        let mut layers = Vec::new();
        for layer in &image.layers {
            let (offset, length) = self.place(layer)?;
            let digest = layer.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}"));
            layers.push(LayerPlace { offset, length, digest });
        }
        add(found, id, layers, configuration, &names);
        Ok(())
    }
}

fn add(
    found: &mut BTreeMap<String, (Vec<LayerPlace>, Configuration, Names)>,
    id: String,
    layers: Vec<LayerPlace>,
    configuration: Configuration,
    names: &Names,
) {
    let entry = found.entry(id).or_insert_with(|| (layers, configuration, Names::default()));
    entry.2.tags.extend(names.tags.iter().cloned());
    entry.2.digests.extend(names.digests.iter().cloned());
}

fn blob_name(digest: &str) -> Result<String> {
    Ok(format!("blobs/sha256/{}", digest_hex(digest)?))
}
