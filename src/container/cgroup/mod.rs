//! Control groups of pods and containers, on cgroup v2 and on v1 (hybrid too).
//!
//! All pods live below one root beside orch's own service, never in it: a delegated systemd scope, or
//! a plain group where there is no systemd ([`scope`]). Limits are pure tables of files and values
//! ([`v1::settings`], [`v2::settings`]). Invariant: only groups below our root are written or removed.

pub mod devices;
mod scope;
mod v1;
mod v2;

use crate::api::cri::{CgroupStats, LinuxResources};
use crate::container::process::now;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use scope::remove_root;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One file of a group and what it shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The v1 controller; empty on v2.
    pub controller: &'static str,
    pub file: String,
    pub value: String,
}

/// The hierarchies of this machine and the root of this node's pods in them.
#[derive(Clone, Debug)]
pub struct Cgroups {
    version: Version,
    /// Controller to mount point; on v2 one entry with an empty name.
    mounts: BTreeMap<String, PathBuf>,
    /// Absolute path of the pods' root inside each hierarchy: `/orch`.
    root: String,
}

impl Cgroups {
    /// Find the hierarchies and make the root for the pods of this instance.
    pub fn open(instance: &str) -> Result<Self> {
        let (version, mounts) = hierarchies(&fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?)?;
        let root = scope::ensure(version, instance)?;
        let cgroups = Self { version, mounts, root };
        let root = cgroups.group("");
        for directory in root.directories() {
            fs::create_dir_all(&directory).with_context(|| format!("make the cgroup {}", directory.display()))?;
        }
        if version == Version::V2 {
            v2::delegate(cgroups.mount(), &cgroups.root)?;
        }
        Ok(cgroups)
    }

    pub fn version(&self) -> Version {
        self.version
    }

    fn mount(&self) -> &Path {
        self.mounts.values().next().map_or(Path::new("/sys/fs/cgroup"), PathBuf::as_path)
    }

    /// A group below the pods' root: `burstable/pod<uid>/<container>`.
    pub fn group(&self, path: &str) -> Group {
        let path = path.trim_matches('/');
        let path = if path.is_empty() { self.root.clone() } else { format!("{}/{path}", self.root) };
        Group { cgroups: self.clone(), path }
    }
}

/// Which hierarchies are mounted where, from the text of mountinfo.
fn hierarchies(mountinfo: &str) -> Result<(Version, BTreeMap<String, PathBuf>)> {
    let mut v1 = BTreeMap::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match (right.next(), right.nth(1)) {
            (Some("cgroup"), Some(options)) if point.starts_with("/sys/fs/cgroup") => {
                for option in options.split(',').filter(|option| v1::CONTROLLERS.contains(option)) {
                    v1.insert(option.to_owned(), point.clone());
                }
            }
            (Some("cgroup2"), _) if point == Path::new("/sys/fs/cgroup") => v2 = Some(point),
            _ => {}
        }
    }
    match v2 {
        Some(point) => Ok((Version::V2, BTreeMap::from([(String::new(), point)]))),
        None if v1.contains_key("memory") && v1.contains_key("cpu") => Ok((Version::V1, v1)),
        None => bail!("no cgroup file system at /sys/fs/cgroup: mount it (mount -t cgroup2 none /sys/fs/cgroup)"),
    }
}

/// One group in every hierarchy.
#[derive(Clone, Debug)]
pub struct Group {
    cgroups: Cgroups,
    path: String,
}

