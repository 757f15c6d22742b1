//! Ending the orch that works on a data directory, whoever keeps it running: systemd, OpenRC or nobody.

use super::files::Layout;
use crate::container::{ProcessIdentity, parent};
use crate::storage::LockFile;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long an orch that was told to end may take for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where systemd says that it runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

/// What starts an orch again when it ends.
#[derive(Debug, PartialEq, Eq)]
enum Keeper {
    Systemd { unit: String },
    OpenRc { service: String },
}

/// End the node on this data directory: an agent, or the server that is a node.
pub fn node(data_directory: &Path) -> Result<()> {
    holder(&Layout::new(data_directory).node_lock())
}

/// End what works on this data directory: [`node`], or a server without one.
pub fn all(data_directory: &Path) -> Result<()> {
    node(data_directory)?;
    holder(&LockFile::of_store(&Layout::new(data_directory).store()))
}

/// Stop a service by its name where there is one; `forever`: it does not start with the machine, either.
pub fn service(name: &str, forever: bool) {
    if Path::new(SYSTEMD).is_dir() {
        quiet("systemctl", &[if forever { "disable" } else { "stop" }, if forever { "--now" } else { "--" }, name]);
        return;
    }
    quiet("rc-service", &[name, "stop"]);
    if forever {
        quiet("rc-update", &["del", name]);
    }
}

/// Either there is no such service manager, or no such service: both are fine.
fn quiet(program: &str, arguments: &[&str]) {
    let _ =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// End the process that holds a lock.
fn holder(lock: &Path) -> Result<()> {
    let find = || LockFile::holder(lock).with_context(|| format!("find who holds {}", lock.display()));
    let Some(pid) = find()? else { return Ok(()) };
    // Gone in between: nothing is left to end.
    let Ok(process) = ProcessIdentity::of(pid) else { return Ok(()) };
    match keeper(pid) {
        Some(Keeper::Systemd { unit: name } | Keeper::OpenRc { service: name }) => service(&name, false),
        None => process.signal(libc::SIGTERM).with_context(|| format!("end orch, process {pid}"))?,
    }
    if !process.ended_within(PATIENCE) {
        bail!("orch, process {pid}, does not end: see its log, or end it with \"kill -9 {pid}\", and try again");
    }
    match find()? {
        Some(next) => bail!("process {next} took the place of orch, process {pid}: stop what starts it, and try again"),
        None => Ok(()),
    }
}

fn keeper(pid: i32) -> Option<Keeper> {
    if Path::new(SYSTEMD).is_dir() {
        let unit = unit(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)?;
        // Who was started inside a service is not yet the service.
        let main =
            Command::new("systemctl").args(["show", "--property=MainPID", "--value", "--", &unit]).output().ok()?;
        let is_main = String::from_utf8_lossy(&main.stdout).trim() == pid.to_string();
        return is_main.then_some(Keeper::Systemd { unit });
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", parent(pid).ok()?)).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let supervised = arguments.next()?.ends_with("supervise-daemon");
    supervised.then(|| arguments.next())?.map(|service| Keeper::OpenRc { service: service.into_owned() })
}

/// The innermost service in `/proc/<pid>/cgroup`.
fn unit(groups: &str) -> Option<String> {
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| path.rsplit('/').find(|name| name.ends_with(".service"))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_unit_is_the_innermost_service() {
        assert_eq!(super::unit("0::/system.slice/orch.service\n").as_deref(), Some("orch.service"));
        let hybrid = "1:name=systemd:/user.slice/user@0.service/app.slice/edge.service/init\n0::/\n";
        assert_eq!(super::unit(hybrid).as_deref(), Some("edge.service"));
        assert_eq!(super::unit("4:memory:/\n0::/user.slice/session-1.scope\n"), None);
    }
}
