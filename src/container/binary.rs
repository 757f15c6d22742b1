//! The binary that shims and other helpers are run from: this one, through a read-only mount that
//! nobody else can see or change.
//!
//! A process in a container may reach the file that a shim executes, through `/proc/<pid>/exe`. Opened
//! there for writing it fails, even for root: the mount says read-only. A replaced binary (an upgrade)
//! does not touch it either. Where the kernel cannot do that, a sealed copy in memory is used.

use anyhow::{Context, Result};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The binary of this process.
pub const OWN: &str = "/proc/self/exe";

/// Keeps the file open for as long as helpers are started.
#[derive(Debug)]
pub struct Binary {
    file: OwnedFd,
}

impl Binary {
    pub fn open(path: &Path) -> Result<Self> {
        match mounted(path) {
            Ok(file) => Ok(Self { file }),
            Err(error) => {
                tracing::info!("no read-only mount of the own binary ({error:#}): using a copy in memory");
                Ok(Self { file: sealed(path).context("copy the own binary into memory")? })
            }
        }
    }

    /// To be executed by a child of this process; the descriptor itself is closed by the exec.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// A detached, read-only mount of the executable alone.
fn mounted(path: &Path) -> Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, path, flags).context("clone the mount")?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the structure and the empty path outlive the call, and the size is the structure's.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if outcome < 0 {
        return Err(io::Error::last_os_error()).context("make the mount read-only");
    }
    Ok(tree)
}

fn sealed(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let mut source = fs::File::open(path)?;
    let copy = memfd_create("orch", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = fs::File::from(copy);
    io::copy(&mut source, &mut copy)?;
    let copy: OwnedFd = copy.into();
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // Opened again for reading: a file that is open for writing cannot be executed.
    Ok(fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn neither_form_can_be_written() {
        let own = Path::new(OWN);
        let mut forms = vec![sealed(own).expect("a copy")];
        if nix::unistd::geteuid().is_root() {
            forms.push(mounted(own).expect("a mount"));
        } else {
            eprintln!("skipped the mount: needs root");
        }
        for form in forms {
            let path = format!("/proc/self/fd/{}", form.as_raw_fd());
            assert!(fs::metadata(&path).expect("there").len() > 0);
            // A mount refuses to be opened for writing, a seal refuses the write.
            let written = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(b"x"));
            assert!(written.is_err_and(|error| {
                matches!(error.raw_os_error(), Some(libc::EROFS | libc::EPERM | libc::EACCES | libc::ETXTBSY))
            }));
        }
    }
}
