//! Mounts of one container, made in a mount namespace of its own: the overlay of its image, and its
//! volumes with their propagation, read-only flags and id mapping already set.
//!
//! Volumes are cloned before the namespace is cut off from the machine's, so that a bidirectional one
//! stays a peer; a private one is made private here because libcontainer does not honour that.

use crate::api::cri::MountPropagation;
use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A container's root file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootMount {
    /// The top one first.
    pub layers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// A user namespace whose ids the files shall have; the process that holds it.
    pub user_namespace_of: Option<i32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    Host(PathBuf),
    /// The layers of an image, the top one first, and a path inside it.
    Image {
        layers: Vec<PathBuf>,
        sub_path: PathBuf,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagedMount {
    pub destination: PathBuf,
    pub source: MountSource,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: MountPropagation,
    pub user_namespace_of: Option<i32>,
}

/// In the bundle: where volumes wait to be bound, and the overlay's own needs.
const STAGE: &str = "mounts";

/// Leave the machine's mounts and mount everything; returns the sources to bind, in order.
pub fn prepare(bundle: &Path, root: &Path, image: &RootMount, mounts: &[StagedMount]) -> Result<Vec<PathBuf>> {
    unshare_mounts().context("leave the mount namespace")?;
    let trees = mounts.iter().map(clone_volume).collect::<Result<Vec<_>>>()?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC,
    )
    .context("cut the mounts off from the machine's")?;

    let stage = bundle.join(STAGE);
    fs::create_dir_all(&stage)?;
    fs::create_dir_all(root)?;
    let overlay = overlay(&stage, &image.layers, Some((&image.upper, &image.work)), image.user_namespace_of)?;
    attach(&overlay, root).context("mount the root file system")?;
    let mut sources = Vec::new();
    for (index, (mount, tree)) in mounts.iter().zip(trees).enumerate() {
        sources.push(stage_volume(&stage.join(index.to_string()), mount, tree)?);
    }
    Ok(sources)
}

