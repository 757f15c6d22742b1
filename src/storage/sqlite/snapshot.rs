//! Snapshots: one compressed file with the database, files of the caller's, and a manifest.
//!
//! [`SqliteStorage::save_snapshot`] writes it from memory while the store works: no reader pins the
//! WAL and no write waits. [`restore`] verifies everything before it touches anything, and moves the
//! revision far ahead, so that no client's cache is silently wrong.

mod shelf;

pub use shelf::{AUTOMATIC, Listed, list, prune};

use super::database::{Database, FORMAT, Failure};
use super::directory::{Directory, sync_directory};
use super::replace::{Replaced, refused, replace};
use super::rows::Meta;
use super::{OpenError, SqliteStorage};
use crate::storage::live::Tree;
use crate::storage::{Encryption, Revision};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Of the archive; a newer one is refused by name.
pub const ARCHIVE_FORMAT: u32 = 1;
/// The ending of the file's name.
pub const EXTENSION: &str = "orch-snapshot";

const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "orch.db";
const FILES: &str = "files/";
/// What a manifest or one of the caller's files may have: they are certificates, keys and tokens.
const SMALL: u64 = 16 << 20;
const COMPRESSION: i32 = 3;
/// Memory that unpacking may take, as a power of two.
const WINDOW_LOG: u32 = 27;

/// What a snapshot says about itself; its first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: u32,
    pub database_format: i32,
    /// Of the orch that wrote it.
    pub version: String,
    pub created: Timestamp,
    pub revision: u64,
    pub objects: u64,
    pub database: FileDigest,
    /// The caller's files by name.
    pub files: Vec<FileDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    pub name: String,
    pub size: u64,
    pub mode: u32,
    pub sha256: String,
}

/// A file to be put into a snapshot beside the database.
#[derive(Clone, Debug)]
pub struct ExtraFile {
    /// Relative, with `/`: `pki/ca.key`. [`restore`] asks with it for the place to put it.
    pub name: String,
    pub path: PathBuf,
}

/// What [`restore`] has done.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    pub store: Replaced,
    pub files: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot {path} has format {found}, this orch knows up to {known}: use the newer orch that wrote it")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("snapshot {path} is damaged: {reason}: use another one")]
    Damaged { path: PathBuf, reason: String },
    #[error("snapshot: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("snapshot: write {path}: {reason}")]
    Database { path: PathBuf, reason: String },
    #[error("the database in {path} is not damaged: start orch with it")]
    Whole { path: PathBuf },
    #[error("no object in {path} is whole ({reason}): restore a snapshot")]
    Nothing { path: PathBuf, reason: String },
    #[error("snapshot: {0:?} is not a plain relative file name")]
    Name(String),
    #[error(transparent)]
    Open(#[from] OpenError),
}

type Outcome<T> = Result<T, SnapshotError>;

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

impl SqliteStorage {
    /// Writes a snapshot of this moment; the file appears when it is whole and on disk.
    pub async fn save_snapshot(&self, to: &Path, extra: Vec<ExtraFile>) -> Result<Manifest, SnapshotError> {
        let tree = self.shared.tree.load_full();
        let to = to.to_owned();
        let path = to.clone();
        tokio::task::spawn_blocking(move || save(&tree, &to, &extra))
            .await
            .map_err(|error| SnapshotError::Io { path, source: io::Error::other(error) })?
    }

    /// A snapshot for [`super::Options::snapshots`] to start from after damage; the newest `keep` of
    /// these stay in the directory. The caller has the clock.
    pub async fn save_automatic(
        &self,
        directory: &Path,
        keep: usize,
        extra: Vec<ExtraFile>,
    ) -> Result<PathBuf, SnapshotError> {
        fs::DirBuilder::new().recursive(true).create(directory).map_err(io_error(directory))?;
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let revision = self.shared.tree.load().revision.0;
        let path = directory.join(format!("{AUTOMATIC}-{stamp}-{revision}.{EXTENSION}"));
        self.save_snapshot(&path, extra).await?;
        prune(directory, AUTOMATIC, keep.max(1))?;
        Ok(path)
    }
}

/// Reads through, counting and hashing.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    fn digest(self) -> (u64, String) {
        (self.size, self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

fn digest(name: &str, mode: u32, reader: impl Read) -> io::Result<FileDigest> {
    let mut hashing = Hashing::new(reader);
    io::copy(&mut hashing, &mut io::sink())?;
    let (size, sha256) = hashing.digest();
    Ok(FileDigest { name: name.to_owned(), size, mode, sha256 })
}

/// Removed when it goes out of scope, whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "remove a temporary file");
        }
    }
}

