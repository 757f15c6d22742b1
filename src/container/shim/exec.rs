//! Runs a command in a container: a fork of the shim joins the container's cgroup and namespaces and
//! forks once more, for the pid namespace. The command becomes a child of the shim.
//!
//! Not libcontainer's tenant builder: that drops the seccomp profile, stays outside the user namespace,
//! trusts a bare pid, leaks a socket for each call and runs as root unless told otherwise.

use super::confine::Confinement;
use super::launch::{PROCESS, confinement, execute, find_program};
use super::protocol::{self, ExecDocument};
use super::server::HelperMessage;
use anyhow::{Context, Result, bail};
use libcontainer::oci_spec::runtime::Process;
use libcontainer::syscall::syscall::create_syscall;
use serde_json::Value;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

pub struct Plan {
    /// The container's first process, a child of the shim that is not reaped.
    pub init: i32,
    pub tty: bool,
    /// Which of stdin, stdout and stderr follow the document in `fds`.
    pub wanted: [bool; 3],
    pub bundle: PathBuf,
    pub cgroups: Vec<PathBuf>,
    pub fds: Vec<OwnedFd>,
}

/// Fork the helper; its channel and pid come back.
pub fn fork(plan: Plan) -> Result<(OwnedFd, i32)> {
    let (ours, theirs) = protocol::socket_pair()?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { nix::unistd::fork() }.context("fork the helper")? {
        nix::unistd::ForkResult::Parent { child } => {
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok((ours, child.as_raw()))
        }
        nix::unistd::ForkResult::Child => {
            drop(ours);
            let channel = theirs.as_raw_fd();
            if let Err(error) = enter(plan, channel) {
                let _ = protocol::send(channel, &failed(&error), &[]);
            }
            // SAFETY: ends this process without running the parent's destructors on its copies.
            unsafe { libc::_exit(0) }
        }
    }
}

fn failed(error: &anyhow::Error) -> HelperMessage {
    let message = format!("{error:#}");
    let exit_code = match () {
        () if message.contains("not found in $PATH") || message.contains("no such file or directory") => 127,
        () => 126,
    };
    HelperMessage::Failed { message, exit_code }
}

fn enter(plan: Plan, channel: RawFd) -> Result<()> {
    let text = fs::read(plan.bundle.join(PROCESS)).context("read the container's process")?;
    let value: Value = serde_json::from_slice(&text).context("parse the container's process")?;
    let confinement = confinement(&plan.bundle, &value)?;
    let process: Process = serde_json::from_value(value).context("parse the container's process")?;
    let mut fds = plan.fds.into_iter();
    let document: ExecDocument =
        serde_json::from_reader(fs::File::from(fds.next().context("the exec document is missing")?))
            .context("parse the exec document")?;
    let null: OwnedFd = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
    let mut stdio = Vec::new();
    for wanted in plan.wanted {
        stdio.push(match wanted {
            true => fds.next().context("a descriptor is missing")?,
            false => null.try_clone()?,
        });
    }

    for file in &plan.cgroups {
        fs::write(file, "0").with_context(|| format!("join the container's cgroup by {}", file.display()))?;
    }
    let namespaces = namespaces(plan.init)?;
    // SAFETY: plain prctl; keeps processes of the container from looking into this one while it joins.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    for (kind, namespace) in &namespaces {
        // SAFETY: plain system call on an open descriptor.
        if unsafe { libc::setns(namespace.as_raw_fd(), *kind) } < 0 {
            return Err(std::io::Error::last_os_error()).context("join the container's namespaces");
        }
    }
    // SAFETY: like fork(), but as a child of the shim; one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(std::io::Error::last_os_error()).context("fork into the container"),
        0 => {
            let error = run(&process, &confinement, &document.arguments, stdio, plan.tty, channel);
            let _ = protocol::send(channel, &failed(&error), &[]);
            // SAFETY: as above.
            unsafe { libc::_exit(255) }
        }
        pid => Ok(protocol::send(channel, &HelperMessage::Process { pid: pid as i32 }, &[])?),
    }
}

