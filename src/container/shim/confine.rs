//! The last restrictions before a program is executed: system call filter and capabilities.
//!
//! The filter is compiled by orch, once for each profile; a shim only hands it to the kernel. Without
//! `no_new_privs` that takes CAP_SYS_ADMIN, so it comes before the capabilities go.

use anyhow::{Context, Result, bail};
use libcontainer::oci_spec::runtime::LinuxCapabilities;
use std::io;

#[derive(Clone)]
pub struct Confinement {
    pub capabilities: LinuxCapabilities,
    /// Instructions of the filter; None: unconfined.
    pub filter: Option<Vec<u8>>,
    pub no_new_privileges: bool,
}

impl Confinement {
    pub fn apply(&self) -> Result<()> {
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs()?;
        } else if let Some(filter) = &self.filter {
            load(filter)?;
        }
        let syscall = libcontainer::syscall::syscall::create_syscall();
        libcontainer::capabilities::reset_effective(syscall.as_ref())?;
        libcontainer::capabilities::drop_privileges(&self.capabilities, syscall.as_ref())
            .context("drop capabilities")?;
        if let (true, Some(filter)) = (self.no_new_privileges, &self.filter) {
            load(filter)?;
        }
        Ok(())
    }
}

fn load(filter: &[u8]) -> Result<()> {
    const INSTRUCTION: usize = std::mem::size_of::<libc::sock_filter>();
    if filter.is_empty() || !filter.len().is_multiple_of(INSTRUCTION) {
        bail!("the seccomp filter is damaged");
    }
    let mut instructions = Vec::with_capacity(filter.len() / INSTRUCTION);
    for bytes in filter.chunks_exact(INSTRUCTION) {
        instructions.push(libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
    }
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).context("the seccomp filter is too long")?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions outlive the call, which copies them.
    let outcome = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    if outcome < 0 {
        return Err(io::Error::last_os_error()).context("load the seccomp filter");
    }
    Ok(())
}