fn beside(path: &Path, ending: &str) -> Scratch {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    Scratch(name.into())
}

fn save(tree: &Tree, to: &Path, extra: &[ExtraFile]) -> Outcome<Manifest> {
    let database = beside(to, ".db-partial");
    let partial = beside(to, ".partial");
    for scratch in [&database, &partial] {
        match fs::remove_file(&scratch.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&scratch.0)(error)),
            _ => {}
        }
    }
    let create = |path: &Path| {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(io_error(path))
    };
    let stored = create(&database.0)?;
    let meta = Meta { sequence: 1, reserved: tree.revision, ..Meta::default() };
    let meta = Database::write_detached(&database.0, tree, meta).map_err(|failure| {
        let (Failure::Full(reason) | Failure::Fatal(reason)) = failure;
        SnapshotError::Database { path: database.0.clone(), reason }
    })?;
    let mut files = Vec::new();
    for file in extra {
        files.push(read_extra(file)?);
    }
    let manifest = Manifest {
        format: ARCHIVE_FORMAT,
        database_format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: Timestamp::now(),
        revision: tree.revision.0,
        objects: meta.count,
        database: digest(DATABASE, 0o600, &stored).map_err(io_error(&database.0))?,
        files: files.iter().map(|(digest, _)| digest.clone()).collect(),
    };
    let write = || -> io::Result<()> {
        let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0)?;
        let mut archive = tar::Builder::new(zstd::Encoder::new(target, COMPRESSION)?);
        append(&mut archive, MANIFEST, 0o600, &serde_json::to_vec_pretty(&manifest)?)?;
        archive.append_data(&mut header(manifest.database.size, 0o600), DATABASE, File::open(&database.0)?)?;
        for (digest, bytes) in &files {
            append(&mut archive, &format!("{FILES}{}", digest.name), digest.mode, bytes)?;
        }
        archive.into_inner()?.finish()?.sync_all()?;
        fs::rename(&partial.0, to)?;
        sync_directory(parent(to))
    };
    write().map_err(io_error(to))?;
    Ok(manifest)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64, mode), name, bytes)
}

fn check_name(name: &str) -> Outcome<()> {
    let plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(()) } else { Err(SnapshotError::Name(name.to_owned())) }
}

fn read_extra(file: &ExtraFile) -> Outcome<(FileDigest, Vec<u8>)> {
    check_name(&file.name)?;
    let read = || -> io::Result<_> {
        let opened = File::open(&file.path)?;
        let mode = opened.metadata()?.permissions().mode() & 0o777;
        Ok((mode, small(opened)?))
    };
    let (mode, bytes) = read().map_err(io_error(&file.path))?;
    let digest = digest(&file.name, mode, &bytes[..]).map_err(io_error(&file.path))?;
    Ok((digest, bytes))
}

fn small(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(SMALL + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SMALL {
        return Err(io::Error::other(format!("larger than {} MiB", SMALL >> 20)));
    }
    Ok(bytes)
}

type Archive = tar::Archive<zstd::Decoder<'static, io::BufReader<File>>>;

fn open_archive(path: &Path) -> Outcome<Archive> {
    let file = File::open(path).map_err(io_error(path))?;
    let mut decoder = zstd::Decoder::new(file).map_err(io_error(path))?;
    decoder.window_log_max(WINDOW_LOG).map_err(io_error(path))?;
    Ok(tar::Archive::new(decoder))
}

fn damaged(path: &Path, reason: impl ToString) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

/// The manifest of a snapshot, without reading the rest.
pub fn read_manifest(path: &Path) -> Result<Manifest, SnapshotError> {
    let mut archive = open_archive(path)?;
    let mut entries = archive.entries().map_err(|error| damaged(path, error))?;
    manifest_of(path, entries.next())
}

fn manifest_of(path: &Path, entry: Option<io::Result<tar::Entry<'_, impl Read>>>) -> Outcome<Manifest> {
    let entry = entry.ok_or_else(|| damaged(path, "it is empty"))?.map_err(|error| damaged(path, error))?;
    if entry.path_bytes().as_ref() != MANIFEST.as_bytes() {
        return Err(damaged(path, "it has no manifest"));
    }
    let bytes = small(entry).map_err(|error| damaged(path, error))?;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Formats {
        format: u32,
        database_format: i32,
    }
    // First only the formats: a newer manifest may differ in everything else.
    let formats: Formats = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
    for (found, known) in [
        (i64::from(formats.format), i64::from(ARCHIVE_FORMAT)),
        (i64::from(formats.database_format), i64::from(FORMAT)),
    ] {
        if found > known {
            return Err(SnapshotError::Newer { path: path.to_owned(), found, known });
        }
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))?;
    manifest.files.iter().try_for_each(|file| check_name(&file.name))?;
    Ok(manifest)
}

