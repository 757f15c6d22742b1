//! Directories, and whose they are: `fsGroup` on a volume's files.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

const SET_GID: u32 = 0o2000;

pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The user of all containers, where they have the same one.
pub fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|c| c.run_as_user);
    let mut user = None;
    for (_, container) in pod::all_containers(pod) {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)?;
        if user.is_some_and(|user| user != own) {
            return None;
        }
        user = Some(own);
    }
    user.and_then(|user| u32::try_from(user).ok())
}

/// A directory with exactly these permissions, parents 0750; one that exists is left as it is.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Give everything below `root` to the group; read-only volumes are readable to it, others writable.
pub fn apply(root: &Path, group: Option<u32>, readonly: bool) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    walk(root, group, readonly)
}

/// Whether the root already belongs to the group with the permissions that [`apply`] gives.
pub fn matches(root: &Path, group: u32) -> io::Result<bool> {
    let metadata = fs::metadata(root)?;
    Ok(metadata.gid() == group && metadata.mode() & (SET_GID | 0o770) == SET_GID | 0o770)
}

fn walk(path: &Path, group: u32, readonly: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut mode = metadata.mode() & 0o7777;
    mode |= if readonly { 0o440 } else { 0o660 };
    if metadata.is_dir() {
        mode |= SET_GID | 0o110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group, readonly)?;
        }
    }
    Ok(())
}
