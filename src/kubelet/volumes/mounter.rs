//! Mounts that volumes need: tmpfs, and bind mounts of paths that were opened safely.

use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

pub trait Mounter: Send + Sync + 'static {
    /// A file system in memory over `target`; `size` in bytes, None: half of memory.
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()>;
    /// Bind what `source` is open on over `target`; gives where it is to be found.
    fn bind(&self, source: &OwnedFd, target: &Path) -> io::Result<PathBuf>;
    /// Mount points at or below `root`, the innermost first.
    fn mounted_below(&self, root: &Path) -> io::Result<Vec<PathBuf>>;
    fn unmount(&self, target: &Path) -> io::Result<()>;

    fn is_mounted(&self, target: &Path) -> io::Result<bool> {
        Ok(self.mounted_below(target)?.iter().any(|mount| mount == target))
    }
}

/// Through the kernel; needs root.
pub struct KernelMounter;

impl Mounter for KernelMounter {
    fn tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()> {
        let options = match size {
            Some(size) => format!("mode=0777,size={size}"),
            None => "mode=0777".to_owned(),
        };
        let options = CString::new(options)?;
        rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))?;
        Ok(())
    }

    fn bind(&self, source: &OwnedFd, target: &Path) -> io::Result<PathBuf> {
        if self.is_mounted(target)? {
            return Ok(target.to_owned());
        }
        let source = format!("/proc/self/fd/{}", source.as_raw_fd());
        rustix::mount::mount_bind(source, target)?;
        Ok(target.to_owned())
    }

    fn mounted_below(&self, root: &Path) -> io::Result<Vec<PathBuf>> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mut found: Vec<PathBuf> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|path| PathBuf::from(unescape(path)))
            .filter(|path| path.starts_with(root))
            .collect();
        found.reverse();
        Ok(found)
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        Ok(())
    }
}

/// The kernel writes blanks in paths as octal escapes.
fn unescape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// No mounts at all: volumes in memory are plain directories. For tests without root.
pub struct NoMounts;

impl Mounter for NoMounts {
    fn tmpfs(&self, _target: &Path, _size: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    fn bind(&self, source: &OwnedFd, _target: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", source.as_raw_fd()))
    }

    fn mounted_below(&self, _root: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn unmount(&self, _target: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks() {
        assert_eq!(unescape(r"/a\040b\\c\134"), r"/a b\\c\");
        let root = KernelMounter.mounted_below(Path::new("/proc")).expect("mountinfo is readable");
        assert!(root.contains(&PathBuf::from("/proc")), "{root:?}");
    }
}
