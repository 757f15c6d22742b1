//! The pause process: holds a pod's namespaces, and is the init of a shared pid namespace.
//!
//! It is a static program of a few bytes that sleeps until it is killed, run from memory. `SIGCHLD`
//! is ignored before the exec, so the kernel reaps orphans for it.

use super::protocol::ShimConfig;
use anyhow::{Context, Result, bail};
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

/// `loop { pause() }`.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// `ppoll(NULL, 0, NULL, NULL)` in a loop: arm64 has no pause().
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x28, 0x09, 0x80,
    0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

const ADDRESS: u64 = 0x40_0000;
/// The user of the pause process where the machine's ids are used.
const NOBODY: u32 = 65535;

/// The program: an ELF header, one program header, the code.
pub fn program() -> Vec<u8> {
    let size = (64 + 56 + CODE.len()) as u64;
    let mut elf = Vec::with_capacity(size as usize);
    elf.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend_from_slice(&2u16.to_le_bytes()); // executable
    elf.extend_from_slice(&MACHINE.to_le_bytes());
    elf.extend_from_slice(&1u32.to_le_bytes());
    elf.extend_from_slice(&(ADDRESS + 64 + 56).to_le_bytes()); // entry
    elf.extend_from_slice(&64u64.to_le_bytes()); // program headers
    elf.extend_from_slice(&0u64.to_le_bytes()); // section headers: none
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes()); // load
    elf.extend_from_slice(&5u32.to_le_bytes()); // read, execute
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(CODE);
    elf
}

/// Start it in the namespaces that the pod wants; returns its pid. The caller is single-threaded.
pub fn start(config: &ShimConfig) -> Result<i32> {
    let file = super::protocol::memory_file("pause", &program()).context("make the pause program")?;
    let (parent, child) = super::protocol::socket_pair()?;
    let mut flags = 0;
    for (wanted, flag) in [
        (config.new_network, libc::CLONE_NEWNET),
        (config.new_ipc, libc::CLONE_NEWIPC),
        (config.new_pid, libc::CLONE_NEWPID),
        (!config.hostname.is_empty(), libc::CLONE_NEWUTS),
        (config.user_namespace.is_some(), libc::CLONE_NEWUSER),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    // SAFETY: like fork(), with namespaces; this process has one thread, and the child runs on a copy of its stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(std::io::Error::last_os_error()).context("clone the pause process");
    }
    if pid == 0 {
        drop(parent);
        let error = child_main(config, &child, &file);
        // The parent reads the end of the stream as success, which comes with the exec.
        let _ = super::protocol::send(child.as_raw_fd(), &format!("{error:#}"), &[]);
        std::process::exit(1);
    }
    drop(child);
    let pid = pid as i32;
    let outcome = prepare(config, pid, &parent);
    if outcome.is_err() {
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    }
    outcome.map(|()| pid)
}

fn prepare(config: &ShimConfig, pid: i32, parent: &OwnedFd) -> Result<()> {
    for file in &config.pause_cgroups {
        fs::write(file, pid.to_string()).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some((host_id, length)) = config.user_namespace {
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{pid}/{map}");
            fs::write(&path, format!("0 {host_id} {length}\n")).with_context(|| format!("write {path}"))?;
        }
    }
    super::protocol::send(parent.as_raw_fd(), &"go", &[])?;
    match super::protocol::receive::<String>(parent.as_raw_fd())? {
        None => Ok(()),
        Some((message, _)) => bail!("pause process: {message}"),
    }
}

fn child_main(config: &ShimConfig, channel: &OwnedFd, program: &OwnedFd) -> anyhow::Error {
    match child_prepare(config, channel) {
        Err(error) => error,
        Ok(()) => {
            let arguments = [c"/pause".as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null::<libc::c_char>()];
            let empty = CString::default();
            // SAFETY: the arrays end with a null pointer and outlive the call.
            unsafe {
                libc::syscall(
                    libc::SYS_execveat,
                    program.as_raw_fd(),
                    empty.as_ptr(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                )
            };
            anyhow::Error::new(std::io::Error::last_os_error()).context("execute the pause program")
        }
    }
}

fn child_prepare(config: &ShimConfig, channel: &OwnedFd) -> Result<()> {
    super::protocol::receive::<String>(channel.as_raw_fd())?.context("the shim is gone")?;
    if config.user_namespace.is_some() {
        nix::unistd::setresgid(0.into(), 0.into(), 0.into())?;
        nix::unistd::setresuid(0.into(), 0.into(), 0.into())?;
    }
    if config.oom_score_adj != 0 {
        super::set_oom_score_adj(config.oom_score_adj);
    }
    if config.new_network {
        loopback_up().context("set lo up")?;
    }
    if !config.hostname.is_empty() {
        nix::unistd::sethostname(&config.hostname).context("set the host name")?;
    }
    for (name, value) in &config.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let write = |path: &str| fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes());
        write(&path).with_context(|| format!("set sysctl {name}={value}"))?;
    }
    super::reset_signals();
    // SAFETY: plain signal disposition; ignored ones survive the exec.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    if config.user_namespace.is_none() {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into())?;
        nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into())?;
    }
    super::close_on_exec_from(0);
    Ok(())
}

/// The loopback interface of a new network namespace is down.
fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is valid; the name and the flags are set before use, and the kernel only reads it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_runs_and_sleeps() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pause");
        std::fs::write(&path, super::program()).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let mut child = std::process::Command::new(&path).spawn().expect("starts");
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("alive");
            stat.rsplit_once(") ").expect("a name").1.starts_with('S')
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !state() {
            assert!(std::time::Instant::now() < deadline, "it does not sleep");
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().expect("reaped").signal(), Some(9));
    }
}
