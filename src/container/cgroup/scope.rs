//! The root of the pods' groups: `orch-pods.scope` under systemd, which then leaves it alone
//! (`Delegate`), else a plain group `/orch`.
//!
//! A scope ends with its last process, so a sleeping one of a few bytes holds it. It is not below the
//! service of orch itself: containers would keep that from starting again.

use super::{Version, remove_tree};
use crate::container::process::ProcessIdentity;
use crate::container::shim;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The root's path inside the hierarchies, made if need be.
pub fn ensure(version: Version, instance: &str) -> Result<String> {
    let name = if instance.is_empty() { "orch".to_owned() } else { format!("orch-{instance}") };
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(format!("/{name}"));
    }
    let unit = format!("{name}-pods.scope");
    if let Some(path) = find(&unit, version) {
        return Ok(path);
    }
    create(&unit)?;
    find(&unit, version).with_context(|| format!("systemd made {unit}, but its cgroup is not there"))
}

/// Where systemd put the scope.
fn find(unit: &str, version: Version) -> Option<String> {
    let output = Command::new("systemctl").args(["show", "--property=ControlGroup", "--value", unit]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let mount = match version {
        Version::V2 => "/sys/fs/cgroup",
        Version::V1 => "/sys/fs/cgroup/systemd",
    };
    (!path.is_empty() && Path::new(mount).join(path.trim_start_matches('/')).is_dir()).then_some(path)
}

fn create(unit: &str) -> Result<()> {
    let mut anchor = anchor()?;
    let pid = anchor.id();
    let identity = ProcessIdentity::of(pid as i32)?;
    let output = Command::new("busctl")
        .args(["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"])
        .args(["StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", "5"])
        .args(["PIDs", "au", "1", &pid.to_string()])
        .args(["Delegate", "b", "true"])
        // The default is a share of the machine's for one unit, and all pods are in this one.
        .args(["TasksMax", "t", &u64::MAX.to_string()])
        .args(["Description", "s", "Pods of orch"])
        .args(["CollectMode", "s", "inactive-or-failed"])
        .arg("0")
        .output()
        .context("run busctl, to make a scope for the pods")?;
    if !output.status.success() {
        let _ = anchor.kill();
        let _ = anchor.wait();
        bail!("make {unit}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // The job is queued: wait until the process is in its new group.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(unit) {
        if std::time::Instant::now() > deadline || !identity.is_alive() {
            bail!("make {unit}: systemd did not move process {pid} into it");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // A scope that hands on controllers may hold no process itself: the anchor goes into a leaf.
    if let Some(path) = find(unit, Version::V2) {
        let leaf = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')).join("anchor");
        fs::create_dir_all(&leaf)?;
        fs::write(leaf.join("cgroup.procs"), pid.to_string()).context("move the anchor into its leaf")?;
    }
    Ok(())
}

/// The sleeping process; it stays when this one ends.
fn anchor() -> Result<std::process::Child> {
    let directory = std::env::temp_dir().join(format!("orch-anchor-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let path = directory.join("orch-pods");
    let started = fs::write(&path, shim::pause_program())
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)))
        .and_then(|()| {
            Command::new(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .current_dir("/")
                .spawn()
        });
    let _ = fs::remove_dir_all(&directory);
    started.context("start the process that holds the pods' scope")
}

/// At uninstall: end what is left in the root and remove it.
pub fn remove_root(cgroups: &super::Cgroups) -> Result<()> {
    let root = cgroups.group("");
    root.kill(std::time::Duration::from_secs(10))?;
    let mut errors = Vec::new();
    for directory in root.directories() {
        match remove_tree(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                errors.push(format!("{}: {error}", directory.display()))
            }
            _ => {}
        }
    }
    if errors.is_empty() { Ok(()) } else { bail!("remove cgroups: {}", errors.join("; ")) }
}
