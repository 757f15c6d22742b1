//! Key and certificate files: mode 0600, written whole or not at all, never overwritten.

use anyhow::{Context, Result, ensure};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// More is no PEM file of ours.
const MAX_BYTES: u64 = 1 << 20;

pub fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| format!("create {}", path.display()))
}

/// None: there is no such file. An empty or huge file is an error that says what to do.
pub fn read(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        text.contains("-----BEGIN ") && text.contains("-----END "),
        "{}: damaged (no PEM block): restore it from a snapshot",
        path.display()
    );
    Ok(Some(text))
}

/// Write beside, sync, rename, sync the directory: after a power cut the file is old or new.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().context("a file has a directory")?;
    let aside = path.with_extension(format!("{}.new", path.extension().unwrap_or_default().display()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

pub fn read_or_create(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    if let Some(text) = read(path)? {
        return Ok(text);
    }
    let text = make()?;
    write(path, &text)?;
    Ok(text)
}