impl Group {
    /// Absolute path inside the hierarchies.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn directory(&self, controller: &str) -> Option<PathBuf> {
        let mount = self.cgroups.mounts.get(controller).or_else(|| self.cgroups.mounts.get(""))?;
        Some(mount.join(self.path.trim_start_matches('/')))
    }

    /// The controllers of v1 with its directory in the hierarchy of each.
    pub fn controllers(&self) -> Vec<(String, PathBuf)> {
        let names = self.cgroups.mounts.keys().filter(|name| !name.is_empty());
        names.filter_map(|name| Some((name.clone(), self.directory(name)?))).collect()
    }

    fn directories(&self) -> Vec<PathBuf> {
        let mut mounts: Vec<&PathBuf> = self.cgroups.mounts.values().collect();
        mounts.sort();
        mounts.dedup();
        mounts.into_iter().map(|mount| mount.join(self.path.trim_start_matches('/'))).collect()
    }

    /// Make it, and those above it up to the root.
    pub fn create(&self) -> Result<()> {
        for directory in self.directories() {
            fs::create_dir_all(&directory).with_context(|| format!("make the cgroup {}", directory.display()))?;
        }
        match self.cgroups.version {
            Version::V2 => v2::enable_above(self.cgroups.mount(), &self.cgroups.root, &self.path),
            Version::V1 => {
                if let (Some(mount), Some(_)) = (self.cgroups.mounts.get("cpuset"), self.directory("cpuset")) {
                    v1::fill_cpusets(mount, &self.path)?;
                }
                Ok(())
            }
        }
    }

    /// Set its limits; what `resources` leaves out is not limited.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let settings = match self.cgroups.version {
            Version::V1 => v1::settings(resources),
            Version::V2 => v2::settings(resources),
        };
        for setting in &settings {
            let Some(directory) = self.directory(setting.controller) else { continue };
            let file = directory.join(&setting.file);
            match fs::write(&file, &setting.value) {
                Ok(()) => {}
                // A controller or knob that this kernel lacks; only what was asked for must be there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_unlimited(&setting.value) => {}
                // memory.memsw below memory.limit is refused in one order or the other: see `v1::settings`.
                Err(error)
                    if setting.file.starts_with("memory.memsw") && error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("write {} to {}", setting.value, file.display()));
                }
            }
        }
        Ok(())
    }

    /// The limits in force.
    pub fn resources(&self) -> Option<LinuxResources> {
        let read = |controller: &str, file: &str| {
            fs::read_to_string(self.directory(controller)?.join(file)).ok().map(|text| text.trim().to_owned())
        };
        match self.cgroups.version {
            Version::V1 => v1::resources(&read),
            Version::V2 => v2::resources(&read),
        }
    }

    /// Files to write a pid to.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.directories().into_iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// Files with the `oom_kill` counter.
    pub fn oom_files(&self) -> Vec<PathBuf> {
        let file = match self.cgroups.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.directory("memory").map(|directory| directory.join(file)).into_iter().collect()
    }

    /// `cgroup.kill`, or on v1 a `cgroup.procs` with everything in it.
    pub fn kill_file(&self) -> PathBuf {
        let directory = self.directory("pids").or_else(|| self.directory("memory")).unwrap_or_default();
        let kill = directory.join("cgroup.kill");
        if self.cgroups.version == Version::V2 { kill } else { directory.join("cgroup.procs") }
    }

    /// Every process in it and below it.
    pub fn processes(&self) -> Vec<i32> {
        fn collect(directory: &Path, pids: &mut Vec<i32>) {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    collect(&entry.path(), pids);
                }
            }
        }
        let mut pids = Vec::new();
        for directory in self.directories() {
            collect(&directory, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// SIGKILL to all in it, again for those that were forked meanwhile. Blocks until they are gone.
    pub fn kill(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
            }
            if Instant::now() > deadline {
                bail!("cgroup {}: processes {pids:?} do not end", self.path);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Remove it and all below it. Blocks for a moment while ended processes leave it.
    pub fn remove(&self) -> Result<()> {
        if self.path == self.cgroups.root {
            bail!("the root of the pods' cgroups is removed by remove_root");
        }
        let mut errors = Vec::new();
        for directory in self.directories() {
            if let Err(error) = remove_tree(&directory) {
                errors.push(format!("{}: {error}", directory.display()));
            }
        }
        if errors.is_empty() { Ok(()) } else { bail!("remove cgroups: {}", errors.join("; ")) }
    }

    pub fn stats(&self) -> CgroupStats {
        let read = |controller: &str, file: &str| fs::read_to_string(self.directory(controller)?.join(file)).ok();
        let mut stats = match self.cgroups.version {
            Version::V1 => v1::stats(&read),
            Version::V2 => v2::stats(&read),
        };
        stats.timestamp = now();
        stats
    }

    /// On v2 device rules are a program on the group; on v1 libcontainer writes them.
    pub fn restrict_devices(&self, rules: &[devices::Rule]) -> Result<()> {
        match (self.cgroups.version, self.directory("")) {
            (Version::V2, Some(directory)) => devices::attach(&directory, rules),
            _ => Ok(()),
        }
    }
}

fn is_unlimited(value: &str) -> bool {
    matches!(value, "max" | "-1" | "0" | "1")
}

/// Children first; a group is busy for a moment after its last process ended.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_micros(200);
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

/// `<key> <number>` lines, as in memory.stat.
fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchies(v2).expect("found").0, Version::V2);
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let (version, mounts) = hierarchies(hybrid).expect("found");
        assert_eq!(version, Version::V1);
        assert_eq!(mounts["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(hierarchies("").expect_err("none").to_string().contains("mount it"));
    }
}
