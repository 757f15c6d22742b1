//! Unpacks one layer in a process of its own that can reach nothing else: namespaces, the layer as its
//! root, few capabilities, a system call filter, bounded memory, size, entries and ratio.
//!
//! The layer gets overlay form: whiteouts become 0:0 devices, opaque directories an attribute. Each
//! layer is unpacked by itself, so equal layers are shared whatever is below them.

use super::store::LayerSource;
use super::{Limits, hex};
use crate::container::binary::Binary;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    target: PathBuf,
    offset: u64,
    length: u64,
    diff_id: String,
    limits: Limits,
}

/// What came out of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    pub bytes: u64,
    pub entries: u64,
    /// Device nodes, which are left out: a container has its own /dev.
    pub skipped_devices: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Unpacked(Unpacked),
    Failed(String),
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Attributes that a layer may set; `trusted.` ones steer the overlay itself.
const ATTRIBUTE_PREFIXES: &[&str] = &["user.", "security.capability"];
const ATTRIBUTE_LIMIT: usize = 64 * 1024;
/// After so many bytes the kernel begins to write them out, so that the end is not one long stall.
const PACE: u64 = 8 << 20;

/// Unpack into an empty directory; the digest of the unpacked bytes is checked. Blocks.
pub fn in_child(binary: &Binary, source: &LayerSource, target: &Path, limits: &Limits) -> Result<Unpacked> {
    let request = Request {
        target: target.to_owned(),
        offset: source.offset,
        length: source.length,
        diff_id: source.diff_id.clone(),
        limits: *limits,
    };
    let input = source.file.try_clone().context("share the layer's file")?;
    let child = Command::new(binary.path())
        .arg("unpack-layer")
        .arg(serde_json::to_string(&request)?)
        .env_clear()
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the unpacking process")?;
    let output = child.wait_with_output().context("wait for the unpacking process")?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Unpacked(unpacked)) if output.status.success() => Ok(unpacked),
        Ok(Answer::Failed(message)) => bail!("{message}"),
        _ => bail!(
            "the unpacking process ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// The hidden command.
pub fn main(request: &OsStr) -> ExitCode {
    let outcome = serde_json::from_slice::<Request>(request.as_bytes())
        .context("parse the request")
        .and_then(|request| confined(&request));
    let (answer, code) = match outcome {
        Ok(unpacked) => (Answer::Unpacked(unpacked), ExitCode::SUCCESS),
        Err(error) => (Answer::Failed(format!("{error:#}")), ExitCode::FAILURE),
    };
    let mut out = io::stdout();
    match serde_json::to_writer(&mut out, &answer).map_err(io::Error::from).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confined(request: &Request) -> Result<Unpacked> {
    let mut file = fs::File::from(rustix::io::dup(io::stdin().as_fd())?);
    // Its own read position: the descriptor is shared with the parent.
    let own = fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    if let Ok(own) = own {
        file = own;
    }
    file.seek(io::SeekFrom::Start(request.offset)).context("find the layer in its file")?;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    enter(&request.target)?;
    limit(&request.limits)?;
    // In the new pid namespace only a child is.
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }.context("fork")? {
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).context("wait")?;
            let code = match status {
                nix::sys::wait::WaitStatus::Exited(_, code) => code,
                nix::sys::wait::WaitStatus::Signaled(_, signal, _) => {
                    bail!(
                        "the unpacking process was killed by {signal}: the layer needs too much memory, or does what it must not"
                    )
                }
                _ => 1,
            };
            // The child has answered already.
            // SAFETY: plain exit.
            unsafe { libc::_exit(code) }
        }
        nix::unistd::ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            confine()?;
            unpack(Path::new("/"), file.take(request.length), request)
        }
    }
}

/// Namespaces without anything in them, and the layer as the root.
fn enter(target: &Path) -> Result<()> {
    use rustix::mount::{MountPropagationFlags, UnmountFlags};
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: plain system call; this process has one thread.
    if unsafe { libc::unshare(flags) } < 0 {
        return Err(io::Error::last_os_error()).context("leave the machine's namespaces");
    }
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make the mounts private (in a chroot, bind-mount its directory on itself before)")?;
    rustix::mount::mount_bind(target, target).with_context(|| format!("bind {}", target.display()))?;
    nix::unistd::chdir(target)?;
    rustix::process::pivot_root(".", ".").context("make the layer the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("drop the machine's root")?;
    nix::unistd::chdir("/")?;
    Ok(())
}

fn limit(limits: &Limits) -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_AS, limits.memory, limits.memory).context("limit the memory")?;
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Capabilities for owners, modes, attributes and whiteouts; system calls for files.
fn confine() -> Result<()> {
    use caps::{CapSet, Capability};
    let kept: caps::CapsHashSet = [
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_FSETID,
        Capability::CAP_MKNOD,
        Capability::CAP_SETFCAP,
        // For trusted attributes; the filter below leaves nothing else of it.
        Capability::CAP_SYS_ADMIN,
    ]
    .into();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).context("drop capabilities")?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [],
        "syscalls": [{ "action": "SCMP_ACT_ALLOW", "names": [
            "read", "readv", "pread64", "write", "writev", "close", "lseek", "fstat", "newfstatat", "statx", "lstat", "stat",
            "open", "openat", "openat2", "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat", "link", "linkat",
            "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "getdents64", "readlink", "readlinkat",
            "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utimensat", "futimens",
            "setxattr", "lsetxattr", "fsetxattr", "ftruncate", "fallocate", "sync_file_range", "fcntl", "dup", "umask",
            "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "rt_sigaction", "rt_sigprocmask",
            "rt_sigreturn", "sigaltstack", "getpid", "gettid", "tgkill", "getrandom", "clock_gettime", "exit", "exit_group",
            "restart_syscall", "sched_yield", "rseq", "prlimit64", "poll", "copy_file_range", "sendfile", "access", "faccessat", "faccessat2",
        ] }],
    });
    let profile = serde_json::from_value(profile).context("the system call filter")?;
    libcontainer::seccomp::initialize_seccomp(&profile).context("load the system call filter")?;
    Ok(())
}

