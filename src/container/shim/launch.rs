//! Starts a container in a fork of the shim: mounts its root, resolves its user, hands the rest to
//! libcontainer. The fork has mounts of its own, so nothing of them appears on the machine, and its
//! memory goes with it. The container's first process becomes a child of the shim.

use super::confine::Confinement;
use super::container::Pump;
use super::logs::Stream;
use super::protocol::{self, StartContainer};
use super::server::HelperMessage;
use crate::container::rootfs;
use crate::container::spec::users::{self, ResolvedUser};
use anyhow::{Context, Result, bail};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
pub use rootfs::{RootMount, StagedMount};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
pub use users::UserRequest;

pub const CONSOLE: &str = "console.sock";
/// In the bundle, written by orch.
pub const DOCUMENT: &str = "start.json";
/// In the bundle, where the container is confined: the instructions of its system call filter.
pub const FILTER: &str = "seccomp.bpf";
/// In the bundle: the process as it is confined, for later commands in the container.
pub const PROCESS: &str = "process.json";
/// In the bundle: libcontainer's state.
const STATE: &str = "state";
/// In the bundle: where the root file system is mounted, and where volumes wait.
const ROOT: &str = "rootfs";

/// All that a container is made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartDocument {
    /// The OCI runtime configuration without its user, which only the image's files tell.
    pub spec: Value,
    pub root: RootMount,
    pub mounts: Vec<StagedMount>,
    pub user: UserRequest,
    /// Ids of the user namespace: host id of its 0, length.
    pub user_namespace: Option<(u32, u32)>,
}

/// The standard streams of a container without a terminal: its ends and the shim's.
pub struct Stdio {
    container: [Option<OwnedFd>; 3],
    stdin: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
}

impl Stdio {
    pub fn new(request: &StartContainer) -> Result<Self> {
        if request.tty {
            return Ok(Self { container: [None, None, None], stdin: None, outputs: Vec::new() });
        }
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe");
        let (stdin_theirs, stdin) = match request.stdin {
            true => {
                let (read, write) = pipe()?;
                (read, Some(write))
            }
            false => (fs::File::open("/dev/null").context("open /dev/null")?.into(), None),
        };
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        Ok(Self {
            container: [Some(stdin_theirs), Some(stdout_theirs), Some(stderr_theirs)],
            stdin,
            outputs: vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)],
        })
    }

    /// After the fork: drop the container's ends, so that the end of a stream is seen.
    pub fn into_ours(self) -> Result<(Vec<Pump>, Option<OwnedFd>)> {
        let pumps = self.outputs.into_iter().map(|(stream, fd)| Pump::new(stream, fd)).collect::<std::io::Result<_>>();
        Ok((pumps.context("prepare the output")?, self.stdin))
    }
}

/// Fork the helper; its channel comes back.
pub fn fork(request: &StartContainer, stdio: &Stdio) -> Result<OwnedFd> {
    let (ours, theirs) = protocol::socket_pair()?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }.context("fork the helper")? {
        nix::unistd::ForkResult::Parent { .. } => {
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok(ours)
        }
        nix::unistd::ForkResult::Child => {
            drop(ours);
            let channel = theirs.as_raw_fd();
            let message = match launch(request, stdio, channel) {
                Ok(message) => message,
                Err(error) => failed(&error),
            };
            // If the shim is gone there is nobody to tell.
            let _ = protocol::send(channel, &message, &[]);
            // SAFETY: ends this process without running the parent's destructors on its copies.
            unsafe { libc::_exit(0) }
        }
    }
}

fn failed(error: &anyhow::Error) -> HelperMessage {
    let mut message = format!("{error:#}");
    // libcontainer's errors repeat their causes.
    if let Some(start) = message.find(EXEC_ERROR) {
        message = message[start..].trim_end_matches('"').to_owned();
    }
    let exit_code = match () {
        () if message.contains("not found in $PATH") || message.contains("no such file or directory") => 127,
        () if message.starts_with(EXEC_ERROR) => 126,
        () => 128,
    };
    HelperMessage::Failed { message, exit_code }
}

const EXEC_ERROR: &str = "exec: ";