/// The namespaces to join, the user namespace first: it gives the right to join the others, and the
/// mount namespace last: `/proc` is needed until then.
fn namespaces(init: i32) -> Result<Vec<(i32, OwnedFd)>> {
    let mut joined = Vec::new();
    for (name, kind) in [
        ("user", libc::CLONE_NEWUSER),
        ("pid", libc::CLONE_NEWPID),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("net", libc::CLONE_NEWNET),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("mnt", libc::CLONE_NEWNS),
    ] {
        let own = fs::read_link(format!("/proc/self/ns/{name}"))?;
        let theirs_path = format!("/proc/{init}/ns/{name}");
        let theirs = fs::File::open(&theirs_path).with_context(|| format!("open {theirs_path}"))?;
        if fs::read_link(&theirs_path)? != own {
            joined.push((kind, theirs.into()));
        }
    }
    if joined.is_empty() {
        bail!("the container has no namespaces of its own");
    }
    Ok(joined)
}

/// In the container, as a child of the shim; what comes back is why not.
fn run(
    process: &Process,
    confinement: &Confinement,
    arguments: &[String],
    stdio: Vec<OwnedFd>,
    tty: bool,
    channel: RawFd,
) -> anyhow::Error {
    let prepared = prepare(process, stdio, tty, channel).and_then(|()| confinement.apply()).and_then(|()| {
        // Where root may not go, its user may.
        nix::unistd::chdir(process.cwd()).with_context(|| format!("chdir to {}", process.cwd().display()))?;
        let name = arguments.first().context("there is no command")?;
        find_program(name, &std::env::var("PATH").unwrap_or_default())
    });
    match prepared {
        Ok(path) => execute(&path, arguments),
        Err(error) => error,
    }
}

fn prepare(process: &Process, stdio: Vec<OwnedFd>, tty: bool, channel: RawFd) -> Result<()> {
    nix::unistd::setsid()?;
    match tty {
        true => terminal(process.user().uid(), channel)?,
        false => {
            for (target, fd) in stdio.iter().enumerate() {
                own(fd, process.user().uid(), process.user().gid());
                // SAFETY: both descriptors are open; the target numbers are the standard ones.
                if unsafe { libc::dup2(fd.as_raw_fd(), target as i32) } < 0 {
                    return Err(std::io::Error::last_os_error()).context("set up the standard streams");
                }
            }
        }
    }
    let syscall = create_syscall();
    for limit in process.rlimits().iter().flatten() {
        syscall.set_rlimit(limit)?;
    }
    // SAFETY: clears this process's own environment; it has one thread.
    unsafe { libc::clearenv() };
    for entry in process.env().iter().flatten() {
        if let Some((name, value)) = entry.split_once('=')
            && !name.is_empty()
        {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }
    if std::env::var_os("HOME").is_none() {
        // SAFETY: as above.
        unsafe {
            std::env::set_var("HOME", crate::container::spec::users::home("/etc/passwd".as_ref(), process.user().uid()))
        };
    }
    if let Some(mask) = process.user().umask() {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
    }
    let groups: Vec<nix::unistd::Gid> =
        process.user().additional_gids().iter().flatten().map(|gid| (*gid).into()).collect();
    nix::unistd::setgroups(&groups).context("set the groups")?;
    syscall.set_id(process.user().uid().into(), process.user().gid().into())?;

    super::close_on_exec_from(3);
    Ok(())
}

/// Give a pipe to the user; other files stay whose they are.
fn own(fd: &OwnedFd, uid: u32, gid: u32) {
    let is_pipe = rustix::fs::fstat(fd)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo);
    if is_pipe {
        // Fails for a user namespace that the pipe is not part of; the descriptor itself works all the same.
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
    }
}

/// A terminal of the container's own: the shim gets its master.
fn terminal(uid: u32, channel: RawFd) -> Result<()> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let master = rustix::fs::open(
        "/dev/pts/ptmx",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .context("open /dev/pts/ptmx of the container")?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None).context("give the terminal to the user")?;
    protocol::send(channel, &HelperMessage::Terminal, &[master.as_raw_fd()])?;
    rustix::process::ioctl_tiocsctty(&slave).context("take the terminal")?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)?;
    Ok(())
}