fn unshare_mounts() -> std::io::Result<()> {
    // SAFETY: this process has one thread and keeps no path-based state that the copy would falsify.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Some: a volume of the machine; None: an image, mounted later.
fn clone_volume(mount: &StagedMount) -> Result<Option<OwnedFd>> {
    let MountSource::Host(path) = &mount.source else { return Ok(None) };
    let named = || format!("mount {} at {}", path.display(), mount.destination.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags).with_context(named)?;
    let propagation = match mount.propagation {
        MountPropagation::Private => Some(libc::MS_PRIVATE),
        MountPropagation::HostToContainer => Some(libc::MS_SLAVE),
        MountPropagation::Bidirectional => None,
    };
    if let Some(propagation) = propagation {
        set_attributes(&tree, Attributes { propagation, ..Attributes::default() }, true).with_context(named)?;
    }
    Ok(Some(tree))
}

fn stage_volume(target: &Path, mount: &StagedMount, tree: Option<OwnedFd>) -> Result<PathBuf> {
    let named = || format!("mount a volume at {}", mount.destination.display());
    let mut source = target.to_owned();
    let tree = match (&mount.source, tree) {
        (MountSource::Host(_), Some(tree)) => tree,
        (MountSource::Image { layers, sub_path }, None) => {
            let stage = target.with_extension("image");
            fs::create_dir_all(&stage)?;
            if sub_path.as_os_str().is_empty() {
                overlay(&stage, layers, None, mount.user_namespace_of).with_context(named)?
            } else {
                let whole = overlay(&stage, layers, None, mount.user_namespace_of).with_context(named)?;
                source = target.with_extension("whole");
                fs::create_dir_all(&source)?;
                attach(&whole, &source).with_context(named)?;
                let below = open_beneath(&source, sub_path)
                    .with_context(|| format!("image volume: sub path {}", sub_path.display()))?;
                source = target.to_owned();
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH
                    | OpenTreeFlags::AT_RECURSIVE;
                rustix::mount::open_tree(&below, "", flags).with_context(named)?
            }
        }
        _ => bail!("{}: the source is not what was opened", named()),
    };
    let is_image = matches!(mount.source, MountSource::Image { .. });
    if mount.readonly || is_image {
        let attributes = Attributes { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..Attributes::default() };
        set_attributes(&tree, attributes, mount.recursive_readonly || is_image).with_context(named)?;
    }
    if let (Some(process), false) = (mount.user_namespace_of, is_image) {
        map_ids(&tree, process).with_context(named)?;
    }
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
    match kind {
        rustix::fs::FileType::Directory => fs::create_dir_all(target)?,
        _ => drop(fs::File::create(target)?),
    }
    attach(&tree, target).with_context(named)?;
    Ok(source)
}

/// A path inside a directory; links cannot leave it.
fn open_beneath(directory: &Path, path: &Path) -> Result<OwnedFd> {
    let root = fs::File::open(directory)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    Ok(rustix::fs::openat2(
        &root,
        relative,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// A detached overlay. Without `writable` it is read-only.
fn overlay(
    stage: &Path,
    layers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    user_namespace_of: Option<i32>,
) -> Result<OwnedFd> {
    // An overlay needs two directories; an image may have one layer, or none.
    let empty = stage.join("empty");
    fs::create_dir_all(&empty)?;
    let mut lowers: Vec<PathBuf> = layers.to_vec();
    if writable.is_none() || lowers.is_empty() {
        lowers.insert(0, empty);
    }
    if lowers.len() < 2 && writable.is_none() {
        lowers.push(stage.join("empty2"));
        fs::create_dir_all(stage.join("empty2"))?;
    }
    if let Some((upper, work)) = writable {
        fs::create_dir_all(upper)?;
        fs::create_dir_all(work)?;
    }
    let mut mapped = Vec::new();
    if let Some(process) = user_namespace_of {
        // Layers and the upper directory keep the machine's ids on disk.
        mapped = idmapped(stage, &mut lowers, process)?;
    }
    let made = if appends_layers(&rustix::system::uname().release().to_string_lossy()) {
        new_overlay(&lowers, writable).or_else(|error| {
            old_overlay(stage, &lowers, writable).with_context(|| format!("overlay by fsconfig failed: {error:#}"))
        })
    } else {
        old_overlay(stage, &lowers, writable)
    };
    drop(mapped);
    made
}

/// Kernels before 6.8 do not know `lowerdir+`, and a single string holds 255 bytes. The version is
/// asked, because an older kernel writes an error to its log whenever it is tried.
fn appends_layers(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 8)
}

fn new_overlay(lowers: &[PathBuf], writable: Option<(&Path, &Path)>) -> Result<OwnedFd> {
    let create = |volatile: bool| -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        rustix::mount::fsconfig_set_string(context, "source", "overlay")?;
        for lower in lowers {
            rustix::mount::fsconfig_set_string(context, "lowerdir+", lower)?;
        }
        if let Some((upper, work)) = writable {
            rustix::mount::fsconfig_set_string(context, "upperdir", upper)?;
            rustix::mount::fsconfig_set_string(context, "workdir", work)?;
            if volatile {
                rustix::mount::fsconfig_set_flag(context, "volatile")?;
            }
        }
        rustix::mount::fsconfig_create(context)?;
        rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    // A writable layer does not outlive its container, so syncing it only wears the disk.
    if writable.is_some()
        && let Ok(overlay) = create(true)
    {
        return Ok(overlay);
    }
    Ok(create(false)?)
}

/// By mount(2), whose options fit in a page: the layers go by short links.
fn old_overlay(stage: &Path, lowers: &[PathBuf], writable: Option<(&Path, &Path)>) -> Result<OwnedFd> {
    let links = stage.join("layers");
    let target = stage.join("overlay");
    fs::create_dir_all(&links)?;
    fs::create_dir_all(&target)?;
    let mut names = Vec::new();
    for (index, lower) in lowers.iter().enumerate() {
        let link = links.join(index.to_string());
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(lower, link)?;
        names.push(index.to_string());
    }
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = writable {
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    let before = std::env::current_dir()?;
    std::env::set_current_dir(&links)?;
    let mount = |options: String| -> Result<()> {
        let options = std::ffi::CString::new(options)?;
        let flags = rustix::mount::MountFlags::empty();
        Ok(rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str())?)
    };
    let mounted = match writable {
        // As in `new_overlay`; kernels before 5.10 do not know it.
        Some(_) => mount(format!("{options},volatile")).or_else(|_| mount(options)),
        None => mount(options),
    };
    std::env::set_current_dir(before)?;
    mounted.with_context(|| format!("mount an overlay of {} layers", lowers.len()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &target, flags)?;
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH)?;
    Ok(tree)
}

/// Mount each layer once more with mapped ids; the paths change to those mounts.
fn idmapped(stage: &Path, lowers: &mut [PathBuf], process: i32) -> Result<Vec<OwnedFd>> {
    let mut trees = Vec::new();
    for (index, lower) in lowers.iter_mut().enumerate() {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree =
            rustix::mount::open_tree(CWD, &*lower, flags).with_context(|| format!("open {}", lower.display()))?;
        set_attributes(&tree, Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() }, false)?;
        map_ids(&tree, process).with_context(|| format!("map the ids of {}", lower.display()))?;
        let target = stage.join(format!("mapped{index}"));
        fs::create_dir_all(&target)?;
        attach(&tree, &target)?;
        *lower = target;
        trees.push(tree);
    }
    Ok(trees)
}

fn attach(tree: &OwnedFd, target: &Path) -> Result<()> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("attach a mount at {}", target.display()))
}

#[derive(Default)]
struct Attributes {
    set: u64,
    propagation: u64,
    user_namespace: Option<OwnedFd>,
}

fn set_attributes(tree: &OwnedFd, attributes: Attributes, recursive: bool) -> Result<()> {
    let id_mapped = if attributes.user_namespace.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attributes_c = libc::mount_attr {
        attr_set: attributes.set | id_mapped,
        attr_clr: 0,
        propagation: attributes.propagation,
        userns_fd: attributes.user_namespace.as_ref().map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure and the empty path outlive the call, and the size is the structure's.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attributes_c,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if outcome < 0 {
        return Err(std::io::Error::last_os_error()).context("set the attributes of a mount");
    }
    Ok(())
}

fn map_ids(tree: &OwnedFd, process: i32) -> Result<()> {
    let path = format!("/proc/{process}/ns/user");
    let user_namespace = fs::File::open(&path).with_context(|| format!("open {path}"))?;
    let attributes = Attributes { user_namespace: Some(user_namespace.into()), ..Attributes::default() };
    set_attributes(tree, attributes, true)
        .context("its file system does not map ids, which hostUsers: false needs (a tmpfs does from Linux 6.3 on)")
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernels_that_append_layers() {
        let check = |release: &str, expected: bool| assert_eq!(super::appends_layers(release), expected, "{release}");
        check("6.1.0-25-cloud-amd64", false);
        check("6.8.0-45-generic", true);
        check("6.18.44", true);
        check("5.15.0", false);
        check("7.0-rc1", true);
        check("", false);
    }
}
