//! The shim: one small process per pod that owns the pause and every container of the pod.
//!
//! It is a hidden command of the same binary, single-threaded for all its life: it sleeps in `poll`,
//! pumps output into logs, reaps, and forks for whatever is more than that ([`launch`], [`exec`]).
//! Containers and their exec'd processes are its children, so they outlive orch, and so do their exit
//! codes. Nothing here uses threads or tokio; what allocates much runs in a fork.

mod confine;
mod container;
mod exec;
mod launch;
mod logs;
mod pause;
pub mod protocol;
mod server;

pub use launch::{DOCUMENT, FILTER, RootMount, StagedMount, StartDocument, UserRequest};
pub use pause::program as pause_program;

use anyhow::{Context, Result};
use protocol::{Ready, ShimConfig};
use std::fs;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub const SOCKET: &str = "shim.sock";
pub const CONFIG: &str = "shim.json";

/// `orch shim <run directory of the sandbox>`.
pub fn main(directory: &Path) -> ExitCode {
    let outcome = start(directory);
    let ready = match &outcome {
        Ok(server) => Ready::Ready { shim: server.identity().clone(), pause: server.pause().clone() },
        Err(error) => Ready::Failed { message: format!("{error:#}") },
    };
    let mut out = std::io::stdout();
    let told = serde_json::to_writer(&mut out, &ready).is_ok() && out.flush().is_ok();
    let Ok(server) = outcome else { return ExitCode::FAILURE };
    if !told {
        // orch is gone already; it finds the socket when it is back, or the sandbox's record tells it to clear up.
        eprintln!("nobody waits for this shim");
    }
    if let Err(error) = detach_output() {
        eprintln!("detach the output: {error:#}");
    }
    server.run()
}

fn start(directory: &Path) -> Result<server::Server> {
    let directory: PathBuf = directory.to_owned();
    let text = fs::read(directory.join(CONFIG)).with_context(|| format!("read {}", directory.display()))?;
    let config: ShimConfig = serde_json::from_slice(&text).context("parse the shim's configuration")?;
    nix::unistd::setsid().context("start a session")?;
    nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
    nix::sys::prctl::set_name(c"orch-shim").context("set the name")?;
    for file in &config.shim_cgroups {
        fs::write(file, "0").with_context(|| format!("join the shims' cgroup by {}", file.display()))?;
    }
    set_oom_score_adj(-998);
    nix::unistd::chdir("/")?;
    server::Server::new(directory, config)
}

/// Standard output was the pipe that orch waits on for [`Ready`].
fn detach_output() -> Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Best effort: lowering it takes CAP_SYS_RESOURCE. True if the value is in force.
pub fn set_oom_score_adj(value: i32) -> bool {
    fs::write("/proc/self/oom_score_adj", value.to_string()).is_ok()
}

/// Default dispositions and an empty mask: an ignored SIGPIPE would leak into the container.
pub fn reset_signals() {
    // By system call: the C library keeps 32 and 33 for itself and refuses them.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: all zeros is the kernel's structure for the default; KILL and STOP just fail.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
    let empty = nix::sys::signal::SigSet::empty();
    // An empty set is always valid.
    let _ = empty.thread_set_mask();
}

/// Mark everything from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: RawFd) {
    // SAFETY: only flags of our own descriptors change.
    unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