fn launch(request: &StartContainer, stdio: &Stdio, channel: RawFd) -> Result<HelperMessage> {
    let bundle = &request.bundle;
    let document = fs::read(bundle.join(DOCUMENT)).with_context(|| format!("read {}", bundle.display()))?;
    let mut document: StartDocument = serde_json::from_slice(&document).context("parse the start document")?;

    let root = bundle.join(ROOT);
    let staged = rootfs::prepare(bundle, &root, &document.root, &document.mounts)?;
    let user = users::resolve(&root, &document.user)?;
    complete(&mut document.spec, &root, &staged, &document.mounts, &user)?;
    own_stdio(stdio, &user, document.user_namespace)?;
    clamp_oom_score_adj(&mut document.spec)?;
    write_private(&bundle.join(PROCESS), &document.spec["process"])?;
    let confinement = confinement(bundle, &document.spec["process"])?;
    // The executor confines; libcontainer would drop the right to load the filter before it.
    if let Some(process) = document.spec["process"].as_object_mut() {
        process.remove("capabilities");
    }
    write_private(&bundle.join("config.json"), &document.spec)?;

    let state = bundle.join(STATE);
    // A start that was cut short by the machine's end, or failed, may be tried again.
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state)?;
    let mut builder = ContainerBuilder::new(request.container.clone(), SyscallType::default())
        .with_root_path(state)?
        .with_executor(Launch { channel, confinement })
        .with_console_socket(request.tty.then(|| bundle.join(CONSOLE)));
    if let [Some(stdin), Some(stdout), Some(stderr)] = &stdio.container {
        builder =
            builder.with_stdin(stdin.try_clone()?).with_stdout(stdout.try_clone()?).with_stderr(stderr.try_clone()?);
    }
    let container = builder
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| anyhow::anyhow!("{}", causes(&error)))?;
    let pid = container.pid().context("libcontainer gave no pid")?.as_raw();
    Ok(HelperMessage::Built { pid, user: (user.uid, user.gid, user.groups) })
}

/// An error and what caused it, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What only the mounted root tells: the root's path, sources of the staged mounts, the user.
fn complete(
    spec: &mut Value,
    root: &Path,
    staged: &[PathBuf],
    mounts: &[StagedMount],
    user: &ResolvedUser,
) -> Result<()> {
    spec["root"]["path"] = Value::from(root.to_str().context("the root's path is not text")?);
    let list = spec["mounts"].as_array_mut().context("the configuration has no mounts")?;
    for (source, mount) in staged.iter().zip(mounts) {
        list.push(serde_json::json!({
            "destination": mount.destination,
            "type": "bind",
            "source": source,
            "options": ["rbind"],
        }));
    }
    spec["process"]["user"] = serde_json::json!({ "uid": user.uid, "gid": user.gid, "additionalGids": user.groups });
    Ok(())
}

/// The ends of pipes belong to root: give them to the user, or `echo > /dev/stdout` fails.
fn own_stdio(stdio: &Stdio, user: &ResolvedUser, user_namespace: Option<(u32, u32)>) -> Result<()> {
    let base = user_namespace.map_or(0, |(host_id, _)| host_id);
    let (uid, gid) = (rustix::fs::Uid::from_raw(base + user.uid), rustix::fs::Gid::from_raw(base + user.gid));
    for fd in stdio.container.iter().flatten() {
        let is_pipe = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == rustix::fs::FileType::Fifo;
        if is_pipe {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).context("give the output to the user")?;
        }
    }
    Ok(())
}

/// Without CAP_SYS_RESOURCE a process cannot be made less likely to be killed: then it stays as it is.
fn clamp_oom_score_adj(spec: &mut Value) -> Result<()> {
    let Some(wanted) = spec["process"]["oomScoreAdj"].as_i64() else { return Ok(()) };
    if !super::set_oom_score_adj(i32::try_from(wanted)?)
        && let Some(process) = spec["process"].as_object_mut()
    {
        process.remove("oomScoreAdj");
    }
    Ok(())
}

fn write_private(path: &Path, value: &Value) -> Result<()> {
    crate::container::record::write_bytes(path, &serde_json::to_vec(value)?)
}

/// What a process of the container is confined to.
pub fn confinement(bundle: &Path, process: &Value) -> Result<Confinement> {
    let filter = match fs::read(bundle.join(FILTER)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.context("read the seccomp filter")?),
    };
    Ok(Confinement {
        capabilities: serde_json::from_value(process["capabilities"].clone()).context("parse the capabilities")?,
        filter,
        no_new_privileges: process["noNewPrivileges"].as_bool() == Some(true),
    })
}

/// Let the container's first process go on to its program.
pub fn release(request: &StartContainer) -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
    let directory = request.bundle.join(STATE).join(&request.container);
    let handle: OwnedFd = fs::File::open(&directory).with_context(|| format!("open {}", directory.display()))?.into();
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = protocol::short_address(&handle, libcontainer::notify_socket::NOTIFY_FILE)?;
    connect(stream.as_raw_fd(), &address).context("reach the container's first process")?;
    fs::File::from(stream).write_all(b"start container").context("start the container's first process")
}

pub enum ConsoleStep {
    Later,
    Connected(OwnedFd),
    Master(OwnedFd),
}

