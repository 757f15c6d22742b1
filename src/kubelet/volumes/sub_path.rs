//! `subPath`: a part of a volume, found without ever leaving it.
//!
//! A container of the pod may swap a directory for a link between check and mount; so the part is
//! opened by the kernel beneath the volume's root, and what was opened is what is mounted.

use super::Mounter;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Where a sub path of a volume is mounted for one mount of one container.
pub struct Place<'a> {
    /// `<root>/pods/<uid>/volume-subpaths/<volume>/<container>/<index>`.
    pub target: &'a Path,
    pub mounter: &'a dyn Mounter,
}

/// The host path to mount for `sub_path` of the volume at `root`; missing directories are made.
pub fn prepare(root: &Path, sub_path: &str, place: &Place) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    if relative.is_absolute() || relative.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(format!(
            "failed to prepare subPath for volumeMount: subPath {sub_path:?} must be a relative path without '..'"
        ));
    }
    let failed =
        |error: io::Error| format!("failed to prepare subPath {sub_path:?} of volume {}: {error}", root.display());
    let opened = open_or_make(root, relative).map_err(failed)?;
    let is_directory = rustix::fs::fstat(&opened)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
        .map_err(|error| failed(error.into()))?;
    make_target(place.target, is_directory).map_err(failed)?;
    place.mounter.bind(&opened, place.target).map_err(failed)
}

fn make_target(target: &Path, directory: bool) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let made = if directory {
        fs::create_dir(target)
    } else {
        fs::OpenOptions::new().write(true).create_new(true).open(target).map(drop)
    };
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn open_or_make(root: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |path: &Path| rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE);
    match open(relative) {
        Ok(opened) => return Ok(opened),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    // Make the missing directories one by one, each beneath the one that was opened.
    let mut path = PathBuf::new();
    let mut parent = open(Path::new("."))?;
    for part in relative.components() {
        let Component::Normal(name) = part else { continue };
        path.push(name);
        match rustix::fs::mkdirat(&parent, Path::new(name), Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        parent = open(&path)?;
    }
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::volumes::NoMounts;
    use std::os::unix::fs::symlink;

    #[test]
    fn stays_beneath_the_volume() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("volume");
        fs::create_dir_all(root.join("real")).expect("made");
        fs::create_dir(directory.path().join("secret")).expect("made");
        symlink("real", root.join("inside")).expect("linked");
        symlink("../secret", root.join("outside")).expect("linked");
        symlink("/etc", root.join("absolute")).expect("linked");
        let target = directory.path().join("target");
        let place = Place { target: &target, mounter: &NoMounts };
        assert_eq!(prepare(&root, "inside", &place), Ok(root.join("real")));
        assert_eq!(prepare(&root, "new/deep", &place), Ok(root.join("new/deep")));
        for escape in ["outside", "absolute/passwd", "../secret", "/etc", "outside/new"] {
            assert!(prepare(&root, escape, &place).is_err(), "{escape}");
        }
        assert!(!directory.path().join("secret/new").exists());
    }
}
