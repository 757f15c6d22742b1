//! A directory of files that changes all at once.
//!
//! The files are in a directory of their own, `..data` is a link to it, and every visible name is
//! a link through `..data`. A new version is written aside and `..data` swapped by rename, so a
//! reader sees the old files or the new ones, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

#[derive(Clone, Debug, PartialEq)]
struct File {
    content: Vec<u8>,
    mode: u32,
    owner: Option<u32>,
}

/// Files by relative path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    files: BTreeMap<String, File>,
}

impl Payload {
    pub fn add(&mut self, path: &str, content: Vec<u8>, mode: i32) -> Result<(), String> {
        self.add_owned(path, content, mode, None)
    }

    pub fn add_owned(&mut self, path: &str, content: Vec<u8>, mode: i32, owner: Option<u32>) -> Result<(), String> {
        let relative = Path::new(path);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || !plain {
            return Err(format!("invalid path: must be relative path: {path}"));
        }
        if path.starts_with("..") {
            return Err(format!("invalid path: must not start with '..': {path}"));
        }
        let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
        let normal: Vec<String> = relative
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        self.files.insert(normal.join("/"), File { content, mode, owner });
        Ok(())
    }

    /// Bring `directory` to this payload; true: something changed.
    pub fn write(&self, directory: &Path) -> io::Result<bool> {
        let current = match fs::read_link(directory.join(DATA)) {
            Ok(target) => Some(target),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(current) = &current
            && self.is_written(&directory.join(current))?
        {
            return Ok(false);
        }
        let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let name = format!("{stamp}.{:09}", rand::random::<u32>() % 1_000_000_000);
        let fresh = directory.join(&name);
        fs::DirBuilder::new().mode(0o755).create(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
        for (path, file) in &self.files {
            write_file(&fresh, path, file)?;
        }
        let new_link = directory.join(NEW_DATA);
        match fs::remove_file(&new_link) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(&name, &new_link)?;
        fs::rename(&new_link, directory.join(DATA))?;

        let visible: BTreeSet<&str> = self.files.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
        for name in &visible {
            let link = directory.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(DATA).join(name), &link)?;
            }
        }
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let entry_name = entry.file_name();
            let entry_name = entry_name.to_string_lossy();
            if entry_name == DATA || entry_name == name || visible.contains(entry_name.as_ref()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(true)
    }

    /// Whether `directory` holds exactly these contents.
    fn is_written(&self, directory: &Path) -> io::Result<bool> {
        let mut found = BTreeSet::new();
        let mut pending = vec![String::new()];
        while let Some(prefix) = pending.pop() {
            let entries = match fs::read_dir(directory.join(&prefix)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                if entry.file_type()?.is_dir() {
                    pending.push(path);
                } else {
                    found.insert(path);
                }
            }
        }
        if found.len() != self.files.len() {
            return Ok(false);
        }
        for (path, file) in &self.files {
            if !found.contains(path) || fs::read(directory.join(path))? != file.content {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn write_file(root: &Path, path: &str, file: &File) -> io::Result<()> {
    let full = root.join(path);
    if let Some(parent) = Path::new(path).parent() {
        let mut directory = root.to_owned();
        for part in parent.components() {
            directory.push(part);
            match fs::DirBuilder::new().mode(0o755).create(&directory) {
                Ok(()) => fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&full)?;
    out.write_all(&file.content)?;
    if let Some(owner) = file.owner {
        std::os::unix::fs::fchown(&out, Some(owner), None)?;
    }
    // Explicitly, since the umask does not apply to what the user asked for.
    out.set_permissions(fs::Permissions::from_mode(file.mode))
}
