//! What a machine needs to be a node: one row per check, each with the mend.
//!
//! `orch check-config` prints all of them; a start refuses on the first that fails. Every check
//! looks at the kernel or tries the thing itself; none trusts a version number.

use crate::net::probe::{LinkKind, program};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass(String),
    /// It works, but less well.
    Warn {
        found: String,
        mend: String,
    },
    /// A node cannot run.
    Fail {
        found: String,
        mend: String,
    },
}

/// What the checks look at.
pub struct Machine {
    pub data_directory: PathBuf,
}

/// One row of [`CHECKS`].
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Machine) -> Outcome,
}

/// In the order in which they are best mended.
pub const CHECKS: &[Check] = &[
    Check { name: "root", run: root },
    Check { name: "clock", run: clock },
    Check { name: "namespaces", run: namespaces },
    Check { name: "cgroups", run: cgroups },
    Check { name: "seccomp", run: seccomp },
    Check { name: "overlayfs", run: overlayfs },
    Check { name: "data directory", run: data_directory },
    Check { name: "veth", run: |_| link_kind(LinkKind::Veth, "veth", Severity::Fail) },
    Check { name: "vxlan", run: |_| link_kind(LinkKind::Vxlan, "vxlan", Severity::Warn) },
    Check { name: "iptables", run: iptables },
    Check { name: "connection tracking", run: connection_tracking },
    Check { name: "firewall", run: firewall },
];

/// The first check that fails, as an error for a start.
pub fn require(machine: &Machine) -> anyhow::Result<()> {
    for check in CHECKS {
        match (check.run)(machine) {
            Outcome::Pass(_) => {}
            Outcome::Warn { found, mend } => tracing::warn!(check = check.name, mend, "{found}"),
            Outcome::Fail { found, mend } => anyhow::bail!("{}: {found}: {mend}", check.name),
        }
    }
    Ok(())
}

fn pass(found: impl Into<String>) -> Outcome {
    Outcome::Pass(found.into())
}

fn warn(found: impl Into<String>, mend: impl Into<String>) -> Outcome {
    Outcome::Warn { found: found.into(), mend: mend.into() }
}

fn fail(found: impl Into<String>, mend: impl Into<String>) -> Outcome {
    Outcome::Fail { found: found.into(), mend: mend.into() }
}

/// Whether a missing kernel feature stops a node.
#[derive(Clone, Copy)]
enum Severity {
    Warn,
    Fail,
}

impl Severity {
    fn outcome(self, found: String, mend: String) -> Outcome {
        match self {
            Self::Warn => warn(found, mend),
            Self::Fail => fail(found, mend),
        }
    }
}

fn root(_: &Machine) -> Outcome {
    if nix::unistd::geteuid().is_root() {
        pass("running as root")
    } else {
        fail("not running as root", "run it with sudo")
    }
}

fn clock(_: &Machine) -> Outcome {
    let now = jiff::Timestamp::now();
    if now.as_second() >= crate::api::version::built_at() {
        pass(format!("{}", now.strftime("%F %T UTC")))
    } else {
        warn(
            format!("the clock shows {}, before this program was built", now.strftime("%F %T UTC")),
            "set it, or let time synchronisation do so; orch starts nevertheless and follows the step",
        )
    }
}