/// Puts the database of a snapshot into the store's directory, and each of the caller's files where
/// `place` says; None: leave it out. The server must not run. What was there is kept aside.
pub fn restore(
    snapshot: &Path,
    store: &Path,
    place: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Restored, SnapshotError> {
    let directory = Directory::lock(store)?;
    let (manifest, tree, files) = verify(snapshot, &directory)?;
    let mut placed = Vec::new();
    for (digest, bytes) in &files {
        if let Some(target) = place(&digest.name) {
            put(&target, digest.mode, bytes).map_err(io_error(&target))?;
            placed.push(target);
        }
    }
    let store = replace(&directory, &tree, "replaced")?;
    Ok(Restored { manifest, store, files: placed })
}

/// What [`salvage`] has done.
#[derive(Debug)]
pub struct Salvaged {
    /// What was wrong.
    pub reason: String,
    pub store: Replaced,
}

/// Makes a damaged store writable with the objects that are whole. The server must not run. What was
/// there is kept aside.
pub fn salvage(store: &Path) -> Result<Salvaged, SnapshotError> {
    let directory = Directory::lock(store)?;
    let (tree, reason) = super::opening::readable(&directory)?;
    let reason = reason.ok_or_else(|| SnapshotError::Whole { path: store.to_owned() })?;
    if tree.entries().next().is_none() {
        return Err(SnapshotError::Nothing { path: store.to_owned(), reason });
    }
    Ok(Salvaged { reason, store: replace(&directory, &tree, "damaged")? })
}

/// The objects and files of a snapshot, every byte of it checked.
pub(super) fn verify(snapshot: &Path, directory: &Directory) -> Outcome<(Manifest, Tree, Vec<(FileDigest, Vec<u8>)>)> {
    let home = directory.path().expect("a snapshot is restored to disk");
    let database = beside(&home.join(DATABASE), ".unpacked");
    let bad = |error: io::Error| damaged(snapshot, error);
    let mut archive = open_archive(snapshot)?;
    let mut entries = archive.entries().map_err(bad)?;
    let manifest = manifest_of(snapshot, entries.next())?;
    let mut files = Vec::new();
    let mut unpacked = false;
    for entry in entries {
        let mut entry = entry.map_err(bad)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let expected = match name.strip_prefix(FILES) {
            Some(name) => manifest.files.iter().find(|file| file.name == name),
            None => (name == DATABASE).then_some(&manifest.database),
        };
        let expected = expected.ok_or_else(|| damaged(snapshot, format!("{name:?} is not in its manifest")))?;
        let mut hashing = Hashing::new((&mut entry).take(expected.size + 1));
        if name == DATABASE {
            let mut file = File::create(&database.0).map_err(io_error(&database.0))?;
            io::copy(&mut hashing, &mut file).map_err(bad)?;
            unpacked = true;
        } else {
            let bytes = small(&mut hashing).map_err(bad)?;
            files.push((expected.clone(), bytes));
        }
        if hashing.digest() != (expected.size, expected.sha256.clone()) {
            return Err(damaged(snapshot, format!("{name} does not match its checksum")));
        }
    }
    if !unpacked || files.len() != manifest.files.len() {
        return Err(damaged(snapshot, "a file of its manifest is missing"));
    }
    let loaded = Database::open_detached(&database.0)
        // Sealed objects go where they go as they are.
        .and_then(|database| database.load(&Encryption::default()))
        .map_err(|unusable| refused(snapshot.to_owned(), unusable))?;
    if let Some(damage) = loaded.damage.first() {
        return Err(damaged(snapshot, damage));
    }
    let mut tree = loaded.tree;
    tree.revision = Revision(manifest.revision).max(tree.revision);
    Ok((manifest, tree, files))
}

/// Whole or not at all.
fn put(target: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let partial = beside(target, ".partial");
    fs::create_dir_all(parent(target))?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial.0)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial.0, target)?;
    sync_directory(parent(target))
}