/// One step of taking a terminal's master from a console socket, without waiting.
pub fn console_step(fd: RawFd) -> Result<ConsoleStep> {
    use nix::errno::Errno;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};
    match accept4(fd, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
        // SAFETY: accept gave us this descriptor.
        Ok(stream) => return Ok(ConsoleStep::Connected(unsafe { OwnedFd::from_raw_fd(stream) })),
        Err(Errno::EAGAIN) => return Ok(ConsoleStep::Later),
        // Not the listener but the connection.
        Err(Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let mut name = [0; 256];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [std::io::IoSliceMut::new(&mut name)];
    let message = match recvmsg::<()>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
        Err(Errno::EAGAIN) => return Ok(ConsoleStep::Later),
        other => other?,
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [master] = fds[..]
        {
            // SAFETY: the kernel just installed this descriptor for us.
            return Ok(ConsoleStep::Master(unsafe { OwnedFd::from_raw_fd(master) }));
        }
    }
    bail!("the container sent no terminal")
}

/// The last step in the container's first process: its program.
#[derive(Clone)]
struct Launch {
    channel: RawFd,
    confinement: Confinement,
}

impl Executor for Launch {
    fn validate(&self, spec: &Spec) -> std::result::Result<(), ExecutorValidationError> {
        program(spec).map(|_| ()).map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    fn exec(&self, spec: &Spec) -> std::result::Result<(), ExecutorError> {
        let error = match self.confinement.apply().and_then(|()| program(spec)) {
            Ok(path) => {
                let arguments = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default();
                execute(&path, &arguments)
            }
            Err(error) => error,
        };
        // The channel closes with a successful exec; this is what the shim hears otherwise.
        let _ = protocol::send(self.channel, &failed(&error), &[]);
        Err(ExecutorError::Execution(error.to_string().into()))
    }
}

fn program(spec: &Spec) -> Result<PathBuf> {
    let process = spec.process().as_ref().context("the configuration has no process")?;
    let name = process.args().as_ref().and_then(|arguments| arguments.first()).context("there is no command")?;
    let path = process
        .env()
        .iter()
        .flatten()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    find_program(name, path)
}

/// Look a command up as execvp does, and say what is wrong in Kubernetes's usual words.
pub fn find_program(name: &str, path: &str) -> Result<PathBuf> {
    let check = |candidate: &Path| -> Option<std::result::Result<(), &'static str>> {
        match fs::metadata(candidate) {
            Err(_) => None,
            Ok(metadata) if metadata.is_dir() => Some(Err("is a directory")),
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Some(Err("permission denied")),
            Ok(_) => Some(Ok(())),
        }
    };
    if name.contains('/') {
        let candidate = PathBuf::from(name);
        return match check(&candidate) {
            None => bail!("{EXEC_ERROR}{name:?}: stat {name}: no such file or directory"),
            Some(Err(why)) => bail!("{EXEC_ERROR}{name:?}: {why}"),
            Some(Ok(())) => Ok(candidate),
        };
    }
    let mut denied = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty()) {
        let candidate = Path::new(directory).join(name);
        match check(&candidate) {
            Some(Ok(())) => return Ok(candidate),
            Some(Err(why)) => denied = Some(why),
            None => {}
        }
    }
    match denied {
        Some(why) => bail!("{EXEC_ERROR}{name:?}: {why}"),
        None => bail!("{EXEC_ERROR}{name:?}: executable file not found in $PATH"),
    }
}

/// Replace this process; what comes back is why not.
pub fn execute(path: &Path, arguments: &[String]) -> anyhow::Error {
    super::reset_signals();
    let name = arguments.first().map_or("", String::as_str);
    let prepared = (|| {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| CString::new(argument.as_bytes()))
            .collect::<std::result::Result<_, _>>()?;
        anyhow::Ok((path, arguments))
    })();
    match prepared {
        Err(_) => anyhow::anyhow!("{EXEC_ERROR}{name:?}: an argument holds a zero byte"),
        Ok((path, arguments)) => {
            let Err(error) = nix::unistd::execv(&path, &arguments);
            anyhow::anyhow!("{EXEC_ERROR}{name:?}: {}", error.desc().to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, "").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            path
        };
        let good = file("good", 0o755);
        file("plain", 0o644);
        let path = format!("/nonexistent:{}", directory.path().display());
        assert_eq!(find_program("good", &path).expect("found"), good);
        assert_eq!(find_program(good.to_str().expect("text"), "").expect("found"), good);
        let error = |name: &str| find_program(name, &path).expect_err("an error").to_string();
        assert_eq!(error("absent"), r#"exec: "absent": executable file not found in $PATH"#);
        assert_eq!(error("plain"), r#"exec: "plain": permission denied"#);
        assert_eq!(error("/absent"), r#"exec: "/absent": stat /absent: no such file or directory"#);
        assert!(matches!(failed(&anyhow::anyhow!(error("absent"))), HelperMessage::Failed { exit_code: 127, .. }));
        assert!(matches!(failed(&anyhow::anyhow!(error("plain"))), HelperMessage::Failed { exit_code: 126, .. }));
    }
}
