//! Ending and removing everything that a runtime made, for `orch killall` and `orch uninstall`.
//!
//! Works without a running orch, from what is on disk and in the kernel. Goes on after an error; the
//! caller gets them all.

use super::cgroup::{self, Cgroups};
use super::process::{ProcessIdentity, boot_id};
use super::record::{self, SandboxRecord};
use super::runtime::{Config, gateway_label, link_prefix, unmount};
use super::sandbox::SHM;
use crate::net::link;
use anyhow::{Error, Result};
use std::path::Path;

/// End all pods: processes, mounts, links, cgroups, run directories. Records, images and logs stay.
pub fn kill_all(config: &Config) -> Vec<Error> {
    let mut errors = Vec::new();
    let data = config.data_dir.join("sandboxes");
    let sandboxes = collect(&mut errors, record::directories(&data)).unwrap_or_default();
    for id in &sandboxes {
        let read = record::read::<SandboxRecord>(&data.join(id).join(record::SANDBOX));
        let Some(mut sandbox) = collect(&mut errors, read).flatten() else { continue };
        for process in [&sandbox.shim, &sandbox.pause].into_iter().flatten() {
            kill(&mut errors, process);
        }
        sandbox.stopped = true;
        sandbox.ips.clear();
        collect(&mut errors, record::write(&data.join(id).join(record::SANDBOX), &sandbox));
    }
    match Cgroups::open(&config.instance) {
        Err(error) => errors.push(error),
        Ok(cgroups) => {
            collect(&mut errors, cgroup::remove_root(&cgroups));
        }
    }
    collect(&mut errors, clear_run(&config.run_dir));
    collect(&mut errors, remove_links(config));
    collect(&mut errors, record::remove_directory(&config.data_dir.join("network")));
    errors
}

/// [`kill_all`], then the runtime's files: images, records, writable layers.
pub fn uninstall(config: &Config) -> Vec<Error> {
    let mut errors = kill_all(config);
    for directory in ["sandboxes", "store"] {
        collect(&mut errors, record::remove_directory(&config.data_dir.join(directory)));
    }
    errors
}

fn collect<T>(errors: &mut Vec<Error>, outcome: Result<T>) -> Option<T> {
    outcome.map_err(|error| errors.push(error)).ok()
}

fn kill(errors: &mut Vec<Error>, process: &ProcessIdentity) {
    if process.boot_id == boot_id()
        && let Err(error) = process.signal(libc::SIGKILL)
    {
        errors.push(Error::from(error).context(format!("kill process {}", process.pid)));
    }
}

fn clear_run(run: &Path) -> Result<()> {
    let root = run.join("s");
    let mut errors = Vec::new();
    for id in record::directories(&root)? {
        collect(&mut errors, unmount(&root.join(&id).join(SHM)));
        collect(&mut errors, record::remove_directory(&root.join(&id)));
    }
    super::sandbox::joined(errors)
}

fn remove_links(config: &Config) -> Result<()> {
    let mut host = link::Netlink::open()?;
    let mut errors = Vec::new();
    for name in link::names_with_prefix(&link_prefix(&config.instance))? {
        collect(&mut errors, host.delete_link(&name));
    }
    collect(&mut errors, link::remove_gateway(&gateway_label(&config.instance)));
    super::sandbox::joined(errors)
}