/// Counts what passes, and refuses more than a bound.
struct Bounded<R> {
    inner: R,
    count: u64,
    limit: u64,
    digest: Sha256,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        self.digest.update(&buffer[..count]);
        if self.count > self.limit {
            return Err(io::Error::other(format!(
                "the layer unpacks to more than {} bytes, which its packed size does not warrant",
                self.limit
            )));
        }
        Ok(count)
    }
}

/// Decompress, check, unpack below `root`.
fn unpack(root: &Path, packed: impl Read, request: &Request) -> Result<Unpacked> {
    let allowed = request.length.saturating_mul(request.limits.ratio).saturating_add(Limits::FREE_BYTES);
    let mut stream = Bounded {
        inner: decompress(packed)?,
        count: 0,
        limit: allowed.min(request.limits.bytes),
        digest: Sha256::new(),
    };
    // Modes are those of the archive; this process does nothing else.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let unpacked = unpack_tar(root, &mut stream, &request.limits)?;
    // What follows the archive's end counts for the digest.
    io::copy(&mut stream, &mut io::sink()).context("read the layer's end")?;
    let digest = format!("sha256:{}", hex(&stream.digest.finalize()));
    if digest != request.diff_id {
        bail!("the layer's content has the digest {digest}, the image says {}", request.diff_id);
    }
    Ok(unpacked)
}

/// By the first bytes: gzip, zstd, or plain.
pub fn decompress<'a>(packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(64 * 1024, packed);
    let head = packed.fill_buf().context("read the begin of the layer")?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(packed)?;
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
        _ => Box::new(packed),
    })
}

fn unpack_tar(root: &Path, stream: impl Read, limits: &Limits) -> Result<Unpacked> {
    let mut archive = tar::Archive::new(stream);
    let mut unpacked = Unpacked::default();
    let mut directories = Vec::new();
    let mut unwritten = 0;
    for entry in archive.entries().context("read the layer")? {
        let mut entry = entry.context("read the layer")?;
        unpacked.entries += 1;
        if unpacked.entries > limits.entries {
            bail!("the layer has more than {} entries", limits.entries);
        }
        let name = entry.path_bytes().into_owned();
        let path = relative(&name)?;
        unpack_entry(root, &mut entry, &path, &mut unpacked, &mut directories, &mut unwritten)
            .with_context(|| format!("layer entry {:?}", String::from_utf8_lossy(&name)))?;
    }
    // Their times change while they are filled.
    for (path, time) in directories {
        set_time(&path, time)?;
    }
    Ok(unpacked)
}

/// A path inside the layer. One that climbs out is refused, not bent.
fn relative(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("layer entry {:?}: the path leads out of the root", String::from_utf8_lossy(name));
            }
        }
    }
    Ok(path)
}