fn namespaces(_: &Machine) -> Outcome {
    let missing: Vec<&str> = ["mnt", "pid", "net", "ipc", "uts"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if missing.is_empty() {
        let user =
            if Path::new("/proc/self/ns/user").exists() { "" } else { "; none for users, so hostUsers: false fails" };
        pass(format!("mount, pid, network, ipc and uts{user}"))
    } else {
        fail(
            format!("the kernel has no namespaces of kind {}", missing.join(", ")),
            "use a kernel with CONFIG_NAMESPACES, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS and CONFIG_UTS_NS",
        )
    }
}

fn cgroups(_: &Machine) -> Outcome {
    const WANTED: &[&str] = &["cpu", "memory", "pids"];
    const MEND: &str = "add cgroup_enable=memory cgroup_memory=1 to the kernel command line and reboot";
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let (version, present): (_, Vec<String>) = match unified {
        Ok(text) => ("v2", text.split_whitespace().map(ToOwned::to_owned).collect()),
        Err(_) => {
            let present = WANTED.iter().filter(|name| Path::new("/sys/fs/cgroup").join(name).is_dir());
            ("v1", present.map(|name| (*name).to_owned()).collect())
        }
    };
    let missing: Vec<&str> = WANTED.iter().copied().filter(|name| !present.iter().any(|other| other == name)).collect();
    if present.is_empty() {
        fail("no cgroups are mounted at /sys/fs/cgroup", "mount them: mount -t cgroup2 none /sys/fs/cgroup")
    } else if missing.is_empty() {
        pass(format!("{version} with cpu, memory and pids"))
    } else {
        fail(format!("cgroup {version} lacks {}", missing.join(", ")), MEND)
    }
}

fn seccomp(_: &Machine) -> Outcome {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") => pass("filters are available"),
        _ => fail("the kernel has no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

/// Whether /proc/filesystems has it, after asking for the module.
fn filesystem(name: &str) -> bool {
    let has = || {
        fs::read_to_string("/proc/filesystems")
            .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some(name)))
    };
    has() || (load_module(name) && has())
}

fn load_module(name: &str) -> bool {
    Command::new("modprobe")
        .args(["-q", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn overlayfs(_: &Machine) -> Outcome {
    if filesystem("overlay") {
        pass("available")
    } else {
        fail(
            "the kernel has no overlay file system",
            "load it: modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS",
        )
    }
}

fn data_directory(machine: &Machine) -> Outcome {
    /// Below this orch starts, but images will not fit: bytes.
    const ROOM: u64 = 1 << 30;
    const OVERLAY_MAGIC: i64 = 0x794c_7630;
    const NFS_MAGIC: i64 = 0x6969;
    let path = machine.data_directory.as_path();
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = match nix::sys::statfs::statfs(existing) {
        Ok(stat) => stat,
        Err(error) => return fail(format!("{}: {error}", existing.display()), "choose another with --data-dir"),
    };
    let free = stat.blocks_available() * stat.block_size() as u64;
    match stat.filesystem_type().0 as i64 {
        OVERLAY_MAGIC => warn(
            format!("{} is on an overlay, and an overlay cannot carry another", path.display()),
            "mount a volume or a tmpfs there, or choose another with --data-dir",
        ),
        NFS_MAGIC => {
            fail(format!("{} is on NFS, which keeps no locks", path.display()), "choose a local disk with --data-dir")
        }
        _ if free < ROOM => warn(
            format!("{} has {} MiB left", path.display(), free >> 20),
            "free some space, or choose another disk with --data-dir",
        ),
        _ => match fs::metadata(existing).map(|metadata| metadata.mode()) {
            Ok(mode) if mode & 0o002 != 0 && mode & 0o1000 == 0 => warn(
                format!("{} can be written by everyone", existing.display()),
                format!("chmod o-w {}", existing.display()),
            ),
            _ => pass(format!("{} has {} MiB left", path.display(), free >> 20)),
        },
    }
}

/// Try to make a link of this kind.
fn link_kind(kind: LinkKind, name: &str, severity: Severity) -> Outcome {
    match crate::net::probe::link_kind(kind) {
        Ok(()) => pass("available"),
        Err(error) => severity.outcome(
            format!("the kernel makes no {name} links ({error:#})"),
            format!("load it: modprobe {name}, or use a kernel with CONFIG_{}", name.to_ascii_uppercase()),
        ),
    }
}

fn iptables(_: &Machine) -> Outcome {
    if let Some(missing) =
        ["iptables", "iptables-restore", "iptables-save"].into_iter().find(|name| program(name).is_none())
    {
        return fail(
            format!("{missing} is not installed, and Services are made with it"),
            "install it: apt-get install iptables (dnf install iptables-nft, apk add iptables)",
        );
    }
    let output = Command::new("iptables").args(["-w", "5", "-t", "nat", "-S"]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => match Command::new("iptables").arg("--version").output() {
            Ok(version) => pass(String::from_utf8_lossy(&version.stdout).trim().to_owned()),
            Err(_) => pass("available"),
        },
        Ok(output) => fail(
            format!("iptables cannot read the nat table: {}", String::from_utf8_lossy(&output.stderr).trim()),
            "load it: modprobe ip_tables iptable_nat, or use a kernel with CONFIG_NF_NAT",
        ),
        Err(error) => fail(format!("iptables does not start: {error}"), "reinstall it"),
    }
}

fn connection_tracking(_: &Machine) -> Outcome {
    let file = Path::new("/proc/sys/net/netfilter/nf_conntrack_max");
    if file.exists() || (load_module("nf_conntrack") && file.exists()) {
        pass("available")
    } else {
        fail(
            "the kernel tracks no connections",
            "load it: modprobe nf_conntrack, or use a kernel with CONFIG_NF_CONNTRACK",
        )
    }
}

/// The commands that are still to be given; None: none.
fn ufw_mend(added: &str) -> Option<String> {
    const NEEDED: &[&str] = &[
        "ufw allow 6443/tcp",
        "ufw allow 10250/tcp",
        "ufw allow 8472/udp",
        "ufw allow from 10.42.0.0/16",
        "ufw allow from 10.43.0.0/16",
    ];
    let missing: Vec<&str> =
        NEEDED.iter().copied().filter(|needed| !added.lines().any(|line| line.trim() == *needed)).collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

fn firewall(_: &Machine) -> Outcome {
    let active = |unit: &str| {
        Command::new("systemctl")
            .args(["is-active", "--quiet", unit])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let ufw_enabled =
        fs::read_to_string("/etc/ufw/ufw.conf").is_ok_and(|text| text.lines().any(|line| line.trim() == "ENABLED=yes"));
    if ufw_enabled && active("ufw") {
        // Each line is a command that was given: `ufw allow 6443/tcp`.
        let added = Command::new("ufw").args(["show", "added"]).stdin(Stdio::null()).output();
        let added = added.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        return match ufw_mend(&added) {
            Some(mend) => warn("ufw is active and drops what it does not know", mend),
            None => pass("ufw is active and lets through what orch needs"),
        };
    }
    if active("firewalld") {
        return warn(
            "firewalld is active and drops what it does not know",
            "firewall-cmd --permanent --add-port=6443/tcp --add-port=10250/tcp --add-port=8472/udp; firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16 --add-source=10.43.0.0/16; firewall-cmd --reload",
        );
    }
    pass("no active firewall that is known to get in the way")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ufw_is_told_what_is_missing() {
        let added = "Added user rules (see 'ufw status' for running firewall):\nufw allow 6443/tcp\nufw allow 8472/udp\n\
                     ufw allow from 10.42.0.0/16\n";
        assert_eq!(super::ufw_mend(added).unwrap(), "ufw allow 10250/tcp; ufw allow from 10.43.0.0/16");
        let all = format!("{added}ufw allow from 10.43.0.0/16\nufw allow 10250/tcp\n");
        assert_eq!(super::ufw_mend(&all), None);
    }
}
