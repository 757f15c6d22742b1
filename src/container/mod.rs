//! The container runtime: images, sandboxes, containers, in the same binary as everything else.
//!
//! [`Runtime::open`] gives what a kubelet needs ([`crate::api::cri`]). Each pod is owned by a [`shim`],
//! a process of its own, so containers live on without orch and are found again. libcontainer is only
//! ever called in a fork of a shim, never in orch itself: that has threads.
//!
//! Disk: `<data>/sandboxes/<id>` records, writable layers and exit codes; `<data>/store` images.
//! Run: `<run>/s/<id>` sockets, bundles (with their secrets) and mounts, gone with the boot.

mod binary;
mod cgroup;
mod container;
mod cri;
pub mod image;
mod process;
mod record;
mod rootfs;
mod runtime;
mod sandbox;
mod shim;
mod shim_client;
mod spec;
mod stats;
mod streams;
mod teardown;

pub use process::{ProcessIdentity, parent};
pub use runtime::{Config, Runtime};
pub use teardown::{kill_all, uninstall};

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Run a hidden command of the binary, if that is what the arguments (with the program's name) ask
/// for. To be called before anything else: these need a process with a single thread.
pub fn run_hidden(arguments: &[OsString]) -> Option<ExitCode> {
    match arguments {
        [_, command, directory] if command == "shim" => Some(shim::main(Path::new(directory))),
        [_, command, request] if command == "unpack-layer" => Some(image::unpack_main(request)),
        _ => None,
    }
}