fn unpack_entry<R: Read>(
    root: &Path,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    unpacked: &mut Unpacked,
    directories: &mut Vec<(PathBuf, u64)>,
    unwritten: &mut u64,
) -> Result<()> {
    use tar::EntryType;
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let target = root.join(path);
    let parent = target.parent().unwrap_or(root).to_owned();
    let name: OsString = path.file_name().map(OsStr::to_owned).unwrap_or_default();
    if !path.as_os_str().is_empty() {
        make_directories(root, path.parent().unwrap_or(Path::new("")))?;
    }
    if name.as_bytes() == OPAQUE {
        rustix::fs::lsetxattr(&parent, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .context("mark the directory opaque")?;
        return Ok(());
    }
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
        if hidden.is_empty() || hidden == b"." || hidden == b".." || hidden.starts_with(b".wh.") {
            bail!("the whiteout names nothing");
        }
        let target = parent.join(OsStr::from_bytes(hidden));
        clear(&target)?;
        return make_node(&target, rustix::fs::FileType::CharacterDevice, 0);
    }
    let header = entry.header().clone();
    match kind {
        EntryType::Directory => {
            let exists = fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_dir());
            if !exists {
                clear(&target)?;
                fs::create_dir(&target)?;
            }
            directories.push((target.clone(), header.mtime().unwrap_or(0)));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&target)?;
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&target)?;
            let copied = io::copy(entry, &mut file).context("write the file")?;
            unpacked.bytes += copied.next_multiple_of(4096);
            *unwritten += copied;
            if *unwritten > PACE {
                *unwritten = 0;
                // SAFETY: plain system call on an open file; starts writing without waiting for its end.
                unsafe {
                    libc::sync_file_range(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
                };
            }
        }
        EntryType::Link => {
            let link = entry.link_name_bytes().context("the link names nothing")?;
            let source = root.join(relative(&link)?);
            clear(&target)?;
            rustix::fs::linkat(rustix::fs::CWD, &source, rustix::fs::CWD, &target, rustix::fs::AtFlags::empty())
                .with_context(|| format!("link to {:?}", String::from_utf8_lossy(&link)))?;
            // Owner, mode and time are those of the file that it links to.
            return Ok(());
        }
        EntryType::Symlink => {
            let link = entry.link_name_bytes().context("the link names nothing")?;
            clear(&target)?;
            std::os::unix::fs::symlink(OsStr::from_bytes(&link), &target)?;
        }
        EntryType::Fifo => {
            clear(&target)?;
            make_node(&target, rustix::fs::FileType::Fifo, 0)?;
        }
        EntryType::Char | EntryType::Block => {
            unpacked.skipped_devices += 1;
            return Ok(());
        }
        other => bail!("entries of kind {other:?} are not supported"),
    }
    set_owner(&target, &header)?;
    let attributes = attributes(entry)?;
    if kind != EntryType::Symlink {
        // After the owner, whose change clears the set-user-id bit.
        let mode = rustix::fs::Mode::from_raw_mode(header.mode().context("the mode does not parse")? & 0o7777);
        rustix::fs::chmodat(rustix::fs::CWD, &target, mode, rustix::fs::AtFlags::empty()).context("set the mode")?;
    }
    for (name, value) in attributes {
        match rustix::fs::lsetxattr(&target, name.as_str(), &value, rustix::fs::XattrFlags::empty()) {
            // Links and pipes have no user attributes; not every file system has any.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP) if name.starts_with("user.") => {}
            other => other.with_context(|| format!("set the attribute {name}"))?,
        }
    }
    if kind != EntryType::Directory {
        set_time(&target, header.mtime().unwrap_or(0))?;
    }
    Ok(())
}

fn set_owner(target: &Path, header: &tar::Header) -> Result<()> {
    let id = |value: io::Result<u64>, what: &str| -> Result<u32> {
        let value = value.with_context(|| format!("the {what} does not parse"))?;
        u32::try_from(value)
            .ok()
            .filter(|id| *id != u32::MAX)
            .with_context(|| format!("{what} {value} is out of range"))
    };
    // An empty field is a zero, as other programs read it.
    let is_empty = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
    let uid = if is_empty(&header.as_old().uid) { 0 } else { id(header.uid(), "owner")? };
    let gid = if is_empty(&header.as_old().gid) { 0 } else { id(header.gid(), "group")? };
    std::os::unix::fs::lchown(target, Some(uid), Some(gid)).context("set the owner")
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut list = Vec::new();
    let Some(extensions) = entry.pax_extensions().context("read the extended header")? else { return Ok(list) };
    for extension in extensions {
        let extension = extension.context("read the extended header")?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
        if ATTRIBUTE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let value = extension.value_bytes();
            if value.len() > ATTRIBUTE_LIMIT {
                bail!("the attribute {name} of {} bytes is too large", value.len());
            }
            list.push((name.to_owned(), value.to_vec()));
        }
    }
    Ok(list)
}

/// The directories above an entry that the layer does not name itself.
fn make_directories(root: &Path, path: &Path) -> Result<()> {
    let mut current = root.to_owned();
    for part in path.components() {
        current.push(part);
        match fs::symlink_metadata(&current) {
            Ok(metadata) if metadata.is_dir() => {}
            // A link to a directory of the layer; it cannot lead out, the layer is the root.
            Ok(metadata) if metadata.is_symlink() && fs::metadata(&current).is_ok_and(|metadata| metadata.is_dir()) => {
            }
            Ok(_) => {
                clear(&current)?;
                fs::create_dir(&current)?;
            }
            Err(_) => fs::create_dir(&current)?,
        }
    }
    Ok(())
}

/// A later entry replaces an earlier one.
fn clear(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(metadata) if metadata.is_dir() => Ok(fs::remove_dir_all(target)?),
        Ok(_) => Ok(fs::remove_file(target)?),
    }
}

fn make_node(target: &Path, kind: rustix::fs::FileType, device: u64) -> Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, target, kind, mode, device).context("make the node")
}

fn set_time(target: &Path, seconds: u64) -> Result<()> {
    let time = rustix::fs::Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, target, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .context("set the time")
}

#[cfg(test)]
mod tests;
