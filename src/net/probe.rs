//! Try what the machine can do, without leaving a trace.

use anyhow::{Context, Result, anyhow};
use nix::sched::CloneFlags;
use rtnetlink::{LinkVeth, LinkVxlan};
use std::ffi::CString;
use std::path::PathBuf;

/// A kind of link that orch makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Veth,
    Vxlan,
}

/// Whether such a link can be made: one is, in a network namespace that ends with its thread.
pub fn link_kind(kind: LinkKind) -> Result<()> {
    let probe = move || -> Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _messages) = rtnetlink::new_connection().context("open a netlink socket")?;
            tokio::spawn(connection);
            let message = match kind {
                LinkKind::Veth => LinkVeth::new("probe", "peer").build(),
                LinkKind::Vxlan => LinkVxlan::new("probe", 1).port(8472).build(),
            };
            handle.link().add(message).execute().await.context("add a link")
        })
    };
    std::thread::spawn(probe).join().map_err(|_| anyhow!("the probe panicked"))?
}

/// Whether a program is on PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| {
        CString::new(file.as_os_str().as_encoded_bytes())
            // SAFETY: the path is a NUL-terminated string that lives over the call.
            .is_ok_and(|file| unsafe { libc::access(file.as_ptr(), libc::X_OK) } == 0)
    })
}
